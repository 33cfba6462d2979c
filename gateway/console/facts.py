"""Facts about what is configured, and about a list's rest: what `gateway.views` does not tell. No secret."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from discovery.exchange import Json
from discovery.redaction import redact_text
from gateway.views import Facts
from policies.rules import Idempotency, OperationRule, UpstreamRules


def upstream_view(rules: UpstreamRules) -> Facts:
    """Return what is configured of an upstream. Of injected headers only the names are told."""
    return {
        "name": rules.name,
        "base_url": redact_text(rules.base_url),
        "injects": [name for name, _ in rules.headers],
        "timeout": rules.timeout,
        "connect_timeout": rules.connect_timeout,
        "wait": rules.wait,
        "attempts": rules.attempts,
        "idempotency": _idempotency(rules.idempotency),
        "rate": None
        if rules.rate is None
        else {"limit": rules.rate.limit, "per": rules.rate.per, "burst": rules.rate.burst},
        "require_key": rules.require_key,
        "body_limit": rules.body_limit,
        "transport": rules.transport,
        "verify": rules.verify,
        "adapt": rules.adapt,
        "meaningful_headers": [*rules.meaningful_headers],
        "operations": [_operation(operation) for operation in rules.operations],
    }


def _idempotency(profile: Idempotency) -> Facts:
    if profile.carrier == "none":
        return {"carrier": "none"}
    return {
        "carrier": profile.carrier,
        "name": profile.name,
        "window": profile.window,
        "stores": profile.stores.value,
        "replayed": profile.replayed or None,
    }


def _operation(rule: OperationRule) -> Facts:
    """Return what an operation overrules, and nothing else."""
    said: dict[str, Json] = {
        "safe": rule.safe,
        "replay": rule.replay,
        "idempotent": rule.idempotent,
        "timeout": rule.timeout,
        "wait": rule.wait,
        "partial": rule.partial,
        "fill": dict(rule.fill) or None,
        "assume": rule.assume.value if rule.assume else None,
        "idempotency": _idempotency(rule.idempotency) if rule.idempotency else None,
    }
    if rule.lookup is not None:
        after = rule.lookup.absent_after
        said["lookup"] = {
            "get": rule.lookup.get,
            "found": rule.lookup.found,
            "absent_after": None if math.isinf(after) else after,
        }
    return {"match": rule.match, **{name: value for name, value in said.items() if value is not None}}


def part_of(all_: Sequence[Any], start: int, limit: int) -> tuple[Sequence[Any], int | None]:
    """Return `limit` of a list from `start`, and where the rest begins (None: there is none)."""
    end = start + limit
    return all_[start:end], end if end < len(all_) else None

"""Settings per upstream and operation, as the rules see them; the most specific wins.

`gateway.settings` reads them from files and environment; here they are plain values.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, TypeAlias, TypeVar

from discovery.exchange import IDEMPOTENT_METHODS, SAFE_METHODS, Json
from policies.claims import LEASE

T = TypeVar("T")

Carrier: TypeAlias = Literal["none", "header", "body", "query"]


class Stores(StrEnum):
    """Which answers an upstream remembers under a key (reliability catalogues: vendors differ)."""

    DEFINITE = "definite"  # every answer it ran to an end, errors too
    SUCCESS = "success"  # only successes; after an error the same key runs anew


class Assume(StrEnum):
    """A declared policy for doubts that no evidence settles."""

    ASK = "ask"
    APPLIED = "applied"
    NOT_APPLIED = "not-applied"


@dataclass(frozen=True, slots=True)
class Idempotency:
    """How an upstream takes an idempotency key. The default promises nothing."""

    carrier: Carrier = "none"
    name: str = "Idempotency-Key"
    window: float = 86400.0  # seconds an upstream keeps a key; the shortest that is common (24 h)
    stores: Stores = Stores.DEFINITE
    replayed: str = ""  # response header that marks a replay


@dataclass(frozen=True, slots=True)
class Lookup:
    """How to find out whether an unsafe call took effect: a GET, where its answer shows the object."""

    get: str
    found: str
    absent_after: float = math.inf  # seconds before which absence proves nothing


@dataclass(frozen=True, slots=True)
class Rate:
    """At most `limit` calls in `per` seconds, at most `burst` at once."""

    limit: float
    per: float
    burst: int = 1


@dataclass(frozen=True, slots=True)
class OperationRule:
    """What is said of the operations that match `match`: a method (or `*`) and a path template."""

    match: str
    safe: bool | None = None
    replay: bool | None = None
    idempotent: bool | None = None
    idempotency: Idempotency | None = None
    timeout: float | None = None
    wait: float | None = None
    deadline: float | None = None
    poll: bool | None = None
    lookup: Lookup | None = None
    assume: Assume | None = None
    partial: str | None = None
    fill: tuple[tuple[str, Json], ...] = ()  # JSON Pointer -> what a newly required field is filled with

    def matches(self, method: str, path: str) -> bool:
        return _pattern(self.match).fullmatch(f"{method} {path}") is not None

    @property
    def weight(self) -> tuple[int, int]:
        """How specific: more literal characters win, then fewer parameters."""
        return len(re.sub(r"\{[^}]*\}|\*", "", self.match)), -self.match.count("{")


@dataclass(frozen=True, slots=True)
class UpstreamRules:
    """All that is configured of one upstream. Seconds everywhere."""

    name: str
    base_url: str
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)  # injected; resolved secrets: never shown
    timeout: float = 30.0
    connect_timeout: float = 5.0
    wait: float = 30.0
    deadline: float = 86400.0  # seconds after its first claim in which a call may still be sent; 0: for ever
    attempts: int = 5  # sendings within a caller's patience; waits an upstream states are not counted
    idempotency: Idempotency = Idempotency()
    rate: Rate | None = None
    require_key: bool = False
    body_limit: int = 10 * 1024 * 1024
    transport: Literal["wire", "httpx"] = "wire"
    verify: bool | str = True  # False, or a path to a CA bundle
    meaningful_headers: tuple[str, ...] = ()  # join the fingerprint, beside the built-in ones
    adapt: Literal["observe", "suggest", "auto"] | None = None
    operations: tuple[OperationRule, ...] = ()


@dataclass(frozen=True, slots=True)
class Rules:
    """The rules of one call: its upstream's, overruled by the most specific matching operation."""

    upstream: UpstreamRules
    safe: bool  # asks for no effect: always sent, never a step
    replay: bool  # repeats are told the record
    idempotent: bool  # sending twice has the effect of sending once
    idempotency: Idempotency
    timeout: float
    wait: float
    attempts: int
    deadline: float = 86400.0
    poll: bool = True  # a 202 that names a place is followed to the end of what it began
    lookup: Lookup | None = None
    assume: Assume = Assume.ASK
    partial: str | None = None
    fill: tuple[tuple[str, Json], ...] = ()

    @property
    def window(self) -> float:
        """Seconds after the first sending in which a repeat is safe: `inf`, the key's window, or 0.

        A tenth of a key's window (between a lease, 5 s, and a minute) is kept back, so that no repeat arrives
        after its end.
        """
        if self.idempotent:
            return math.inf
        if self.idempotency.carrier == "none":
            return 0.0
        return max(0.0, self.idempotency.window - min(60.0, max(LEASE, self.idempotency.window / 10)))


def rules_for(upstream: UpstreamRules, method: str, path: str) -> Rules:
    """Return what holds for `method path` at `upstream`: operations that match, the most specific last."""
    rules = sorted((rule for rule in upstream.operations if rule.matches(method, path)), key=lambda r: r.weight)
    safe = _last((rule.safe for rule in rules), method in SAFE_METHODS)
    return Rules(
        upstream,
        safe=safe,
        replay=_last((rule.replay for rule in rules), not safe),
        idempotent=_last((rule.idempotent for rule in rules), safe or method in IDEMPOTENT_METHODS),
        idempotency=_last((rule.idempotency for rule in rules), upstream.idempotency),
        timeout=_last((rule.timeout for rule in rules), upstream.timeout),
        wait=_last((rule.wait for rule in rules), upstream.wait),
        attempts=upstream.attempts,
        deadline=_last((rule.deadline for rule in rules), upstream.deadline),
        poll=_last((rule.poll for rule in rules), True),
        lookup=_last((rule.lookup for rule in rules), None),
        assume=_last((rule.assume for rule in rules), Assume.ASK),
        partial=_last((rule.partial for rule in rules), None),
        fill=tuple({at: value for rule in rules for at, value in rule.fill}.items()),
    )


def _last(said: Iterable[T | None], default: T) -> T:
    value = default
    for item in said:
        if item is not None:
            value = item
    return value


def _pattern(match: str) -> re.Pattern[str]:
    method, _, path = match.partition(" ")
    if not path:
        method, path = "*", method
    parts = re.split(r"(\{[^}]*\}|\*\*|\*)", path)
    regex = "".join(
        ".*" if part == "**" else "[^/]+" if part == "*" or part.startswith("{") else re.escape(part)
        for part in parts
    )
    return re.compile(("[^ ]+" if method == "*" else re.escape(method.upper())) + " " + regex)

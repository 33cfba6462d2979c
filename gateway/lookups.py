"""Look-ups learned: what traffic proposes is counted in the store; what a person accepted, every process uses.

`observe()` takes an exchange in a microsecond and never waits; a full queue takes none. Every `FLUSH`
seconds what was counted is added to the store, and what is accepted is read from it.

Keys, per upstream: `gimbal:{c/NAME}:proposed` and `:accepted` (hashes). They hold names and templates, no values.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from shlex import quote
from typing import Any, Protocol

import orjson

from discovery.exchange import Exchange, Json, Response
from gateway.gate import Gate
from gateway.leisure import TURN, Leisure
from gateway.problems import LedgerUnavailable
from policies.outcome import Outcome, Reading
from policies.proposals import Form, Proposal, Proposer, proposed
from policies.rules import Lookup, OperationRule, UpstreamRules

QUEUE = 512
"""Exchanges waiting to be looked at. What finds no room is one piece of evidence less."""

BODY_LIMIT = 64 * 1024
"""Bytes of bodies that are looked into: the answer of a look-up that finds one object is smaller."""

FLUSH = 5.0
"""Seconds between additions to the store, and until what was accepted is in force everywhere."""

FORMS = 512
"""Forms counted per upstream in the store."""

KEPT = 400 * 86400
"""Seconds without news after which an upstream's look-ups are forgotten, as its contract is."""


class Store(Protocol):
    """What takes commands: a `Link`, to one server or to a cluster."""

    async def do(self, *command: str | bytes | int | float) -> Any: ...


@dataclass(frozen=True, slots=True)
class Accepted:
    """A proposal a person accepted. Absence proves something only where they said after how long."""

    form: Form
    absent_after: float = math.inf

    @property
    def rule(self) -> OperationRule:
        lookup = Lookup(self.form.get, self.form.found, self.absent_after)
        return OperationRule(self.form.operation, lookup=lookup)


class LookupStore:
    """What is proposed and what is accepted. Every method raises `LedgerUnavailable`."""

    def __init__(self, link: Store) -> None:
        self._link = link

    async def add(self, upstream: str, seen: Mapping[Form, int], against: Mapping[Form, int]) -> None:
        """Add counts; evidence against a form nobody has seen to work says nothing."""
        key = _key(upstream, "proposed")
        known = await self._counts(upstream)
        for form, count in seen.items():
            if form in known or len(known) < FORMS:
                known[form] = (0, 0)
                await self._link.do("HINCRBY", key, _field("for", form), count)
        for form, count in against.items():
            if form in known:
                await self._link.do("HINCRBY", key, _field("against", form), count)
        for part in ("proposed", "accepted"):
            await self._link.do("EXPIRE", _key(upstream, part), KEPT)

    async def proposals(self, upstream: str) -> list[Proposal]:
        """Return what is worth a person's look, the best first."""
        counts = await self._counts(upstream)
        return proposed(
            {form: seen for form, (seen, _) in counts.items()},
            {form: against for form, (_, against) in counts.items()},
        )

    async def accept(self, upstream: str, accepted: Accepted) -> None:
        """Use a look-up for its operation from now on, in place of one accepted before."""
        form = accepted.form
        after = None if math.isinf(accepted.absent_after) else accepted.absent_after
        told = orjson.dumps({"get": form.get, "found": form.found, "absent_after": after})
        key = _key(upstream, "accepted")
        await self._link.do("HSET", key, form.operation, told)
        await self._link.do("EXPIRE", key, KEPT)

    async def drop(self, upstream: str, operation: str) -> bool:
        """Use it no longer; tell whether it was there."""
        return bool(await self._link.do("HDEL", _key(upstream, "accepted"), operation))

    async def accepted(self, upstream: str) -> list[Accepted]:
        told = await self._all(upstream, "accepted")
        found = []
        for operation, stored in sorted(told.items()):
            value = orjson.loads(stored)
            after = value["absent_after"]
            form = Form(operation.decode(), value["get"], value["found"])
            found.append(Accepted(form, math.inf if after is None else after))
        return found

    async def _counts(self, upstream: str) -> dict[Form, tuple[int, int]]:
        counts: dict[Form, tuple[int, int]] = {}
        for field, count in (await self._all(upstream, "proposed")).items():
            kind, *parts = orjson.loads(field)
            seen, against = counts.get(form := Form(*parts), (0, 0))
            counts[form] = (seen + int(count), against) if kind == "for" else (seen, against + int(count))
        return counts

    async def _all(self, upstream: str, part: str) -> dict[bytes, bytes]:
        flat: list[bytes] = await self._link.do("HGETALL", _key(upstream, part))
        return dict(zip(flat[::2], flat[1::2], strict=True))


@dataclass(frozen=True, slots=True)
class LookupTold:
    """A look-up as it is told: what traffic says of it, and what was decided."""

    upstream: str
    form: Form
    seen: int
    against: int
    used: Accepted | None

    @property
    def accepted(self) -> bool:
        return self.used is not None

    def is_for(self, method: str, path: str) -> bool:
        return OperationRule(self.form.operation).matches(method, path)

    @property
    def facts(self) -> dict[str, Json]:
        """`accept` is the command that puts it to use."""
        form, used = self.form, self.used
        return {
            "operation": form.operation,
            "get": form.get,
            "found": form.found,
            "seen": self.seen,
            "against": self.against,
            "accepted": self.accepted,
            "absent_after": used.absent_after if used and math.isfinite(used.absent_after) else None,
            "accept": None
            if self.accepted
            else f"gimbal lookups {quote(self.upstream)} --accept {quote(form.operation)}",
        }


async def told(store: LookupStore, upstream: str) -> list[LookupTold]:
    """Return what is proposed, the best first, and then what else was accepted."""
    used = {one.form: one for one in await store.accepted(upstream)}
    rows = [
        LookupTold(upstream, one.form, one.seen, one.against, used.pop(one.form, None))
        for one in await store.proposals(upstream)
    ]
    return [*rows, *(LookupTold(upstream, form, 0, 0, one) for form, one in used.items())]


class Lookups:
    """One process's share: it counts what passes, and keeps its gate's rules. `run()` it until cancelled."""

    def __init__(
        self, store: LookupStore, key: bytes, gate: Gate, configured: Mapping[str, UpstreamRules]
    ) -> None:
        self._store = store
        self._key = key
        self._gate = gate
        self._configured = configured
        self._proposers: dict[str, Proposer] = {}
        self._queue: deque[Exchange] = deque()
        self._used: dict[str, list[Accepted]] = {}

    async def told(self, upstream: str) -> list[LookupTold]:
        """Return what is proposed and accepted for an upstream."""
        return await told(self._store, upstream)

    def observe(self, exchange: Exchange, reading: Reading) -> None:
        """Take an exchange to be looked at; never waits."""
        answer = exchange.answer
        if reading.outcome is not Outcome.SUCCESS or not isinstance(answer, Response):
            return
        if len(self._queue) >= QUEUE or len(answer.body) > BODY_LIMIT:
            return
        if exchange.request.method in ("GET", "POST"):
            self._queue.append(exchange)

    async def run(self) -> None:
        """Look at what passed, until cancelled. A store that is away is asked again the next time."""
        due = time.monotonic() + FLUSH
        leisure = Leisure()
        while True:
            await asyncio.sleep(leisure.rest() if self._queue else 0.1)
            self.turn()
            if time.monotonic() >= due:
                with contextlib.suppress(LedgerUnavailable):
                    await self.flush()
                    await self.refresh()
                due = time.monotonic() + FLUSH

    def turn(self) -> None:
        """Look at what is queued, for `TURN` seconds at most."""
        end = time.monotonic() + TURN
        while self._queue and time.monotonic() < end:
            exchange = self._queue.popleft()
            proposer = self._proposers.setdefault(exchange.upstream, Proposer(self._key))
            proposer.fold(exchange)

    async def flush(self) -> None:
        """Add what was counted to the store; what it does not take is lost, and seen again."""
        for upstream, proposer in self._proposers.items():
            seen, against = proposer.take()
            if seen or against:
                await self._store.add(upstream, seen, against)

    async def refresh(self) -> None:
        """Put what is accepted into force. What is configured comes first."""
        for name, rules in self._configured.items():
            accepted = await self._store.accepted(name)
            if accepted == self._used.get(name, []):
                continue
            own = [one.rule for one in accepted if not _configured(rules, one.form.operation)]
            self._gate.overrule(name, replace(rules, operations=(*own, *rules.operations)))
            self._used[name] = accepted


def _configured(rules: UpstreamRules, operation: str) -> bool:
    """Is there a look-up for it in the configuration?"""
    method, _, path = operation.partition(" ")
    return any(rule.lookup is not None and rule.matches(method, path) for rule in rules.operations)


def _key(upstream: str, part: str) -> str:
    return f"gimbal:{{c/{upstream}}}:{part}"


def _field(kind: str, form: Form) -> bytes:
    return orjson.dumps([kind, form.operation, form.get, form.found])

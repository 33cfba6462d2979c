"""Mends requests of a running gateway: what refusals taught, and what evidence makes of a refusal.

`amend()` is asked about a refusal that names fields; only then is the instance's history read. `prepare()` mends a
request before its first sending, where earlier refusals of the operation taught how; `accepted()` remembers what
requests an upstream took. Both are a dictionary look-up where nothing was taught, or enough is known.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from urllib.parse import urlsplit

from discovery.contract import Contract
from discovery.exchange import Json, Request, Response
from discovery.hints import Hint
from discovery.store import ContractStore
from discovery.traffic import segments_of
from gateway.identity import frozen
from gateway.ports import Entry, Ledger
from gateway.problems import LedgerUnavailable
from gateway.shelf import Shelf
from policies import lessons
from policies.actions import Call, Mended
from policies.claims import State
from policies.credentials import is_signed
from policies.history import Memory
from policies.lessons import Lessons
from policies.outcome import Outcome
from policies.repair import Evidence, FillField, NeedsInput, Repaired, ask, prepare, refutes, repair
from policies.rules import Rules, UpstreamRules

HISTORY = 200
"""Calls of an instance that a repair may draw on, the latest."""

Key = tuple[str, tuple[str, ...]]
"""Method, place of the path (`discovery.traffic.segments_of`)."""


@dataclass(slots=True)
class Mender:
    """Holds a process's lessons; belongs to one event loop."""

    store: Shelf[Lessons]
    contracts: ContractStore
    ledger: Ledger
    _lessons: dict[str, dict[Key, Lessons]] = field(default_factory=dict)
    _teaching: set[str] = field(default_factory=set)  # upstreams of which a mend is known
    _news: set[tuple[str, Key]] = field(default_factory=set)

    # Beside the path of calls

    async def refresh(self, upstream: str) -> None:
        """Read what others wrote; what is not yet written stays."""
        known = self._lessons.setdefault(upstream, {})
        for found in await self.store.news(upstream) or ():
            key = _key_of(found)
            if (upstream, key) not in self._news:
                known[key] = found
        if any(one.mends for one in known.values()):
            self._teaching.add(upstream)

    async def flush(self) -> None:
        """Write what changed. Raises `LedgerUnavailable`; what could not be written is tried again."""
        for upstream, key in sorted(self._news):
            mine = self._lessons[upstream][key]
            holds = await self.store.merge(upstream, mine)
            now = self._lessons[upstream][key]  # what came meanwhile may be ahead of both
            best = holds if now is mine else lessons.ahead(now, holds)
            if best is holds:
                self._news.discard((upstream, key))
            self._lessons[upstream][key] = best

    async def aclose(self) -> None:
        """Write what was taught, if the store is there."""
        with contextlib.suppress(LedgerUnavailable):
            await self.flush()

    # On the path

    def accepted(self, call: Call, rules: Rules) -> None:
        """The upstream took a request as its workflow wrote it."""
        assert call.workflow is not None
        request = call.request
        key = _place(request, rules.upstream)
        known = self._lessons.setdefault(call.upstream, {}).get(key)
        if lessons.has_seen(known, call.workflow[0]) or len(request.body) > lessons.LARGE:
            return
        self._set(call.upstream, key, lessons.accepted_request(known or _new(key), call.workflow[0], request))

    def teaches(self, upstream: str) -> bool:
        return upstream in self._teaching

    async def prepare(self, call: Call, rules: Rules) -> Mended | None:
        """Return the request as earlier refusals taught, before its first sending; None: as it was written."""
        known = self._lessons.get(call.upstream)
        if not known or call.workflow is None or is_signed(call.request):
            return None
        taught = known.get(_place(call.request, rules.upstream))
        if taught is None or not taught.holds_for(_instance(call), rules.upstream.adapt):
            return None
        recalls = any(isinstance(mend, FillField) and mend.source == "history" for mend in taught.mends)
        try:
            history = await self._history(call) if recalls else ()
        except LedgerUnavailable:  # the claim will say so
            return None
        done = prepare(call.request, taught.mends, Evidence(history, dict(rules.fill)))
        return _mended(done, taught) if done is not None else None

    async def amend(
        self,
        call: Call,
        rules: Rules,
        request: Request,
        answer: Response,
        hints: tuple[Hint, ...],
        before: Mended | None,
    ) -> Mended | NeedsInput | None:
        """Return what evidence makes of a refusal of `request`, which was mended `before`. Raises nothing."""
        assert call.workflow is not None
        key = _place(call.request, rules.upstream)
        taught = self._lessons.setdefault(call.upstream, {}).get(key) or _new(key)
        setting = rules.upstream.adapt
        if before is not None and _refuted(before, hints):
            self._set(
                call.upstream,
                key,
                taught := lessons.fared(taught, before.mends, _instance(call), setting, well=False),
            )
            if not before.last:
                return _own(call, taught)
        evidence = await self._evidence(call, rules, request)
        found = repair(request, hints, evidence)
        if found is None:
            return None
        if isinstance(found, Repaired) and (before is None or not before.last):
            if lessons.may_be_made(found.mends, taught, setting):
                return replace(_mended(found, taught, before), last=True)
            self._set(call.upstream, key, lessons.suggested(taught, found.mends))
        taken = taught.taken.get(call.workflow[0])
        asks = setting == "auto" or any(
            lessons.is_news(lessons.as_written(hint, before), call.request, taken) for hint in hints
        )
        return ask(request, hints, evidence) if asks else None

    def taught(self, call: Call, rules: Rules, mended: Mended) -> None:
        """A mended request was accepted."""
        key = _place(call.request, rules.upstream)
        known = self._lessons.setdefault(call.upstream, {}).get(key) or _new(key)
        told = lessons.fared(known, mended.mends, _instance(call), rules.upstream.adapt, well=True)
        self._set(call.upstream, key, told)

    # Evidence

    async def _evidence(self, call: Call, rules: Rules, request: Request) -> Evidence:
        try:
            history = await self._history(call)
            revision = await self.contracts.revision(call.upstream)
        except LedgerUnavailable:
            return Evidence((), dict(rules.fill))
        prefix = urlsplit(rules.upstream.base_url).path.rstrip("/")
        types = Contract(revision.document).request_types(request, prefix) if revision is not None else {}
        return Evidence(history, dict(rules.fill), types)

    async def _history(self, call: Call) -> list[Memory]:
        assert call.workflow is not None
        return memories(await self.ledger.history(*call.workflow, HISTORY))

    def _set(self, upstream: str, key: Key, one: Lessons) -> None:
        if self._lessons[upstream].get(key) != one:
            self._lessons[upstream][key] = one
            self._news.add((upstream, key))
            if one.mends:
                self._teaching.add(upstream)


def memories(entries: Iterable[Entry]) -> list[Memory]:
    """Return what a workflow instance's calls showed it, oldest first: what `policies.repair` may draw on.

    Calls in doubt and refused ones are left out: what they hold was not accepted. Where an answer was adapted,
    the upstream's own words count as well: it asks for fields under the names it has for them.
    """
    found = []
    for entry in sorted(entries, key=lambda entry: entry.created):
        record = entry.record
        if record.state is State.SUCCEEDED and record.outcome is Outcome.SUCCESS and entry.reply is not None:
            request = entry.sent or entry.about.request
            found.append(Memory(entry.id, request, entry.reply))
            if entry.original is not None and entry.original.response is not None:
                found.append(Memory(entry.id, request, entry.original.response))
    return found


def _mended(done: Repaired, taught: Lessons, before: Mended | None = None) -> Mended:
    mends = (*(before.mends if before else ()), *done.mends)
    why = (*(before.why if before else ()), *done.why)
    line: dict[str, Json] = {
        "side": "request",
        "of": taught.operation,
        "edits": [lessons.told(mend) for mend in done.mends],
        "rung": taught.standing.rung.value,
        "why": "; ".join(done.why),
    }
    return Mended(done.request, frozen(done.request), mends, why, line)


def _own(call: Call, taught: Lessons) -> Mended:
    """What earlier refusals taught holds no longer: the request goes out as its workflow wrote it."""
    why = "what earlier refusals taught is refused now: it goes out as it was written"
    line: dict[str, Json] = {"side": "request", "of": taught.operation, "edits": [], "why": why}
    return Mended(call.request, call.frozen, (), (why,), line, last=True)


def _refuted(mended: Mended, hints: Iterable[Hint]) -> bool:
    return any(refutes(hint, mend) for hint in hints for mend in mended.mends)


def _instance(call: Call) -> str:
    assert call.workflow is not None
    return "/".join(call.workflow)


def _place(request: Request, rules: UpstreamRules) -> Key:
    prefix = urlsplit(rules.base_url).path.rstrip("/").encode()
    return request.method, segments_of(request.path.removeprefix(prefix))


def _new(key: Key) -> Lessons:
    return Lessons(f"{key[0]} /{'/'.join(key[1])}")


def _key_of(one: Lessons) -> Key:
    method, _, path = one.operation.partition(" ")
    return method, tuple(path.strip("/").split("/"))

"""The world without network, store or clock: for the tests of this project, and for yours."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from discovery.exchange import Fault, Headers, Request, Response
from gateway.ports import About, Entry, Pending, Workflow
from policies import claims
from policies.actions import Act, Adapt, Answered, Claimed, Heard, IsClear, Life, Look, Moment, Pace, Spend
from policies.claims import (
    TERMINAL,
    Ask,
    Change,
    ChangeResult,
    Count,
    Credentials,
    Doubtful,
    Granted,
    Kept,
    Mismatch,
    Record,
    Recorded,
    State,
)
from policies.outcome import Outcome
from policies.reply import Original, Reply


def live(life: Life[Reply], answers: Mapping[type[Any], Any]) -> tuple[Reply, list[Act]]:
    """Live a life without a world: each action is answered from `answers`, by its type.

    A list answers one action after another, a function computes the answer from the action, anything else is the
    answer. `Look`, `IsClear`, `Pace` and `Spend` say "go" unless told otherwise, `Adapt` leaves the answer as it
    came, and time stands still.
    Returns the reply and what was asked, less the looks at the clock and the like.
    """
    turns = {kind: iter(said) for kind, said in answers.items() if isinstance(said, list)}
    asked: list[Act] = []
    result: Any = None
    try:
        while True:
            act = life.send(result)
            said = answers.get(type(act), _leave)
            result = next(turns[type(act)]) if type(act) in turns else said(act) if callable(said) else said
            if not isinstance(act, _QUIET):
                asked.append(act)
    except StopIteration as end:
        return end.value, asked


_QUIET = (Look, IsClear, Pace, Spend, Heard, Adapt)


def _leave(act: Act) -> Any:
    match act:
        case Look():
            return Moment(0.0, 0.0, 0.5)
        case IsClear() | Spend():
            return True
        case Pace():
            return 0.0
        case Adapt(answer=answer):
            return Answered(answer)
        case _:
            return None


class ManualClock:
    """The `Clock` port, moved by hand; or by itself, to the next sleeper's time, when nothing else happens."""

    def __init__(self, at: float = 1_000_000.0, chance: float = 0.5) -> None:
        self.at = at
        self._chance = chance
        self._due: list[float] = []

    def now(self) -> float:
        return self.at

    def monotonic(self) -> float:
        return self.at

    def chance(self) -> float:
        return self._chance

    async def sleep(self, seconds: float) -> None:
        due = self.at + max(0.0, seconds)
        self._due.append(due)
        try:
            turns = 0
            while self.at < due:
                await asyncio.sleep(0)
                turns += 1
                if turns > _IDLE and due == min(self._due):
                    self.at = max(self.at, due)
        finally:
            self._due.remove(due)


_IDLE = 50
"""Turns of the loop in which everybody else has had the chance to go on."""


class ScriptedUpstream:
    """An upstream that gives the answers it was made with, one after another, and keeps what it was sent."""

    def __init__(self, *answers: Response | Fault) -> None:
        self._answers = list(answers)
        self.sent: list[Request] = []

    async def send(self, request: Request, *, timeout: float, not_after: float | None = None) -> Response | Fault:
        self.sent.append(request)
        return self._answers.pop(0)

    async def open(
        self,
        request: Request,
        body: AsyncIterator[bytes] | None = None,
        *,
        timeout: float,
        not_after: float | None = None,
        whole: int = 0,
    ) -> Response | Fault:
        return await self.send(request, timeout=timeout, not_after=not_after)

    async def aclose(self) -> None:
        """Nothing is held open."""


class Now(Protocol):
    """What tells the time; a `Clock` does."""

    def now(self) -> float: ...


@dataclass
class _Kept:
    """What is stored of one call."""

    about: About
    record: Record
    created: float
    updated: float
    reply: Response | None = None
    lines: list[bytes] = field(default_factory=list)
    items: bytes = b""
    credentials: Headers = ()
    original: Original | None = None
    sent: Request | None = None
    held: float = 0.0
    noted: bool = False


class MemoryLedger:
    """The `Ledger` port in memory: `policies.claims` and nothing else. Nothing expires; `clock` is the store's."""

    epoch = 0

    def __init__(self, clock: Now) -> None:
        self._clock = clock
        self._calls: dict[str, _Kept] = {}
        self._counts: dict[tuple[str, str, str, str], Count] = {}
        self._owed: dict[str, float] = {}  # ends that are owed to a callback, and when somebody looks at them
        self._active: dict[tuple[str, str], float] = {}
        self._ended: dict[tuple[str, str], float] = {}

    async def aclose(self) -> None:
        """Nothing is held open."""

    async def claim(
        self, call: str, about: About, ask: Ask, credentials: Headers = (), sent: Request | None = None
    ) -> Claimed:
        now = self._clock.now()
        stored = self._calls.get(call)
        record, result = claims.claim(stored.record if stored else None, ask, now)
        if stored is None:
            stored = self._calls[call] = _Kept(about, record, now, now, credentials=credentials, sent=sent)
            self._touch(about)
        elif isinstance(result, Granted) and not result.resumed:
            stored.about, stored.reply, stored.items, stored.credentials = about, None, b"", credentials
            stored.original, stored.sent = None, sent
        self._keep(call, stored, record)
        match result:
            case Granted(resumed=True) | Mismatch() | Doubtful():
                return Claimed(result, stored.about.request, stored.reply, stored.items, sent=stored.sent)
            case Recorded():
                if (about.step.type, about.step.id) not in self._ended:
                    self._touch(stored.about)
                return Claimed(result, reply=stored.reply, original=stored.original)
            case _:
                return Claimed(result)

    async def change(
        self,
        call: str,
        fence: int,
        wish: Change,
        *,
        reply: Response | None = None,
        transcript: bytes = b"",
        items: bytes = b"",
        credentials: Headers = (),
        original: Original | None = None,
        sent: Request | None = None,
    ) -> ChangeResult:
        def rule(record: Record | None, now: float) -> tuple[Record | None, ChangeResult]:
            return claims.change(record, fence, wish, now)

        done = self._apply(call, rule, reply, transcript, items, credentials)
        if isinstance(done, Kept):
            stored = self._calls[call]
            stored.original, stored.sent = original or stored.original, sent or stored.sent
        return done

    async def renew(self, held: Sequence[tuple[str, int]], lease: float) -> list[bool]:
        now = self._clock.now()
        renewed = []
        for call, fence in held:
            stored = self._calls.get(call)
            record, result = claims.renew(stored.record if stored else None, fence, lease, now)
            if stored and record:
                self._keep(call, stored, record)
            renewed.append(isinstance(result, Kept))
        return renewed

    async def occurrence(self, type: str, id: str, run: str, fingerprint: str, marker: str) -> int:
        if not run:
            return 1
        key = (type, id, run, fingerprint)
        self._counts[key], occurrence = claims.occur(self._counts.get(key), marker)
        return occurrence

    async def delivered(self, type: str, id: str, run: str, fingerprint: str, occurrence: int) -> None:
        key = (type, id, run, fingerprint)
        if count := claims.deliver(self._counts.get(key), occurrence):
            self._counts[key] = count

    async def note(
        self,
        call: str,
        about: About,
        reply: Response,
        transcript: bytes,
        outcome: Outcome = Outcome.SUCCESS,
        original: Original | None = None,
    ) -> None:
        now = self._clock.now()
        lines = transcript.splitlines()
        self._calls[call] = _Kept(
            about, claims.noted(outcome), now, now, reply, lines, original=original, noted=True
        )
        self._touch(about)

    async def resolve(self, call: str, applied: bool, reply: Response | None, transcript: bytes) -> ChangeResult:
        def rule(record: Record | None, now: float) -> tuple[Record | None, ChangeResult]:
            return claims.resolve(record, applied, now)

        return self._apply(call, rule, reply, transcript)

    async def cancel(self, call: str, transcript: bytes) -> ChangeResult:
        return self._apply(call, claims.cancel, None, transcript)

    async def hasten(self, call: str, transcript: bytes) -> ChangeResult:
        return self._apply(call, claims.hasten, None, transcript)

    async def due(self, shard: int, limit: int = 100) -> list[str]:
        return [name for name in self._ready(shard, limit) if name not in self._owed]

    async def heads(self) -> list[float]:
        now = self._clock.now()
        heads = [math.inf] * claims.SHARDS
        for at, name in self._index():
            shard = int(name[:2], 16)
            heads[shard] = min(heads[shard], at - now)
        return heads

    async def take(self, shard: int, limit: int, hold: float) -> tuple[list[str], float]:
        now = self._clock.now()
        free = self._ready(shard, limit)
        for name in free:
            if name in self._owed:
                self._owed[name] = now + hold
            else:
                self._calls[name].held = now + hold
        return free, (await self.heads())[shard]

    async def told(self, end: str, again: float | None = None) -> None:
        if again is None:
            self._owed.pop(end, None)
        elif end in self._owed:
            self._owed[end] = again

    def _index(self) -> list[tuple[float, str]]:
        """Return the calls that time will move, and the ends that are owed, by when somebody has to look."""
        due = [(stored.held or stored.record.due, call) for call, stored in self._calls.items()]
        return [*due, *((at, end) for end, at in self._owed.items())]

    def _ready(self, shard: int, limit: int) -> list[str]:
        """Let time do its work on `shard`; return what is due still."""
        now = self._clock.now()
        looked_at = sorted((at, name) for at, name in self._index() if int(name[:2], 16) == shard and at <= now)
        names = [name for _, name in looked_at[:limit]]
        for call in names:
            if (stored := self._calls.get(call)) is not None:
                self._keep(call, stored, claims.lapse(stored.record, now))
        return [name for name in names if name in self._owed or self._calls[name].record.due <= now]

    async def pending(self, call: str) -> Pending | None:
        stored = self._calls.get(call)
        return Pending(stored.about, stored.record, stored.credentials) if stored else None

    async def reap(self, shard: int, idle: float, kept: float) -> int:
        past = self._clock.now() - idle
        quiet = [
            name
            for name, active in self._active.items()
            if name not in self._ended and active <= past and claims.shard_of(*name) == shard
        ]
        return sum([await self.end(*name, kept) for name in quiet])

    async def entry(self, call: str) -> Entry | None:
        stored = self._calls.get(call)
        return _entry(call, stored) if stored else None

    async def calls(
        self, state: State | None = None, limit: int = 100, before: tuple[float, str] | None = None
    ) -> list[Entry]:
        for shard in range(claims.SHARDS):
            await self.due(shard, limit)
        found = [_entry(call, stored) for call, stored in self._calls.items()]
        newest = sorted(found, key=lambda entry: (entry.created, entry.id), reverse=True)
        rest = (entry for entry in newest if before is None or (entry.created, entry.id) < before)
        return [entry for entry in rest if state in (None, entry.record.state)][:limit]

    async def workflows(self, limit: int = 100) -> list[Workflow]:
        names = sorted(self._active, key=lambda name: self._active[name], reverse=True)
        return [self._workflow(*name) for name in names[:limit]]

    async def workflow(self, type: str, id: str) -> tuple[Workflow, list[Entry]] | None:
        if (type, id) not in self._active:
            return None
        entries = [_entry(call, stored) for call, stored in self._of(type, id)]
        return self._workflow(type, id), sorted(entries, key=lambda entry: entry.created)

    async def history(self, type: str, id: str, limit: int) -> list[Entry]:
        newest = sorted(self._of(type, id), key=lambda one: one[1].created, reverse=True)
        return [_entry(call, stored) for call, stored in newest[:limit]]

    async def end(self, type: str, id: str, kept: float) -> bool:
        if any(stored.record.state not in TERMINAL for _, stored in self._of(type, id)):
            return False
        if (type, id) in self._active:
            self._ended.setdefault((type, id), self._clock.now())
        return True

    def _apply(
        self,
        call: str,
        rule: Callable[[Record | None, float], tuple[Record | None, ChangeResult]],
        reply: Response | None,
        transcript: bytes,
        items: bytes = b"",
        credentials: Headers = (),
    ) -> ChangeResult:
        stored = self._calls.get(call)
        record, result = rule(stored.record if stored else None, self._clock.now())
        if stored is None or record is None:
            return result
        self._keep(call, stored, record)
        if isinstance(result, Kept):
            stored.reply = reply or stored.reply
            stored.items = items or stored.items
            kept = record.credentials is Credentials.KEPT and record.state not in TERMINAL
            stored.credentials = credentials or stored.credentials if kept else ()
            stored.lines += transcript.splitlines()
        return result

    def _keep(self, call: str, stored: _Kept, record: Record) -> None:
        if record is stored.record:
            return
        if record.news and record.news != stored.record.news:
            self._owed[f"{call}.{record.news}"] = self._clock.now()
        if record.state is not stored.record.state:
            self._touch(stored.about)
        if record.due != stored.record.due:
            stored.held = 0.0
        stored.record, stored.updated = record, self._clock.now()

    def _touch(self, about: About) -> None:
        if about.kept is None:
            self._active[about.step.type, about.step.id] = self._clock.now()
            self._ended.pop((about.step.type, about.step.id), None)

    def _of(self, type: str, id: str) -> list[tuple[str, _Kept]]:
        return [
            (call, stored)
            for call, stored in self._calls.items()
            if stored.about.kept is None and (stored.about.step.type, stored.about.step.id) == (type, id)
        ]

    def _workflow(self, type: str, id: str) -> Workflow:
        mine = [stored for _, stored in self._of(type, id)]
        states: dict[State, int] = {}
        for stored in mine:
            if not stored.noted:
                states[stored.record.state] = states.get(stored.record.state, 0) + 1
        started = min(stored.created for stored in mine)
        ended = self._ended.get((type, id), 0.0)
        return Workflow(type, id, started, self._active[type, id], ended, states)


def _entry(call: str, stored: _Kept) -> Entry:
    lines = tuple(stored.lines)
    return Entry(
        call,
        stored.about,
        stored.record,
        stored.reply,
        lines,
        stored.created,
        stored.updated,
        stored.items,
        stored.original,
        stored.sent,
    )

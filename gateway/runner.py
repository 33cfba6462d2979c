"""Performs a life: each action of `policies.lifecycle` through its port, and keeps the transcript.

What must hold here, whatever dies:

- No byte leaves before the mark that it may is durable: a claim or a commit to `sending` is awaited first.
- No first byte leaves after the lease's end: `Send` carries the end, counted from *before* the claim or
  renewal was asked for, on the monotonic clock.
- An answer that came is not forgotten: its commit is repeated until the store takes it, in the background
  once the foreground has waited `COMMIT_PATIENCE`. It is not told either before the store has it: what was told
  and then lost with this process would be asked for again.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from dataclasses import dataclass, field, replace
from typing import Any, assert_never

import orjson

from discovery.exchange import Exchange, Fault, Json, Request, Response
from gateway.pace import Circuit
from gateway.pace import Pace as Pacer
from gateway.ports import About, Adapting, Clock, Ledger, Mending
from gateway.problems import LedgerUnavailable, Unconfirmed
from gateway.streamed import Streamed, StreamingUpstream
from policies.actions import (
    Act,
    Adapt,
    Amend,
    Answered,
    Call,
    Claim,
    Claimed,
    Commit,
    Heard,
    IsClear,
    Join,
    Life,
    Look,
    Mended,
    Moment,
    Note,
    Pace,
    Probe,
    Send,
    Spend,
    Taught,
    Wait,
)
from policies.claims import (
    HELD,
    LEASE,
    RENEWAL,
    Change,
    ChangeResult,
    Granted,
    Kept,
    Outdated,
    Record,
    State,
)
from policies.keys import replay_sign
from policies.outcome import Effect, Outcome, Reading
from policies.repair import NeedsInput
from policies.reply import Reply
from policies.retry import Budget
from policies.rules import Rules

POLL = 0.1
"""Seconds between looks at a twin that runs in another process. Below what a person notices."""

CLAIM_PAUSES = (0.05, 0.2)
"""Seconds before a claim whose answer was lost is asked again: a dropped connection is made anew in one."""

COMMIT_PATIENCE = 5.0
"""Seconds a caller is held while the store cannot take the answer that came; then it is told that the store is
away. An engine restarts in one."""

UNCONFIRMED = 5.0
"""Seconds after which a call goes on whose mark the store did not confirm: a replica is back in some."""

REMEMBERED = 60.0
"""Seconds a call that was sent is remembered beside the store: journals and replicas lag by a few."""

REMEMBERED_AT_MOST = 20_000
"""Calls remembered so: some 4 MB."""

UNMARKED = "the store did not confirm the mark that it may be sent; nothing was sent"

Observe = Callable[[Exchange, Reading], None]


@dataclass(slots=True)
class Held:
    """A claim we hold: its record as we know it, and the lease's end on our monotonic clock."""

    record: Record
    until: float


@dataclass(slots=True)
class _Told:
    """The transcript of one life: lines not yet kept by the ledger, the claim it holds, the exchange under way."""

    held: Held | None = None
    lines: list[bytes] = field(default_factory=list)
    sent_at: float = 0.0
    stream: Streamed | None = None
    unconfirmed: bool = False  # a change was kept, but not as firmly as `store.wait` demands
    mended: Request | None = None  # what goes out in place of the call's own request

    def say(self, date: float, did: str, **members: Json) -> None:
        self.lines.append(orjson.dumps({"at": round(date, 3), "did": did, **members}))

    def take(self) -> bytes:
        taken = b"\n".join(self.lines)
        self.lines.clear()
        return taken


class Runner:
    """Performs lives on one event loop. `observe` is told every exchange, for learning; it must not block."""

    def __init__(
        self,
        ledger: Ledger,
        clock: Clock,
        observe: Observe | None = None,
        adapter: Adapting | None = None,
        mender: Mending | None = None,
    ) -> None:
        self.ledger = ledger
        self.adapter = adapter
        self.mender = mender
        self._clock = clock
        self._observe = observe
        self._held: dict[str, Held] = {}
        self._ended: dict[str, asyncio.Event] = {}
        self._paces: dict[tuple[str, bytes], Pacer] = {}
        self._circuits: dict[str, Circuit] = {}
        self._budgets: dict[str, Budget] = {}
        self._sent: OrderedDict[str, tuple[int, float]] = OrderedDict()  # see `_remember`
        self._renewal: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[Any]] = set()
        self.adopted: set[asyncio.Task[Any]] = set()
        """Lives whose callers were let go. An orderly end waits for them as for any other, before `aclose`."""
        self.on_wait: Callable[[str, float], None] | None = None
        """Told of a call that waits from now on, and until when (the store's time)."""

    def listen(self, observe: Observe) -> None:
        """Tell `observe` every exchange too; it must not block either."""
        before = self._observe

        def both(exchange: Exchange, reading: Reading) -> None:
            if before is not None:
                before(exchange, reading)
            observe(exchange, reading)

        self._observe = both

    def holds(self, call: str) -> bool:
        """Is a life of `call` under way here, under a claim?"""
        return call in self._held

    async def perform(
        self,
        life: Life[Reply],
        call: Call,
        rules: Rules,
        upstream: StreamingUpstream,
        about: About,
        body: AsyncIterator[bytes] | None = None,
    ) -> tuple[Reply, Streamed | None]:
        """Live `life` to its end; return its reply, and the rest of its body where that is still on its way.

        Only a call that is no step is streamed, out (`body`) and back. Raises `LedgerUnavailable` while
        nothing was sent that is not recorded.
        """
        told = _Told()
        if call.prepared is not None and call.step is None:
            self._say_mended(call.prepared, told)
        pace = self._pace(call, rules)
        result: Any = None
        try:
            while True:
                act: Act = life.send(result)
                match act:
                    case Look():
                        result = Moment(self._clock.monotonic(), self._clock.now(), self._clock.chance())
                    case IsClear():
                        result = pace.clear(self._clock.monotonic())
                    case Pace(until=until):
                        now = self._clock.monotonic()
                        result = 0.0 if pace.take(now) else await pace.place(now, until)
                    case Claim():
                        result = await self._claim(act, call, about, told)
                    case Send(request=request):
                        result = await self._send(request, call, rules, upstream, told, body)
                    case Probe(request=request):
                        result = await self._probe(request, rules, upstream, told)
                    case Heard(answer=answer, reading=reading):
                        self._heard(call, rules, pace, answer, reading, told)
                        result = None
                    case Commit():
                        result = await self._commit(act, call, told)
                    case Wait(seconds=seconds, why=why):
                        told.say(self._clock.now(), "wait", seconds=round(seconds, 3), why=why)
                        await self._clock.sleep(seconds)
                        result = None
                    case Join(seconds=seconds):
                        await self._join(call.id, seconds)
                        result = None
                    case Spend():
                        result = self._spend(rules.upstream.name)
                    case Adapt(answer=answer):
                        result = await self._adapt(call, answer, told)
                    case Amend():
                        result = await self._amend(act, call, rules, told) if body is None else None
                    case Taught(mended=mended):
                        if self.mender is not None:
                            self.mender.taught(call, rules, mended)
                        result = None
                    case Note():
                        self.background(self._note(call, about, act, told.take()))
                        result = None
                    case _:
                        assert_never(act)
        except StopIteration as end:
            reply: Reply = end.value
            stream, told.stream = told.stream, None
            if told.unconfirmed:
                reply = replace(reply, unconfirmed=True)
            return reply, stream if isinstance(reply.answer, Response) else None
        finally:
            self._release(call.id, told)
            if told.stream is not None:
                await told.stream.aclose()

    async def aclose(self) -> None:
        """Finish what is owed to the store, for a little while; renewals end."""
        if self._renewal is not None:
            self._renewal.cancel()
        if self._background:
            await asyncio.wait(self._background, timeout=COMMIT_PATIENCE)
            for task in self._background:
                task.cancel()

    def adopt(self, life: asyncio.Task[Any]) -> None:
        """Keep `life` going, whose caller does not wait for it; what it comes to is in the ledger."""
        self._background.add(life)
        self.adopted.add(life)
        life.add_done_callback(self._ended_alone)

    def _ended_alone(self, life: asyncio.Task[Any]) -> None:
        self._background.discard(life)
        self.adopted.discard(life)
        if not life.cancelled():
            life.exception()  # a store that went away: the record says how the call stands

    def background(self, work: Coroutine[Any, Any, None]) -> None:
        """Run `work` off the path of any call."""
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    # The ledger

    async def _claim(self, action: Claim, call: Call, about: About, told: _Told) -> Claimed:
        before = self._clock.monotonic()
        try:
            claimed = await self._ask(action, call, about)
        except Unconfirmed as error:
            claimed = error.result  # what is told of a step that others act on, or that ended, promises nothing
            if isinstance(claimed.result, Granted):
                self.background(self._give_back(call.id, claimed.result.record))
                raise
        match claimed.result:
            case Granted(record, resumed):
                if record.fence == 1 and not resumed and self._was_sent(call.id):
                    claimed = replace(claimed, forgotten=True)
                if record.state is State.SENDING:
                    self._remember(call.id, True)
                told.say(
                    self._clock.now(),
                    "claim",
                    generation=record.generation,
                    attempt=record.attempt,
                    fence=record.fence,
                    resumed=resumed,
                )
                if call.prepared is not None and not resumed:
                    self._say_mended(call.prepared, told)
                told.held = Held(record, before + action.ask.lease)
                self._hold(call.id, told.held)
        return claimed

    async def _ask(self, action: Claim, call: Call, about: About) -> Claimed:
        """Claim; where the store does not answer, again: if it took the claim, its owner is granted it again."""
        for pause in CLAIM_PAUSES:
            try:
                return await self.ledger.claim(call.id, about, action.ask, action.credentials, action.sent)
            except Unconfirmed:
                raise
            except LedgerUnavailable:
                await self._clock.sleep(pause)
        return await self.ledger.claim(call.id, about, action.ask, action.credentials, action.sent)

    async def _commit(self, action: Commit, call: Call, told: _Told) -> ChangeResult:
        held = told.held
        assert held is not None
        wish = action.change
        told.say(
            self._clock.now(),
            "change",
            state=wish.state.value,
            effect=wish.effect.value,
            why=action.why,
            outcome=wish.outcome.value if wish.outcome else None,
        )
        transcript = told.take()
        before = self._clock.monotonic()
        try:
            done = await self._change(action, call.id, held.record.fence, transcript)
            told.unconfirmed = False
        except Unconfirmed as error:
            done = error.result
            if wish.state is State.SENDING:
                if isinstance(done, Kept):
                    self.background(self._give_back(call.id, done.record))
                raise
            told.unconfirmed = True
        except LedgerUnavailable:
            if wish.state is State.SENDING:
                raise
            done = await self._insist(action, call, held, transcript)
        if isinstance(done, Kept):
            held.record = done.record
            self._remember(call.id, done.record.effect is not Effect.NONE)
            held.until = before + wish.keep
            if self.on_wait is not None and (wish.not_before or done.record.news):
                self.on_wait(call.id, wish.not_before)  # an end that is to be told: at once
        return done

    def _change(self, action: Commit, call: str, fence: int, transcript: bytes) -> Awaitable[ChangeResult]:
        return self.ledger.change(
            call,
            fence,
            action.change,
            reply=action.reply,
            transcript=transcript,
            items=action.items,
            credentials=action.credentials,
            original=action.original,
            sent=action.sent,
        )

    def _remember(self, call: str, sent: bool) -> None:
        """Remember for a while what the store knows of a call: should it come back without, that is a doubt."""
        self._sent.pop(call, None)
        if sent:
            self._sent[call] = (self.ledger.epoch, self._clock.monotonic() + REMEMBERED)
            if len(self._sent) > REMEMBERED_AT_MOST:
                self._sent.popitem(last=False)

    def _was_sent(self, call: str) -> bool:
        """Did we send it lately, to be kept by a store that went away since?"""
        epoch, until = self._sent.get(call, (self.ledger.epoch, 0.0))
        return epoch != self.ledger.epoch and self._clock.monotonic() < until

    async def _give_back(self, call: str, record: Record) -> None:
        """The mark that we may send is not confirmed, so nothing was sent: let the call wait a moment, for whoever
        asks again or sweeps. Where that fails too, its lease ends."""
        if record.state not in (State.CLAIMED, State.SENDING):
            return
        told = _Told()
        told.say(self._clock.now(), "change", state="waiting", effect="none", why=UNMARKED, outcome=None)
        soon = Change(State.WAITING, not_before=record.lease_until - LEASE + UNCONFIRMED)
        with contextlib.suppress(LedgerUnavailable):
            await self.ledger.change(call, record.fence, soon, transcript=told.take())

    async def _insist(self, action: Commit, call: Call, held: Held, transcript: bytes) -> ChangeResult:
        """The store is away, and what came must not be lost: try on, then owe it.

        Raises `LedgerUnavailable` meanwhile: nothing is told that the store may never have, and nothing more is
        sent, as what is owed would undo the mark of that sending.
        """
        owed = asyncio.create_task(self._until_kept(action, call.id, held.record.fence, transcript))
        self._background.add(owed)
        owed.add_done_callback(self._background.discard)
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(asyncio.shield(owed), COMMIT_PATIENCE)
        raise LedgerUnavailable("the store did not take what the upstream answered; it is kept for when it can")

    async def _until_kept(self, action: Commit, call: str, fence: int, transcript: bytes) -> ChangeResult:
        delay = 0.05
        while True:
            await asyncio.sleep(delay)
            delay = min(delay * 2, 2.0)
            try:
                done = await self._change(action, call, fence, transcript)
            except Unconfirmed as error:
                done = error.result
            except LedgerUnavailable:
                continue
            match done:
                case Outdated(record) if record and _is_done(record, fence, action.change):
                    return Kept(record)
                case _:
                    return done

    async def _note(self, call: Call, about: About, note: Note, transcript: bytes) -> None:
        with contextlib.suppress(LedgerUnavailable):  # history is a convenience: the answer was delivered
            await self.ledger.note(
                call.id, about, note.reply, transcript, note.reading.outcome, original=note.original
            )

    # Leases

    def _hold(self, call: str, held: Held) -> None:
        self._held[call] = held
        if self._renewal is None or self._renewal.done():
            self._renewal = asyncio.create_task(self._renew())

    def _release(self, call: str, told: _Told) -> None:
        """Let go of a life's own claim; a twin that waited has none, and one that took over has another."""
        if told.held is None or self._held.get(call) is not told.held:
            return
        del self._held[call]
        if (ended := self._ended.pop(call, None)) is not None:
            ended.set()

    async def _renew(self) -> None:
        """Renew every held lease, every `RENEWAL` seconds. A renewal that fails is tried again in time."""
        while True:
            await self._clock.sleep(RENEWAL)
            held = [(call, mine) for call, mine in self._held.items() if mine.record.state in HELD]
            if not held:
                continue
            before = self._clock.monotonic()
            with contextlib.suppress(LedgerUnavailable):
                renewed = await self.ledger.renew([(call, mine.record.fence) for call, mine in held], LEASE)
                for (_, mine), still in zip(held, renewed, strict=True):
                    if still:
                        mine.until = before + LEASE

    async def _join(self, call: str, seconds: float) -> None:
        """Wait for a twin: told at once when it runs here, asked again after `POLL` when it runs elsewhere."""
        if call not in self._held:
            await self._clock.sleep(min(seconds, POLL))
            return
        ended = self._ended.setdefault(call, asyncio.Event())
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), seconds)

    # The upstream

    async def _send(
        self,
        request: Request,
        call: Call,
        rules: Rules,
        upstream: StreamingUpstream,
        told: _Told,
        body: AsyncIterator[bytes] | None,
    ) -> Response | Fault:
        told.sent_at = self._clock.now()
        outgoing = inject(request, rules.upstream.headers)
        if call.step is not None:
            assert told.held is not None
            return await upstream.send(outgoing, timeout=rules.timeout, not_after=told.held.until)
        if told.stream is not None:  # of an answer that is not delivered: another try follows
            await told.stream.aclose()
            told.stream = None
        answer = await upstream.open(outgoing, body, timeout=rules.timeout, whole=rules.upstream.body_limit)
        if isinstance(answer, Streamed):
            told.stream = answer
            return Response(answer.status, answer.headers, b"", answer.reason)
        return answer

    async def _adapt(self, call: Call, answer: Response, told: _Told) -> Answered:
        """Streams are not adapted: their bodies are still on their way."""
        if self.adapter is None or call.workflow is None or told.stream is not None:
            return Answered(answer)
        answered = await self.adapter.adapt_answer(
            call.upstream, call.workflow, call.request, answer, told.sent_at
        )
        if answered.line is not None:
            told.say(self._clock.now(), "adapt", **answered.line)
        return answered

    async def _amend(self, action: Amend, call: Call, rules: Rules, told: _Told) -> Mended | NeedsInput | None:
        if self.mender is None:
            return None
        found = await self.mender.amend(call, rules, action.request, action.answer, action.hints, action.before)
        if isinstance(found, Mended):
            self._say_mended(found, told)
        return found

    def _say_mended(self, mended: Mended, told: _Told) -> None:
        told.mended = mended.request
        told.say(self._clock.now(), "adapt", **mended.line)

    async def _probe(
        self, request: Request, rules: Rules, upstream: StreamingUpstream, told: _Told
    ) -> Response | Fault:
        """Ask what has no effect: it needs no mark and no lease."""
        asked_at = self._clock.now()
        answer = await upstream.send(inject(request, rules.upstream.headers), timeout=rules.timeout)
        asked = f"GET {request.target.decode('latin-1')}"
        told.say(asked_at, "ask", asked=asked, **_told_of(answer), took=round(self._clock.now() - asked_at, 4))
        return answer

    def _heard(
        self, call: Call, rules: Rules, pace: Pacer, answer: Response | Fault, reading: Reading, told: _Told
    ) -> None:
        told.say(
            told.sent_at,
            "send",
            **_told_of(answer),
            outcome=reading.outcome.value,
            effect=reading.effect.value,
            why=reading.why,
            took=round(self._clock.now() - told.sent_at, 4),
        )
        if reading.outcome is Outcome.SUCCESS:
            name = rules.upstream.name
            budget = self._budgets.get(name)
            if budget is not None:
                self._budgets[name] = budget.refund(retried=len(told.lines) > 2)
        if call.step is not None and isinstance(answer, Response) and (sign := replay_sign(answer.headers)):
            told.say(self._clock.now(), "hint", replay=sign, why="the upstream keeps idempotency keys")
        if call.workflow is not None:
            if self.adapter is not None:
                self.adapter.fared(call.workflow, reading.outcome)
            if self.mender is not None and reading.outcome is Outcome.SUCCESS and told.mended is None:
                self.mender.accepted(call, rules)
        if (seconds := pace.heard(answer, reading)) > 0:
            told.say(self._clock.now(), "pace", seconds=round(seconds, 3), why="calls beside it wait as well")
        if self._observe is not None and told.stream is None:
            self._observe(
                Exchange(
                    call.upstream, told.mended or call.request, answer, told.sent_at, rules.upstream.base_url
                ),
                reading,
            )

    def _pace(self, call: Call, rules: Rules) -> Pacer:
        credential = call.request.header(b"authorization") or b""
        key = (call.upstream, credential)
        pace = self._paces.get(key)
        if pace is None:
            if len(self._paces) > 10_000:  # credentials that rotate must not fill the memory
                self._paces.clear()
            circuit = self._circuits.setdefault(call.upstream, Circuit())
            pace = self._paces[key] = Pacer(rules.upstream.rate, self._clock, circuit)
        return pace

    def _spend(self, upstream: str) -> bool:
        left = self._budgets.get(upstream, Budget()).spend()
        if left is None:
            return False
        self._budgets[upstream] = left
        return True


def _is_done(record: Record, fence: int, wish: Change) -> bool:
    """Did the first try take place, and only its answer was lost? (What time makes of a silent holder's record
    waits as well, but for another time.)"""
    return (record.fence, record.state, record.not_before) == (fence, wish.state, wish.not_before)


def _told_of(answer: Response | Fault) -> dict[str, Json]:
    match answer:
        case Response(status=status):
            return {"status": status}
        case Fault(phase=phase, detail=detail):
            return {"fault": phase.value, "detail": detail}


def inject(request: Request, headers: tuple[tuple[str, str], ...]) -> Request:
    """Return `request` with the upstream's configured headers in place of any of the same name."""
    if not headers:
        return request
    names = {name.lower().encode() for name, _ in headers}
    kept = tuple(header for header in request.headers if header[0].lower() not in names)
    mine = tuple((name.encode(), value.encode()) for name, value in headers)
    return Request(request.method, request.target, kept + mine, request.body)

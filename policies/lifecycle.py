"""The life of a call, start to end, in one place. Start reading here.

`life_of()` is a generator: it yields actions and is sent what came of them. It does nothing itself, so it
can be lived without network, store or clock; `gateway.runner` performs each action through a port. The list
of (action, result) pairs is the call's *transcript*.

A step of a workflow is claimed, sent, read, and committed under its claim's fence. A call that is no step
(a safe one, or one without identity) is only sent, read, and perhaps sent again.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Generic, TypeAlias, TypeVar, cast

from discovery.exchange import Fault, Json, Request, Response
from policies.claims import (
    LEASE,
    Ask,
    Busy,
    Change,
    ChangeResult,
    ClaimResult,
    Doubtful,
    Granted,
    Kept,
    Later,
    Mismatch,
    Outdated,
    Record,
    Recorded,
    Replays,
    State,
    StepKey,
    upstream_key,
)
from policies.disposition import Defer, Deliver, Doubt, GiveUp, Retry, Situation, decide
from policies.keys import differences, with_key
from policies.outcome import Effect, Outcome, Reading, classify
from policies.reply import Problem, Reply
from policies.rules import Rules

R = TypeVar("R")

END: dict[Outcome, State] = {
    Outcome.SUCCESS: State.SUCCEEDED,
    Outcome.PARTIAL: State.SUCCEEDED,
    Outcome.VALIDATION: State.REJECTED,
    Outcome.REFUSED: State.FAILED,
}
"""Where a definite answer leaves a call."""


@dataclass(frozen=True, slots=True)
class Call:
    """One request of a workflow. `step` is None where nothing is to be remembered."""

    id: str
    upstream: str
    request: Request  # as the workflow sent it, less the gateway's control headers
    frozen: Request  # the same less credentials: what the ledger keeps
    fingerprint: str
    patience: float  # seconds
    step: StepKey | None = None
    replays: Replays = Replays.EFFECTS
    identified: bool = False  # the caller said who it is: it is told in our words when an answer is not definite
    respond_async: bool = False
    workflow: tuple[str, str] | None = None  # type and id


# Actions: what a life asks for. The type parameter is what it is sent back.


class Action(Generic[R]):
    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Moment:
    """The time, and a number in [0, 1). `now` is monotonic, `date` is epoch seconds."""

    now: float
    date: float
    chance: float


@dataclass(frozen=True, slots=True)
class Look(Action[Moment]):
    """Look at the clock and roll the dice."""


@dataclass(frozen=True, slots=True)
class Claimed:
    """What came of a claim, with what the ledger keeps of the step."""

    result: ClaimResult
    request: Request | None = None
    reply: Response | None = None
    items: bytes = b""


@dataclass(frozen=True, slots=True)
class Claim(Action[Claimed]):
    """Ask the ledger for the right to act on the step."""

    ask: Ask


@dataclass(frozen=True, slots=True)
class Join(Action[None]):
    """Wait until the step's running twin ends, at most `seconds`."""

    seconds: float


@dataclass(frozen=True, slots=True)
class IsClear(Action[bool]):
    """Would the upstream's pace let a call through at once?"""


@dataclass(frozen=True, slots=True)
class Pace(Action[float]):
    """Wait for a place in the upstream's pace. Returns 0 when it is ours, else the seconds it would take:
    more than are left until `until` (monotonic)."""

    until: float


@dataclass(frozen=True, slots=True)
class Send(Action["Response | Fault"]):
    """Send to the upstream. No first byte leaves after the claim's lease."""

    request: Request


@dataclass(frozen=True, slots=True)
class Wait(Action[None]):
    """Let `seconds` pass."""

    seconds: float
    why: str


@dataclass(frozen=True, slots=True)
class Commit(Action[ChangeResult]):
    """Move the step's record under the claim's fence, with the reply a repeat will be told."""

    change: Change
    why: str
    reply: Response | None = None


@dataclass(frozen=True, slots=True)
class Spend(Action[bool]):
    """Take one retry from the upstream's budget. False: none is left."""


@dataclass(frozen=True, slots=True)
class Note(Action[None]):
    """Keep a call that is no step in its workflow's history."""

    reply: Response
    reading: Reading


@dataclass(frozen=True, slots=True)
class Heard(Action[None]):
    """What an answer was read as: for the transcript, the budget and the learner."""

    answer: Response | Fault
    reading: Reading


Act: TypeAlias = Look | Claim | Join | IsClear | Pace | Send | Wait | Commit | Spend | Note | Heard
Life: TypeAlias = Generator[Act, Any, R]


def do(action: Action[R]) -> Life[R]:
    """Yield `action` and return what came of it, typed."""
    result: R = yield cast(Act, action)
    return result


def life_of(call: Call, rules: Rules) -> Life[Reply]:
    """Live `call` under `rules`; return what its caller is told."""
    moment = yield from do(Look())
    patience_ends = moment.now + call.patience
    if call.step is None:
        return (yield from _passing(call, rules, patience_ends))
    while True:
        claimed = yield from _claim(call, rules, patience_ends)
        if isinstance(claimed, Reply):
            return claimed
        reply = yield from _holding(call, rules, claimed, patience_ends)
        if reply is not None:
            return reply


# A call that is no step


def _passing(call: Call, rules: Rules, patience_ends: float) -> Life[Reply]:
    """Send a call nobody will ask for again; repeat it only where that cannot double an effect."""
    repeat_until = float("inf") if rules.idempotent else 0.0
    tries = attempts = 0
    while True:
        attempts += 1
        tries += 1
        short = yield from do(Pace(patience_ends))
        if short > 0:
            return _not_now(call, short, attempts - 1)
        answer = yield from do(Send(call.request))
        reading, situation = yield from _read(call, rules, answer, tries, patience_ends, repeat_until)
        disposition = decide(reading, situation)
        match disposition:
            case Retry(delay=delay, counts=counts, why=why):
                tries -= not counts
                yield from do(Wait(delay, why))
            case Deliver() | Defer() if isinstance(answer, Response):
                if call.workflow is not None:
                    yield from do(Note(answer, reading))
                return Reply(answer, reading.outcome, attempts)
            case GiveUp() | Doubt() | Deliver() | Defer() if isinstance(answer, Response) and not call.identified:
                outcome = Outcome.IN_DOUBT if isinstance(disposition, Doubt) else reading.outcome
                return Reply(answer, outcome, attempts)
            case Doubt(why=why):
                return _doubtful(call, rules, attempts, why, answer)
            case GiveUp(why=why) | Defer(why=why):
                return _exhausted(attempts, why, answer, reading)
            case Deliver():
                raise AssertionError("a fault is never delivered")


# A step


@dataclass(frozen=True, slots=True)
class _Held:
    """A claimed step: its record, the request of this generation, and the ledger's clock beside ours."""

    record: Record
    request: Request
    offset: float  # the ledger's time less our monotonic time

    @property
    def repeat_until(self) -> float:
        return self.record.repeat_until - self.offset


def _claim(call: Call, rules: Rules, patience_ends: float) -> Life[_Held | Reply]:
    """Claim the step, waiting for a running twin or a set time inside the patience; or tell what is recorded."""
    while True:
        clear = yield from do(IsClear())
        ask = Ask(call.fingerprint, send=clear, window=rules.window, replays=call.replays)
        claimed = yield from do(Claim(ask))
        moment = yield from do(Look())
        left = patience_ends - moment.now
        match claimed.result:
            case Granted(record, resumed):
                request = (
                    with_credentials(claimed.request, call.request)
                    if resumed and claimed.request
                    else call.request
                )
                return _Held(record, request, record.lease_until - LEASE - moment.now)
            case Recorded(record):
                return _recorded(call, record, claimed.reply)
            case Mismatch(record):
                return _key_reused(call, record, claimed.request)
            case Doubtful(record):
                return _doubtful(
                    call, rules, record.attempt, "an earlier run sent it and its answer was lost", None
                )
            case Later(record, not_before):
                delay = max(0.0, not_before - moment.date)
                if delay > left:
                    return _deferred(call, record.attempt, delay, "the upstream asked to wait")
                yield from do(Wait(delay, "its time has not come"))
            case Busy(record):
                if left <= 0:
                    return _in_progress(call, record)
                yield from do(Join(min(left, LEASE)))


def _holding(call: Call, rules: Rules, held: _Held, patience_ends: float) -> Life[Reply | None]:
    """Act on a claimed step until it is settled or let go. None: the record moved on; ask it again."""
    key = upstream_key(call.id, held.record.generation)
    request = with_key(held.request, rules.idempotency, key)
    keyed = rules.idempotency.carrier != "none"
    before = held.record.effect  # of what was sent before
    marked = held.record.state is State.SENDING
    tries = attempts = 0
    while True:
        attempts += 1
        tries += 1
        short = yield from do(Pace(patience_ends))
        if short > 0:
            effect = Effect.UNKNOWN if held.record.doubted else Effect.NONE
            return (yield from _defer(call, held, effect, short, attempts - 1, "the upstream's pace"))
        if not marked and not (yield from _mark(before)):
            return None
        answer = yield from do(Send(request))
        reading, situation = yield from _read(call, rules, answer, tries, patience_ends, held.repeat_until)
        disposition = decide(reading, situation)
        match disposition:
            case Deliver() if isinstance(answer, Response):
                end = Change(END[reading.outcome], reading.outcome, reading.effect, settles=keyed)
                done = yield from do(Commit(end, reading.why, reply=answer))
                match done:
                    case Kept(record) if record.state is State.IN_DOUBT:
                        why = f"{reading.why}; but an earlier sending went unanswered"
                        return _doubtful(call, rules, attempts, why, answer)
                    case Kept():
                        return Reply(answer, reading.outcome, attempts)
                    case Outdated():
                        return None
            case Retry(delay=delay, counts=counts, why=why):
                tries -= not counts
                # The record says while we wait that nothing is under way: a crash here leaves no needless doubt.
                paused = Change(State.CLAIMED, reading.outcome, reading.effect, keep=LEASE)
                if isinstance((yield from do(Commit(paused, why))), Outdated):
                    return None
                yield from do(Wait(delay, why))
                before, marked = reading.effect, False
            case Defer(delay=delay, why=why):
                return (yield from _defer(call, held, reading.effect, delay, attempts, why, reading))
            case Doubt(why=why):
                end = Change(State.IN_DOUBT, Outcome.IN_DOUBT, Effect.UNKNOWN)
                done = yield from do(Commit(end, why))
                return None if isinstance(done, Outdated) else _doubtful(call, rules, attempts, why, answer)
            case GiveUp(why=why):
                return (yield from _give_up(call, rules, reading, answer, attempts, why))
            case Deliver():
                raise AssertionError("a fault is never delivered")


def _mark(before: Effect) -> Life[bool]:
    """Make the intent durable before a byte leaves. Return False when the step was taken from us."""
    mark = Change(State.SENDING, effect=before, keep=LEASE)
    return not isinstance((yield from do(Commit(mark, "sending"))), Outdated)


def _defer(
    call: Call, held: _Held, effect: Effect, delay: float, attempts: int, why: str, reading: Reading | None = None
) -> Life[Reply | None]:
    """Let the step go until its time comes; whoever asks then goes on with it."""
    moment = yield from do(Look())
    due = moment.now + held.offset + delay
    outcome = reading.outcome if reading else Outcome.RATE_LIMITED
    done = yield from do(Commit(Change(State.WAITING, outcome, effect, not_before=due), why))
    return None if isinstance(done, Outdated) else _deferred(call, attempts, delay, why, outcome)


def _give_up(
    call: Call, rules: Rules, reading: Reading, answer: Response | Fault, attempts: int, why: str
) -> Life[Reply | None]:
    """Retries are used up. Without an effect the step is free for another day; otherwise it is in doubt."""
    known = reading.effect is Effect.NONE
    state = State.EXHAUSTED if known else State.IN_DOUBT
    outcome = reading.outcome if known else Outcome.IN_DOUBT
    done = yield from do(Commit(Change(state, outcome, reading.effect), why))
    if isinstance(done, Outdated):
        return None
    known = done.record.state is State.EXHAUSTED
    return _exhausted(attempts, why, answer, reading) if known else _doubtful(call, rules, attempts, why, answer)


# Shared parts


def _read(
    call: Call, rules: Rules, answer: Response | Fault, tries: int, patience_ends: float, repeat_until: float
) -> Life[tuple[Reading, Situation]]:
    moment = yield from do(Look())
    reading = classify(call.request, answer, moment.date)
    yield from do(Heard(answer, reading))
    transient = reading.outcome is Outcome.TRANSIENT and reading.wait is None
    budget_left = (yield from do(Spend())) if transient and tries < rules.attempts else True
    return reading, Situation(
        tries, rules.attempts, moment.now, patience_ends, repeat_until, moment.chance, budget_left
    )


def with_credentials(frozen: Request, fresh: Request) -> Request:
    """Return the frozen request with the credentials that the present caller brings.

    A request signed over its headers and time (SigV4 and kin) goes out as it was signed anew.
    """
    signature = fresh.header(b"authorization") or b""
    if signature[:5] == b"AWS4-" or signature[:10].lower() == b"signature ":
        return fresh
    kept = {name.lower() for name, _ in frozen.headers}
    brought = tuple(header for header in fresh.headers if header[0].lower() not in kept)
    return Request(frozen.method, frozen.target, frozen.headers + brought, frozen.body)


# What the caller is told


def _recorded(call: Call, record: Record, reply: Response | None) -> Reply:
    outcome = record.outcome or Outcome.SUCCESS
    if reply is None:
        problem = Problem(
            "reply-missing",
            502,
            "It took effect, but its answer is not known",
            "This step took effect, as was settled later; the upstream's own answer was lost. "
            "Nothing was sent. Read the result back from the upstream, "
            "or give the answer with: gimbal resolve --applied --response FILE",
            {"call": call.id},
        )
        return Reply(problem, outcome, record.attempt, replayed=True)
    return Reply(reply, outcome, record.attempt, replayed=True)


def _key_reused(call: Call, record: Record, kept: Request | None) -> Reply:
    problem = Problem(
        "key-reused",
        422,
        "Same step, other request",
        "This step was already sent with another request, and that one had an effect or may have had one. "
        "Nothing was sent. Give the new request a step name (or key) of its own.",
        {"call": call.id, "state": record.state.value, "differs": differences(kept, call.frozen)},
    )
    return Reply(problem, Outcome.REFUSED, record.attempt)


def _in_progress(call: Call, record: Record) -> Reply:
    problem = Problem(
        "in-progress",
        409,
        "The same step is running elsewhere",
        "Another run of this step has not ended within your patience. Nothing was sent. Repeat to join it.",
        {"call": call.id},
    )
    return Reply(problem, Outcome.TRANSIENT, record.attempt, retry_after=1.0, location=True)


def _deferred(call: Call, attempts: int, delay: float, why: str, outcome: Outcome = Outcome.RATE_LIMITED) -> Reply:
    problem = Problem(
        "deferred",
        202 if call.respond_async else 503,
        "Not yet",
        f"{_sentence(why)} The step is kept; repeat it after Retry-After and it goes on from here.",
        {"call": call.id},
    )
    return Reply(problem, outcome, attempts, retry_after=delay, location=True)


def _doubtful(call: Call, rules: Rules, attempts: int, why: str, answer: Response | Fault | None) -> Reply:
    resolvers: list[Json] = []
    if rules.lookup is not None:
        resolvers.append("lookup")
    resolvers.append(f"gimbal resolve {call.id} --applied")
    resolvers.append(f"gimbal resolve {call.id} --not-applied")
    timed_out = isinstance(answer, Fault) and answer.timed_out
    members: dict[str, Json] = {"call": call.id, "phase": _phase(answer), "resolvers": resolvers, **_said(answer)}
    problem = Problem(
        "in-doubt",
        504 if timed_out else 502,
        "It may or may not have taken effect",
        f"{_sentence(why)} {_what_now(rules)}",
        members,
    )
    return Reply(problem, Outcome.IN_DOUBT, attempts, location=call.step is not None)


def _exhausted(attempts: int, why: str, answer: Response | Fault, reading: Reading) -> Reply:
    if isinstance(answer, Fault) and answer.unsent:
        slug, title = "upstream-unreachable", "The upstream cannot be reached"
        detail = f"{answer.detail}. Nothing was sent; it is safe to call again."
    else:
        slug, title = "exhausted", "Retries are used up"
        detail = _sentence(why)
    status = 503 if reading.outcome is Outcome.RATE_LIMITED else 502
    return Reply(
        Problem(slug, status, title, detail, {"phase": _phase(answer), **_said(answer)}), reading.outcome, attempts
    )


def _not_now(call: Call, delay: float, attempts: int) -> Reply:
    problem = Problem(
        "exhausted", 503, "The upstream's pace leaves no place in time", "Nothing was sent; call again later."
    )
    return Reply(problem, Outcome.RATE_LIMITED, attempts, retry_after=delay)


def _what_now(rules: Rules) -> str:
    if rules.window:
        return "Repeating the step is safe: the same request goes out with the same key."
    return "It was not repeated, because that could double its effect."


def _sentence(why: str) -> str:
    return f"{why[:1].upper()}{why[1:]}."


def _phase(answer: Response | Fault | None) -> str:
    match answer:
        case Fault(phase=phase):
            return phase.value
        case Response():
            return "answered"
        case None:
            return "unknown"


def _said(answer: Response | Fault | None) -> dict[str, Json]:
    """The upstream's own words, so that nothing it said is lost: bounded, as text."""
    if not isinstance(answer, Response):
        return {}
    return {"upstream": {"status": answer.status, "body": answer.body[:16384].decode("utf-8", "replace")}}

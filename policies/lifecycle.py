"""The life of a call, start to end, in one place. Start reading here.

`life_of()` is a generator: it yields actions and is sent what came of them. It does nothing itself, so it
can be lived without network, store or clock; `gateway.runner` performs each action through a port. The list
of (action, result) pairs is the call's *transcript*.

A step of a workflow is claimed, sent, read, and committed under its claim's fence. A call that is no step
(a safe one, or one without identity) is only sent, read, and perhaps sent again.
"""

from __future__ import annotations

from discovery.constant import constant
from discovery.exchange import Fault, Request, Response
from policies.actions import (
    Call,
    Claim,
    Commit,
    Heard,
    IsClear,
    Join,
    Life,
    Look,
    Note,
    Pace,
    Send,
    Spend,
    Wait,
    do,
)
from policies.answers import deferred, doubtful, exhausted, in_progress, key_reused, not_now, recorded
from policies.claims import (
    LEASE,
    Ask,
    Busy,
    Change,
    Doubtful,
    Granted,
    Kept,
    Later,
    Mismatch,
    Outdated,
    Record,
    Recorded,
    State,
    upstream_key,
)
from policies.disposition import Defer, Deliver, Doubt, GiveUp, Retry, Situation, decide
from policies.keys import with_credentials, with_key
from policies.outcome import Effect, Outcome, Reading, classify
from policies.reply import Reply
from policies.rules import Rules

END: dict[Outcome, State] = {
    Outcome.SUCCESS: State.SUCCEEDED,
    Outcome.PARTIAL: State.SUCCEEDED,
    Outcome.VALIDATION: State.REJECTED,
    Outcome.REFUSED: State.FAILED,
}
"""Where a definite answer leaves a call."""


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
            return not_now(call, short, attempts - 1)
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
                return doubtful(call, rules, attempts, why, answer)
            case GiveUp(why=why) | Defer(why=why):
                return exhausted(attempts, why, answer, reading)
            case Deliver():
                raise AssertionError("a fault is never delivered")


# A step


@constant
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
                return recorded(call, record, claimed.reply)
            case Mismatch(record):
                return key_reused(call, record, claimed.request)
            case Doubtful(record):
                return doubtful(
                    call, rules, record.attempt, "an earlier run sent it and its answer was lost", None
                )
            case Later(record, not_before):
                delay = max(0.0, not_before - moment.date)
                if delay > left:
                    return deferred(call, record.attempt, delay, "the upstream asked to wait")
                yield from do(Wait(delay, "its time has not come"))
            case Busy(record):
                if left <= 0:
                    return in_progress(call, record)
                yield from do(Join(min(left, LEASE)))


def _holding(call: Call, rules: Rules, held: _Held, patience_ends: float) -> Life[Reply | None]:
    """Act on a claimed step until it is settled or let go. None: the record moved on; ask it again."""
    keyed = rules.idempotency.carrier != "none"
    request = held.request
    if keyed:
        request = with_key(request, rules.idempotency, upstream_key(call.id, held.record.generation))
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
                        return doubtful(call, rules, attempts, why, answer)
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
                return None if isinstance(done, Outdated) else doubtful(call, rules, attempts, why, answer)
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
    return None if isinstance(done, Outdated) else deferred(call, attempts, delay, why, outcome)


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
    return exhausted(attempts, why, answer, reading) if known else doubtful(call, rules, attempts, why, answer)


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

"""The life of a call, start to end, in one place. Start reading here.

`life_of()` is a generator: it yields actions and is sent what came of them. It does nothing itself, so it
can be lived without network, store or clock; `gateway.runner` performs each action through a port. The list
of (action, result) pairs is the call's *transcript*.

A step of a workflow is claimed, sent, read, and committed under its claim's fence. A call that is no step
(a safe one, or one without identity) is only sent, read, and perhaps sent again.

A step outlives its caller: what has to wait longer than the caller's patience is lived on, from its claim, by
whoever finds it due (`gateway.sweeper`), with no caller and no patience. So are two parts of a life that may
take hours: asking how a job stands (`policies.polling`) and looking for evidence (`policies.settling`).
"""

from __future__ import annotations

from dataclasses import replace

from discovery.exchange import Fault, Headers, Request, Response
from policies.actions import (
    Amend,
    Call,
    Claim,
    Commit,
    Heard,
    Held,
    IsClear,
    Join,
    Life,
    Look,
    Mended,
    Note,
    Pace,
    Send,
    Spend,
    Wait,
    do,
)
from policies.adapting import contract_broken, delivered, in_shape, original_of
from policies.answers import deferred, doubtful, exhausted, in_progress, key_reused, not_now, recorded
from policies.claims import (
    LEASE,
    Ask,
    Busy,
    Change,
    Credentials,
    Doubtful,
    Granted,
    Kept,
    Later,
    Mismatch,
    Outdated,
    Record,
    Recorded,
    State,
)
from policies.credentials import carried, goes_on, keeping
from policies.disposition import Defer, Deliver, Doubt, GiveUp, Retry, Situation, decide
from policies.doubt import resolvable, says_it_exists
from policies.finishing import finish, go_on
from policies.keys import key_for, with_credentials, with_key
from policies.mending import asked, may_be_mended, mend, teach
from policies.outcome import Effect, Outcome, Reading, classify
from policies.polling import follow, handle_of
from policies.repair import NeedsInput
from policies.reply import Reply
from policies.rules import Rules
from policies.settling import settle

END: dict[Outcome, State] = {
    Outcome.SUCCESS: State.SUCCEEDED,
    Outcome.PARTIAL: State.SUCCEEDED,
    Outcome.VALIDATION: State.REJECTED,
    Outcome.REFUSED: State.FAILED,
}
"""Where a definite answer leaves a call."""

PLACE = 10.0
"""Seconds a call without a caller waits for a place in the upstream's pace before it is put off once more."""

LOST = "an earlier run sent it and its answer was lost"

FORGOTTEN = "the store lost the record of a call that was sent"


def life_of(call: Call, rules: Rules) -> Life[Reply]:
    """Live `call` under `rules`; return what its caller is told."""
    moment = yield from do(Look())
    patience_ends = moment.now + call.patience
    if call.step is None:
        return (yield from _passing(call, rules, patience_ends))
    deadline = moment.date + rules.deadline if rules.deadline else 0.0
    acted = False
    while True:
        claimed = yield from _claim(call, rules, patience_ends, deadline)
        if isinstance(claimed, Reply):
            return claimed
        match claimed.record.state:
            case _ if claimed.fresh and (acted or claimed.forgotten):
                reply = yield from _forgotten(call, rules, claimed, patience_ends)
            case _ if claimed.record.some and claimed.reply is not None:
                reply = yield from go_on(call, rules, claimed, claimed.reply, patience_ends)
            case State.IN_DOUBT:
                reply = yield from settle(call, rules, claimed, patience_ends)
            case State.ACCEPTED if claimed.reply is not None:
                reply = yield from follow(call, rules, claimed, claimed.reply, patience_ends)
            case _:
                reply = yield from _holding(call, rules, claimed, patience_ends)
        if reply is not None:
            return reply
        acted = True


def _forgotten(call: Call, rules: Rules, held: Held, patience_ends: float) -> Life[Reply | None]:
    """The store lost the record under which this life, or one before it, acted (a failover, a restart): what was
    sent is in doubt."""
    if held.record.state is not State.SENDING and not (yield from _mark(Effect.UNKNOWN)):
        return None
    return (yield from _doubt(call, rules, held, held.record.attempt, FORGOTTEN, None, patience_ends))


# A call that is no step


def _passing(call: Call, rules: Rules, patience_ends: float) -> Life[Reply]:
    """Send a call nobody will ask for again; repeat it only where that cannot double an effect."""
    repeat_until = float("inf") if rules.idempotent else 0.0
    mended = call.prepared
    request = mended.request if mended else call.request
    tries = attempts = 0
    while True:
        attempts += 1
        tries += 1
        short = yield from do(Pace(patience_ends))
        if short > 0:
            return not_now(call, short, attempts - 1)
        answer = yield from do(Send(request))
        reading, situation = yield from _read(request, rules, answer, tries, patience_ends, repeat_until)
        disposition = decide(reading, situation)
        match disposition:
            case Retry(delay=delay, counts=counts, why=why):
                tries -= not counts
                yield from do(Wait(delay, why))
            case Deliver() | Defer() if isinstance(answer, Response):
                if call.workflow is None:
                    return Reply(answer, reading.outcome, attempts)
                if may_be_mended(call, rules, reading):
                    match (yield from do(Amend(request, answer, reading.hints, mended))):
                        case Mended() as mended:
                            request = mended.request
                            continue
                        case NeedsInput() as needed:
                            yield from do(Note(answer, reading))
                            return asked(call, needed, answer, attempts)
                return (yield from _noted(call, rules, answer, reading, attempts, mended))
            case GiveUp() | Doubt() | Deliver() | Defer() if isinstance(answer, Response) and not call.identified:
                outcome = Outcome.IN_DOUBT if isinstance(disposition, Doubt) else reading.outcome
                return Reply(answer, outcome, attempts)
            case Doubt(why=why):
                return doubtful(call, rules, attempts, why, answer)
            case GiveUp(why=why) | Defer(why=why):
                return exhausted(attempts, why, answer, reading)
            case Deliver():
                raise AssertionError("a fault is never delivered")


def _noted(
    call: Call, rules: Rules, answer: Response, reading: Reading, attempts: int, mended: Mended | None
) -> Life[Reply]:
    """Deliver what a workflow's call was answered, in its shape, and keep it in the workflow's history."""
    if reading.outcome is not Outcome.SUCCESS:
        yield from do(Note(answer, reading))
        return Reply(answer, reading.outcome, attempts)
    answered = yield from in_shape(call, answer)
    mends = yield from teach(mended)
    yield from do(Note(answered.response, reading, original_of(answer, answered, mends)))
    if answered.broken and rules.safe:
        return contract_broken(call, answered, attempts)
    return delivered(answered, reading.outcome, attempts, mends)


# A step


def _claim(call: Call, rules: Rules, patience_ends: float, deadline: float) -> Life[Held | Reply]:
    """Claim the step, waiting for a running twin or a set time inside the patience; or tell what is recorded."""
    carries = carried(call)
    credentials: Headers = ()
    if call.respond_async and carries is Credentials.CALLER:
        kept, credentials = keeping(call)
        carries = kept or carries
    evidence = not call.attended
    while True:
        clear = yield from do(IsClear())
        ask = Ask(
            call.fingerprint,
            send=clear,
            window=rules.window,
            deadline=deadline,
            replays=call.replays,
            settle=evidence,
            alone=not call.attended,
            credentials=carries,
            owner=call.owner,
            callback=call.callback,
        )
        claimed = yield from do(Claim(ask, credentials, call.prepared.frozen if call.prepared else None))
        moment = yield from do(Look())
        left = patience_ends - moment.now
        match claimed.result:
            case Granted(record, resumed):
                going = claimed.sent or claimed.request
                if resumed and going is not None:
                    request = with_credentials(going, call.request)
                    mended = Mended(request, going, last=True) if claimed.sent else None
                else:
                    mended = call.prepared
                    request = mended.request if mended else call.request
                asked_at = (record.not_before if record.state is State.IN_DOUBT else record.lease_until) - LEASE
                fresh = not resumed and record.fence == 1
                return Held(
                    record, request, asked_at - moment.now, claimed.reply, fresh, claimed.forgotten, mended
                )
            case Recorded(record):
                return recorded(call, record, claimed.reply, claimed.original)
            case Mismatch(record):
                return key_reused(call, record, claimed.request)
            case Doubtful() if resolvable(rules):
                evidence = True
            case Doubtful(record):
                return doubtful(call, rules, record.attempt, LOST)
            case Later(record, not_before):
                delay = max(0.0, not_before - moment.date)
                if delay <= left:
                    yield from do(Wait(delay, "its time has not come"))
                elif record.state is State.IN_DOUBT:
                    return doubtful(call, rules, record.attempt, LOST, again=delay)
                else:
                    why = "the upstream asked to wait"
                    return deferred(call, record.attempt, delay, why, alone=goes_on(record))
            case Busy(record):
                if left <= 0:
                    return in_progress(call, record)
                yield from do(Join(min(left, LEASE)))


def _holding(call: Call, rules: Rules, held: Held, patience_ends: float, attempts: int = 0) -> Life[Reply | None]:
    """Act on a claimed step until it is settled or let go, after so many `attempts`. None: the record moved on;
    ask it again."""
    keyed = rules.idempotency.carrier != "none"
    request = held.request
    if keyed:
        request = with_key(request, rules.idempotency, key_for(call.id, held.record.generation, rules.idempotency))
    places_until = patience_ends if call.attended else patience_ends + PLACE
    before = held.record.effect  # of what was sent before
    doubted = held.record.doubted
    marked = held.record.state is State.SENDING
    tries = 0
    while True:
        attempts += 1
        tries += 1
        short = yield from do(Pace(places_until))
        if short > 0:
            effect = Effect.UNKNOWN if held.record.doubted else Effect.NONE
            return (yield from _defer(call, held, effect, short, attempts - 1, "the upstream's pace"))
        if not marked:
            sending = yield from _mark(before)
            if sending is None:
                return None
            held = replace(
                held, record=sending
            )  # its first sending is known now, and until when it may be repeated
        answer = yield from do(Send(request))
        alone = 0 if call.attended else max(1, held.record.attempt)
        reading, situation = yield from _read(
            held.request, rules, answer, tries, patience_ends, held.repeat_until, alone
        )
        disposition = decide(reading, situation)
        match disposition:
            case Deliver() if isinstance(answer, Response):
                if answer.status == 202 and rules.poll and handle_of(request, answer, rules.upstream.base_url):
                    return (yield from follow(call, rules, held, answer, patience_ends))
                if doubted and rules.lookup and reading.effect is Effect.NONE and says_it_exists(answer):
                    why = f"{reading.why}, which may be what an earlier sending made"
                    return (yield from _doubt(call, rules, held, attempts, why, answer, patience_ends))
                if reading.outcome is Outcome.PARTIAL and reading.items:
                    return (yield from finish(call, rules, held, answer, reading, attempts, patience_ends))
                if reading.outcome is Outcome.SUCCESS and call.workflow is not None:
                    return (yield from _end(call, rules, answer, reading, attempts, keyed, held.mended))
                if not doubted and may_be_mended(call, rules, reading):
                    match (yield from mend(call, held, answer, reading, attempts)):
                        case Held() as again:
                            return (yield from _holding(call, rules, again, patience_ends, attempts))
                        case Reply() | None as told:
                            return told
                end = Change(END[reading.outcome], reading.outcome, reading.effect, settles=keyed)
                done = yield from do(Commit(end, reading.why, reply=answer))
                match done:
                    case Kept(record) if record.state is State.IN_DOUBT:
                        why = f"{reading.why}; but an earlier sending went unanswered"
                        return (yield from _doubt(call, rules, held, attempts, why, answer, patience_ends))
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
                doubted = doubted or before is Effect.UNKNOWN
            case Defer(delay=delay, why=why):
                return (yield from _defer(call, held, reading.effect, delay, attempts, why, reading))
            case Doubt(why=why):
                return (yield from _doubt(call, rules, held, attempts, why, answer, patience_ends))
            case GiveUp(why=why) if reading.effect is Effect.NONE:
                return (yield from _give_up(call, rules, held, reading, answer, attempts, why, patience_ends))
            case GiveUp(why=why):
                return (yield from _doubt(call, rules, held, attempts, why, answer, patience_ends))
            case Deliver():
                raise AssertionError("a fault is never delivered")


def _end(
    call: Call,
    rules: Rules,
    answer: Response,
    reading: Reading,
    attempts: int,
    keyed: bool,
    mended: Mended | None,
) -> Life[Reply | None]:
    """Deliver a workflow's success in the shape it was written for, once that is recorded."""
    answered = yield from in_shape(call, answer)
    broken = bool(answered.broken) and rules.safe
    if broken:
        why = f"{reading.why}, but it lacks what a person requires"
        end = Change(State.FAILED, Outcome.REFUSED, Effect.NONE, settles=True)
    else:
        why = reading.why
        end = Change(END[reading.outcome], reading.outcome, reading.effect, settles=keyed)
    mends = yield from teach(mended)
    original = original_of(answer, answered, mends)
    done = yield from do(Commit(end, why, reply=answered.response, original=original))
    if isinstance(done, Outdated):
        return None
    if broken:
        return contract_broken(call, answered, attempts)
    return delivered(answered, reading.outcome, attempts, mends)


def _mark(before: Effect) -> Life[Record | None]:
    """Make the intent durable before a byte leaves; return the record. None: the step was taken from us."""
    done = yield from do(Commit(Change(State.SENDING, effect=before, keep=LEASE), "sending"))
    return done.record if isinstance(done, Kept) else None


def _defer(
    call: Call, held: Held, effect: Effect, delay: float, attempts: int, why: str, reading: Reading | None = None
) -> Life[Reply | None]:
    """Let the step go until its time comes; whoever asks then goes on with it."""
    moment = yield from do(Look())
    due = moment.now + held.offset + delay
    outcome = reading.outcome if reading else Outcome.RATE_LIMITED
    kept, credentials = keeping(call)
    wish = Change(State.WAITING, outcome, effect, not_before=due, credentials=kept)
    done = yield from do(Commit(wish, why, credentials=credentials))
    if isinstance(done, Outdated):
        return None
    return deferred(call, attempts, delay, why, outcome, alone=goes_on(done.record))


def _give_up(
    call: Call,
    rules: Rules,
    held: Held,
    reading: Reading,
    answer: Response | Fault,
    attempts: int,
    why: str,
    patience_ends: float,
) -> Life[Reply | None]:
    """Retries are used up without an effect: the step is free for another day, unless it is in doubt already."""
    done = yield from do(Commit(Change(State.EXHAUSTED, reading.outcome, reading.effect), why))
    match done:
        case Kept(record) if record.state is State.IN_DOUBT:
            return (yield from _doubt(call, rules, held, attempts, why, answer, patience_ends))
        case Kept():
            return exhausted(attempts, why, answer, reading)
        case Outdated():
            return None


def _doubt(
    call: Call,
    rules: Rules,
    held: Held,
    attempts: int,
    why: str,
    answer: Response | Fault | None,
    patience_ends: float,
) -> Life[Reply | None]:
    """Make the doubt durable, then look for evidence, now or (whoever finds it due) later.

    While the upstream remembers the key, the same bytes under it are the evidence; they go out again without
    the caller. A request without a key does not, though it be idempotent: it could undo what came after it.
    """
    moment = yield from do(Look())
    now = moment.now + held.offset
    keyed = rules.idempotency.carrier != "none" and not rules.idempotent and moment.now < held.repeat_until
    looks = now + LEASE if keyed or resolvable(rules) else 0.0
    kept, credentials = keeping(call) if looks else (None, ())
    wish = Change(State.IN_DOUBT, Outcome.IN_DOUBT, Effect.UNKNOWN, not_before=looks, credentials=kept)
    done = yield from do(Commit(wish, why, credentials=credentials))
    if isinstance(done, Outdated):
        return None
    if resolvable(rules) and not keyed:
        doubt = Held(done.record, held.request, held.offset)
        return (yield from settle(call, rules, doubt, patience_ends, answer))
    return doubtful(call, rules, attempts, why, answer)


# Shared parts


def _read(
    request: Request,
    rules: Rules,
    answer: Response | Fault,
    tries: int,
    patience_ends: float,
    repeat_until: float,
    alone: int = 0,
) -> Life[tuple[Reading, Situation]]:
    moment = yield from do(Look())
    reading = classify(request, answer, moment.date)
    yield from do(Heard(answer, reading))
    transient = reading.outcome is Outcome.TRANSIENT and reading.wait is None
    budget_left = (yield from do(Spend())) if transient and tries < rules.attempts and not alone else True
    return reading, Situation(
        tries, rules.attempts, moment.now, patience_ends, repeat_until, moment.chance, budget_left, alone
    )

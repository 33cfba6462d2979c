"""The part of a life that looks for evidence: of a call in doubt, until something proves either way.

What counts as evidence is in `policies.doubt`. Each look is recorded with what it found; each says when the
next is due, so that a crash, or the end of the caller's patience, hands the looking on to the sweeper.
"""

from __future__ import annotations

from discovery.exchange import Fault, Response
from policies.actions import Call, Commit, Held, Life, Look, Pace, Probe, Wait, do
from policies.answers import doubtful
from policies.claims import LEASE, Change, Credentials, Kept, Outdated, State
from policies.doubt import Applied, NotApplied, Unsure, Verdict, assume, judge, look_up
from policies.outcome import Effect, Outcome
from policies.reply import Reply
from policies.rules import Rules


def settle(
    call: Call, rules: Rules, held: Held, patience_ends: float, answer: Response | Fault | None = None
) -> Life[Reply | None]:
    """Look for evidence until it proves something, or patience ends. None: the record moved on; ask it again.

    The call is in doubt, durably, under the fence we know. `answer` is what raised the doubt, for the caller.
    """
    attempts = held.record.attempt
    while True:
        verdict = yield from _verdict(call, rules, held, patience_ends)
        moment = yield from do(Look())
        match verdict:
            case Applied(reply, why):
                end = Change(State.SUCCEEDED, Outcome.SUCCESS, Effect.ALL, settles=True)
                done = yield from do(Commit(end, why, reply=reply))
                return None if isinstance(done, Outdated) else Reply(reply, Outcome.SUCCESS, attempts)
            case NotApplied(why):
                now = moment.now + held.offset
                yield from do(Commit(Change(State.WAITING, None, Effect.NONE, now, settles=True), why))
                return None
            case Unsure(None, why):
                done = yield from do(Commit(Change(State.IN_DOUBT, Outcome.IN_DOUBT, Effect.UNKNOWN), why))
                return None if isinstance(done, Outdated) else doubtful(call, rules, attempts, why, answer)
            case Unsure(again, why) if again is not None:
                waits = moment.now + again <= patience_ends
                look = moment.now + held.offset + again + (LEASE if waits else 0.0)
                wish = Change(State.IN_DOUBT, Outcome.IN_DOUBT, Effect.UNKNOWN, not_before=look)
                if not isinstance((yield from do(Commit(wish, why))), Kept):
                    return None
                if not waits:
                    return doubtful(call, rules, attempts, why, answer, again)
                yield from do(Wait(again, why))


def _verdict(call: Call, rules: Rules, held: Held, patience_ends: float) -> Life[Verdict]:
    """Look once; where no look can prove anything any more, what is declared holds."""
    record = held.record
    if rules.lookup is None:
        return assume(rules, record.attempt)
    if not call.attended and record.credentials is Credentials.CALLER:
        return Unsure(None, "it can be looked up only with its caller's credentials: repeat the step")
    asked = look_up(rules.lookup, held.request)
    if asked is None:
        return _or_declared(rules, record.attempt, Unsure(None, "the request lacks what its look-up names"))
    short = yield from do(Pace(patience_ends))
    if short > 0:
        return Unsure(short, "the upstream's pace leaves no place for a look-up")
    answer = yield from do(Probe(asked))
    moment = yield from do(Look())
    verdict = judge(rules.lookup, held.request, asked, answer, moment.now + held.offset - record.doubt_since)
    return _or_declared(rules, record.attempt, verdict)


def _or_declared(rules: Rules, attempts: int, verdict: Verdict) -> Verdict:
    match verdict:
        case Unsure(None, why):
            match assume(rules, attempts):
                case Unsure(_, also):
                    return Unsure(None, f"{why}; {also}")
                case declared:
                    return declared
        case _:
            return verdict

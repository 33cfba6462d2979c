"""The part of a life that answers a definite refusal with a mended request, once, or asks for what is lacking.

A refusal had no effect for sure, so what goes out in its place is the step's next generation, under a key of its
own; what is sent is kept before it is sent, so that whoever resumes sends the very same. Nothing is mended while
an earlier sending is in doubt, without the caller, or of a request that was signed over its bytes.
"""

from __future__ import annotations

from discovery.exchange import Response
from policies.actions import Amend, Call, Commit, Held, Life, Mended, Taught, do
from policies.claims import LEASE, Change, Kept, Outdated, State
from policies.credentials import is_signed
from policies.outcome import Effect, Outcome, Reading
from policies.repair import NeedsInput, needs_input
from policies.reply import Reply
from policies.rules import Rules


def may_be_mended(call: Call, rules: Rules, reading: Reading) -> bool:
    """Is a refusal one that evidence may have an answer to? (Whether there is any, `Amend` tells.)"""
    return (
        reading.outcome is Outcome.VALIDATION
        and reading.effect is Effect.NONE
        and bool(reading.hints)
        and call.workflow is not None
        and call.attended
        and rules.upstream.adapt != "observe"
        and not is_signed(call.request)
    )


def mend(
    call: Call, held: Held, answer: Response, reading: Reading, attempts: int
) -> Life[Held | Reply | NeedsInput | None]:
    """Find what to do about a step's refusal.

    Returns the step as it is held for its next generation, with the request to send; or the reply that asks, once
    the refusal is recorded; or `AS_IT_CAME`: deliver it. None: the record moved on.
    """
    found = yield from do(Amend(held.request, answer, reading.hints, held.mended))
    match found:
        case Mended():
            wish = Change(State.CLAIMED, Outcome.VALIDATION, Effect.NONE, keep=LEASE, anew=True)
            done = yield from do(Commit(wish, f"{reading.why}; another request goes out", sent=found.frozen))
            if not isinstance(done, Kept):
                return None
            return Held(done.record, found.request, held.offset, mended=found)
        case NeedsInput():
            end = Change(State.REJECTED, Outcome.VALIDATION, Effect.NONE)
            done = yield from do(Commit(end, reading.why, reply=answer))
            return None if isinstance(done, Outdated) else asked(call, found, answer, attempts)
        case None:
            return AS_IT_CAME


AS_IT_CAME = NeedsInput(())
"""Nothing is mended and nothing asked."""


def asked(call: Call, needed: NeedsInput, answer: Response, attempts: int) -> Reply:
    """Return what a workflow is told whose request an upstream that moved does not take: with its own words."""
    problem = needs_input(needed)
    problem.members["call"] = call.id
    problem.members["upstream"] = {
        "status": answer.status,
        "body": answer.body[:16384].decode("utf-8", "replace"),
    }
    return Reply(problem, Outcome.VALIDATION, attempts)


def teach(mended: Mended | None) -> Life[int]:
    """A mended request was accepted: that serves the instances that come. Return how many mends it had."""
    if mended is None or not mended.mends:
        return 0
    yield from do(Taught(mended))
    return len(mended.mends)

"""The part of a life that gives an answer the shape its workflow was written for (docs/adaptation.md).

It comes after the answer was read as a success and before anything is kept of it, so that a replay gives what
was delivered. What the upstream said stays beside it. An effect that took place is never told as an error: only
a safe call stops where a place is lacking that a person marked as required.
"""

from __future__ import annotations

from discovery.exchange import Response
from policies.actions import Adapt, Answered, Call, Life, do
from policies.outcome import Outcome
from policies.reply import Original, Problem, Reply


def in_shape(call: Call, answer: Response) -> Life[Answered]:
    """Return a successful answer as the call's workflow expects it: as it came where it has none."""
    if call.workflow is None or not answer.body:
        return Answered(answer)
    return (yield from do(Adapt(answer)))


def original_of(answer: Response, answered: Answered, mends: int = 0) -> Original | None:
    """Return what is kept of the upstream's own answer; None where that is what is delivered, whole."""
    if not answered.adapted and not answered.degraded and not mends:
        return None
    return Original(
        answer if answered.adapted else None, answered.adapted + mends, answered.degraded, answered.contract
    )


def delivered(answered: Answered, outcome: Outcome, attempts: int, mends: int = 0) -> Reply:
    return Reply(
        answered.response,
        outcome,
        attempts,
        adapted=answered.adapted + mends,
        degraded=answered.degraded,
        contract=answered.contract,
    )


def contract_broken(call: Call, answered: Answered, attempts: int) -> Reply:
    """Return what the caller of a safe call is told in place of an answer that lacks what a person requires."""
    lacking = ", ".join(answered.broken)
    problem = Problem(
        "contract-broken",
        502,
        "The answer lacks what this workflow needs",
        f"A person marked {lacking} as required for this workflow type; the upstream's answer no longer has it, "
        "and nothing brings it back.",
        {
            "call": call.id,
            "fields": [*answered.broken],
            "upstream": {
                "status": answered.response.status,
                "body": answered.response.body[:16384].decode("utf-8", "replace"),
            },
        },
    )
    return Reply(problem, Outcome.REFUSED, attempts, adapted=answered.adapted, degraded=answered.degraded)

"""What a caller is told that the upstream did not say: the gateway's own answers to a step, as values."""

from __future__ import annotations

from discovery.exchange import Fault, Json, Request, Response
from policies.actions import Call
from policies.claims import Record
from policies.keys import differences
from policies.outcome import Outcome, Reading
from policies.reply import Original, Problem, Reply
from policies.rules import Rules


def recorded(call: Call, record: Record, reply: Response | None, original: Original | None = None) -> Reply:
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
    if original is None:
        return Reply(reply, outcome, record.attempt, replayed=True)
    return Reply(
        reply,
        outcome,
        record.attempt,
        replayed=True,
        adapted=original.adapted,
        degraded=original.degraded,
        contract=original.contract,
    )


def key_reused(call: Call, record: Record, kept: Request | None) -> Reply:
    problem = Problem(
        "key-reused",
        422,
        "Same step, other request",
        "This step was already sent with another request, and that one had an effect or may have had one. "
        "Nothing was sent. Give the new request a step name (or key) of its own.",
        {"call": call.id, "state": record.state.value, "differs": differences(kept, call.frozen)},
    )
    return Reply(problem, Outcome.REFUSED, record.attempt)


def in_progress(call: Call, record: Record) -> Reply:
    problem = Problem(
        "in-progress",
        409,
        "The same step is running elsewhere",
        "Another run of this step has not ended within your patience. Nothing was sent. Repeat to join it.",
        {"call": call.id},
    )
    return Reply(problem, Outcome.TRANSIENT, record.attempt, retry_after=1.0, location=True)


def deferred(
    call: Call,
    attempts: int,
    delay: float,
    why: str,
    outcome: Outcome = Outcome.RATE_LIMITED,
    *,
    alone: bool = True,
) -> Reply:
    """`alone`: the gateway goes on by itself; else the caller has to repeat the step."""
    problem = Problem(
        "deferred",
        202 if call.respond_async and alone else 503,
        "Not yet",
        f"{_sentence(why)} {_who_goes_on(alone)}",
        {"call": call.id, "alone": alone},
    )
    return Reply(problem, outcome, attempts, retry_after=delay, location=True)


def _who_goes_on(alone: bool) -> str:
    if alone:
        return (
            "The gateway goes on with the step when its time comes, whether you ask again or not: "
            "wait for it at Location, or repeat the step after Retry-After and join it."
        )
    return (
        "The step is kept, but it can only go on with your credentials, which are not kept: "
        "repeat it after Retry-After."
    )


def doubtful(
    call: Call,
    rules: Rules,
    attempts: int,
    why: str,
    answer: Response | Fault | None = None,
    again: float | None = None,
) -> Reply:
    """`again`: in so many seconds evidence is looked for once more."""
    resolvers: list[Json] = []
    if rules.window:
        resolvers.append("the same request under the same key")
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
    return Reply(problem, Outcome.IN_DOUBT, attempts, retry_after=again, location=call.step is not None)


def exhausted(attempts: int, why: str, answer: Response | Fault, reading: Reading) -> Reply:
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


def not_now(call: Call, delay: float, attempts: int) -> Reply:
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

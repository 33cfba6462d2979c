"""What an answer means: an outcome, an effect, and why, read from status, headers and body.

`classify()` never raises and never guesses an effect.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from discovery.exchange import Fault, Phase, Request, Response
from discovery.hints import Hint
from policies.partial import Item


class Outcome(StrEnum):
    """What happened."""

    SUCCESS = "success"
    TRANSIENT = "transient"
    RATE_LIMITED = "rate-limited"
    VALIDATION = "validation"
    PARTIAL = "partial"
    REFUSED = "refused"
    IN_DOUBT = "in-doubt"


class Effect(StrEnum):
    """What the upstream did. Never guessed: `unknown` is an answer."""

    NONE = "none"
    SOME = "some"
    ALL = "all"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Reading:
    """What one answer means.

    `wait` is seconds the upstream asked for, or None. `repeat` is what it said about trying again, if it did.
    `hints` say which fields it refused; `items` what became of each item of a batch, in the request's order.
    `confidence` tells a protocol's own sign (1.0) from words understood (0.5 and less).
    """

    outcome: Outcome
    effect: Effect
    why: str
    wait: float | None = None
    confidence: float = 1.0
    hints: tuple[Hint, ...] = ()
    items: tuple[Item, ...] = ()
    repeat: bool | None = None


def classify(request: Request, answer: Response | Fault, now: float) -> Reading:
    """Return the meaning of `answer`. `now` (epoch seconds) turns dates in headers into waits."""
    match answer:
        case Fault(phase=phase) if answer.unsent:
            return Reading(Outcome.TRANSIENT, Effect.NONE, f"never sent ({phase}): {answer.detail}")
        case Fault(phase=Phase.BODY, status=status):
            why = f"status {status} came, but the body broke off: {answer.detail}"
            return Reading(Outcome.TRANSIENT, Effect.UNKNOWN, why)
        case Fault(phase=phase):
            return Reading(Outcome.TRANSIENT, Effect.UNKNOWN, f"no answer ({phase}): {answer.detail}")
        case Response(status=status):
            return _by_status(status, _retry_after(answer))


def _by_status(status: int, wait: float | None) -> Reading:
    if status < 400:
        return Reading(Outcome.SUCCESS, Effect.ALL, f"status {status}")
    if status == 429:
        return Reading(Outcome.RATE_LIMITED, Effect.NONE, "status 429: too many requests", wait)
    if status == 503 and wait is not None:
        return Reading(Outcome.TRANSIENT, Effect.NONE, "status 503 with Retry-After", wait)
    if status in (408, 425):
        return Reading(Outcome.TRANSIENT, Effect.NONE, f"status {status}: the request was not processed", wait)
    if status >= 500 and status not in (501, 505):
        return Reading(Outcome.TRANSIENT, Effect.UNKNOWN, f"status {status}: it may have taken effect", wait)
    if status in (400, 422):
        return Reading(Outcome.VALIDATION, Effect.NONE, f"status {status}: the request is invalid")
    return Reading(Outcome.REFUSED, Effect.NONE, f"status {status}")


def _retry_after(response: Response) -> float | None:
    value = response.header(b"retry-after")
    return float(value) if value is not None and value.isdigit() else None

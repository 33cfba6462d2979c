"""How an exchange would be treated, and why: the object `gimbal explain` prints for it (interface, section 7).

Only what the exchange itself shows is weighed: its method and an `Idempotency-Key` it carried. A configured
profile, which a running gateway also knows, can only allow more.
"""

from __future__ import annotations

from email.utils import parsedate_to_datetime

from discovery.exchange import IDEMPOTENT_METHODS, Exchange, Json, Response
from discovery.hints import Hint
from policies.batch import Item
from policies.outcome import Effect, Outcome, Reading, classify


def explain(exchange: Exchange, now: float) -> dict[str, Json]:
    """Return how `exchange` would be treated. `now` stands in where neither it nor its answer is dated."""
    reading = classify(exchange.request, exchange.answer, _answered_at(exchange, now))
    retry = retry_of(exchange, reading)
    return {
        "outcome": str(reading.outcome),
        "effect": str(reading.effect),
        "retry": retry,
        "retry_after": _whole(reading.wait),
        "fields": [_field(hint) for hint in reading.hints],
        "items": [_item(item) for item in reading.items],
        "confidence": reading.confidence,
        "why": reading.why,
    }


def _field(hint: Hint) -> Json:
    said: dict[str, Json] = {"pointer": hint.pointer, "reason": str(hint.reason)}
    if hint.where != "body":
        said["in"] = hint.where
    if hint.allowed:
        said["allowed"] = list(hint.allowed)
    if hint.message:
        said["message"] = hint.message
    return said


def _item(item: Item) -> Json:
    said: dict[str, Json] = {"index": item.index, "key": item.key, "ok": item.ok, "retry": item.retry}
    if item.why:
        said["why"] = item.why
    return said


def retry_of(exchange: Exchange, reading: Reading) -> str:
    """Return whether the request may be sent again: `no`, `now`, `later`, or only under its key (`keyed`)."""
    if reading.outcome not in (Outcome.TRANSIENT, Outcome.RATE_LIMITED) or reading.repeat is False:
        return "no"
    if reading.effect is Effect.NONE or exchange.request.method in IDEMPOTENT_METHODS:
        unsent = not isinstance(exchange.answer, Response) and exchange.answer.unsent
        return "now" if unsent or reading.wait == 0 else "later"
    return "keyed" if exchange.request.header(b"idempotency-key") else "no"


def _answered_at(exchange: Exchange, now: float) -> float:
    if isinstance(exchange.answer, Response) and (date := exchange.answer.header(b"date")):
        try:
            return parsedate_to_datetime(date.decode("latin-1")).timestamp()
        except (ValueError, OverflowError):
            pass
    return exchange.at if exchange.at is not None else now


def _whole(seconds: float | None) -> Json:
    return int(seconds) if seconds is not None and seconds == int(seconds) else seconds

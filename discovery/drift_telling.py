"""A change in a sentence: what it is, what speaks for it, what was and what is."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from discovery.drift import Drift

VALUES = 8
"""Values of an enum that are listed before the rest is counted."""


def tell(drift: Drift, over: float | None = None) -> str:
    """Return a drift as a careful colleague would say it: the claim, since when, and the counts behind it.

    `over` is when it stopped being so.
    """
    if over is not None:
        return f"{drift.operation}: {_claim(drift)}{_since(drift)}, but no more since {_moment(over)}"
    return f"{drift.operation}: {_claim(drift)}{_since(drift)}; {_counts(drift)}"


def _claim(drift: Drift) -> str:
    if drift.where.startswith("request."):
        return _demand(drift)
    field = drift.pointer or "the whole answer"
    where = drift.where.removeprefix("response.")
    answer = "the answer" if where == "200" else f"the {where} answer"
    match drift.kind:
        case "field-added":
            return f"{field} is new in {answer} ({drift.after})"
        case "field-removed":
            return f"{field} is gone from {answer} (was {drift.before})"
        case "field-renamed" | "field-moved":
            verb = "is called" if drift.kind == "field-renamed" else "moved to"
            return f"{drift.before} {verb} {drift.after} now{_sameness(drift)}"
        case "type-changed":
            return f"{field} changed its type, {drift.before} to {drift.after}"
        case "became-nullable":
            return f"{field} can be null now (was {drift.before})"
        case "became-optional":
            return f"{field} is not always there any more"
        case "enum-extended":
            new = [value for value in drift.after if value not in drift.before]
            return f"{field} has new values: {_listed(new)} (known: {_listed(drift.before)})"
        case "envelope-changed":
            return f"{answer} has another outer form: {_listed(drift.before)} became {_listed(drift.after)}"
        case "operation-removed":
            return f"is gone{f', {drift.after} seems to stand for it' if drift.after else ''}"
        case _ if drift.before is None:
            return "is there now, where there was nothing"
        case _:
            return f"is new, in the place of {drift.before}"


REFUSED_FOR = {
    "type": "for its type",
    "format": "for its format",
    "enum": "as none of the allowed values",
    "range": "as out of range",
    "length": "for its length",
}


def _demand(drift: Drift) -> str:
    """What requests must, or must no longer, hold."""
    place = "the query" if drift.where == "request.query" else "the request body"
    if drift.kind == "became-required":
        return f"{drift.pointer} must be in {place} now"
    if drift.kind == "field-removed":
        return f"{drift.pointer} is no longer accepted in {place}"
    reason, allowed = drift.evidence["reason"], drift.evidence.get("allowed")
    like = "the same values were" if reason in ("enum", "range") else "the like was"
    told = f" (allowed: {_listed(allowed)})" if allowed else ""
    return f"{drift.pointer} in {place} is refused now {REFUSED_FOR[reason]}, where {like} accepted{told}"


def _sameness(drift: Drift) -> str:
    same, compared = drift.evidence["same"], drift.evidence["compared"]
    if not compared:
        return " (by name and type: nothing was seen under both)"
    return f" (same values for {same} of {compared} that were seen under both)"


def _since(drift: Drift) -> str:
    if drift.first_seen is None:
        return ""
    return f", since {_moment(drift.first_seen)}"


def _moment(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d %H:%M} UTC"


def _counts(drift: Drift) -> str:
    seen = drift.evidence
    before, after, hits = seen["n_before"], seen["n_after"], seen["hits"]
    if drift.where.startswith("request."):
        lacking = "without it" if drift.kind == "became-required" else "like these"
        return f"{before} requests {lacking} were accepted before, {hits} of {after} were refused since"
    match drift.kind:
        case "field-removed" | "field-renamed" | "field-moved":
            return f"there in {hits} of {before} before, in none of {after} since"
        case "operation-added" if drift.before is None:
            return (
                f"{before} calls before were answered as if it did not exist, {hits} of {after} since were served"
            )
        case "operation-removed" | "operation-added":
            return f"the old one was there for {hits} of {before} calls before, for none of {after} since"
        case "became-optional":
            return f"never missing in {before} before, missing in {hits} of {after} since"
    return f"never in {before} before, in {hits} of {after} since"


def _listed(values: Any) -> str:
    told: Sequence[Any] = values if isinstance(values, (list, tuple)) else [values]
    shown = ", ".join(str(value) for value in told[:VALUES])
    return shown + (f" and {len(told) - VALUES} more" if len(told) > VALUES else "")

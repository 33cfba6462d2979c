"""A call's and a workflow's story for the eye: what happened, when, how it is coloured, and where it stands.

Pure: facts of `gateway.views` -> values that templates lay out.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from discovery.exchange import UNSENT_PHASES
from gateway.spans import spell
from gateway.views import Facts

TONES = {
    "succeeded": "good",
    "success": "good",
    "all": "good",
    "waiting": "busy",
    "accepted": "busy",
    "claimed": "busy",
    "sending": "busy",
    "open": "busy",
    "transient": "warn",
    "rate-limited": "warn",
    "partial": "warn",
    "some": "warn",
    "exhausted": "warn",
    "in-doubt": "doubt",
    "unknown": "doubt",
    "rejected": "bad",
    "validation": "bad",
    "failed": "bad",
    "refused": "bad",
    "breaking": "bad",
    "warning": "warn",
    "info": "busy",
}
"""Words for states, outcomes, effects and severities -> the tone they are shown in; others are quiet."""

MINOR = {"sending": "About to send; that was noted first.", "claimed": "Nothing is under way; that was noted."}
"""Changes that only prepare what the next line tells."""


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a call's story. `number` counts sendings; `after` is seconds since the story began."""

    at: float | None
    after: float | None
    tone: str
    says: str
    why: str = ""
    number: int = 0
    outcome: str = ""
    effect: str = ""
    took: float | None = None
    minor: bool = False


@dataclass(frozen=True, slots=True)
class Bar:
    """A stretch of time in percent of the whole, for a picture."""

    x: float
    width: float
    tone: str
    says: str


def events(view: Facts) -> list[Event]:
    """Return what happened to a call, oldest first."""
    told: list[Event] = []
    started: float | None = None
    number = 0
    steps: Any = view["transcript"]
    for step in steps:
        at = step.get("at")
        at = float(at) if isinstance(at, int | float) else None
        started = at if started is None else started
        number += step.get("did") == "send"
        after = None if at is None or started is None else max(0.0, at - started)
        event = _event(step, at, after, number)
        if told and event.why == told[-1].why and not event.number:
            event = replace(event, why="")  # a change tells the reason of the answer before it once more
        told.append(event)
    return told


def lifeline(view: Facts) -> tuple[list[Bar], float]:
    """Return the sendings and waits of a call as bars, and the seconds from the first to the end of the last."""
    spans: list[tuple[float, float, str, str]] = []
    steps: Any = view["transcript"]
    for step in steps:
        match step:
            case {"did": "send", "at": int() | float() as at}:
                took = step.get("took")
                answer = step.get("status") or step.get("fault") or "no answer"
                tone = TONES.get(str(step.get("outcome")), "quiet")
                spans.append((at, took if isinstance(took, int | float) else 0.0, tone, f"sent: {answer}"))
            case {"did": "wait", "at": int() | float() as at, "seconds": int() | float() as seconds}:
                spans.append((at, seconds, "pause", f"waited {seconds:g} s"))
    if not spans:
        return [], 0.0
    start = min(at for at, *_ in spans)
    whole = max(max(at + took for at, took, *_ in spans) - start, 0.001)
    return [_bar((at - start) / whole, took / whole, tone, says) for at, took, tone, says in spans], whole


def gantt(workflow: Facts) -> list[Bar]:
    """Return a workflow's calls as bars over its life, one a call, in their order."""
    calls: Any = workflow["calls"]
    if not calls:
        return []
    start = min(call["created"] for call in calls)
    whole = max(max(call["updated"] for call in calls) - start, 0.001)
    return [
        _bar(
            (call["created"] - start) / whole,
            (call["updated"] - call["created"]) / whole,
            TONES.get(call["state"], "quiet"),
            call["state"],
        )
        for call in calls
    ]


def _bar(x: float, width: float, tone: str, says: str) -> Bar:
    """Every bar can be seen (a percent at least) and lies inside."""
    width = min(100.0, max(1.0, 100 * width))
    return Bar(round(min(100 * x, 100 - width), 2), round(width, 2), tone, says)


def _event(step: Facts, at: float | None, after: float | None, number: int) -> Event:
    why = str(step.get("why") or "")
    match step:
        case {"did": "claim"}:
            again = "taken up again from an earlier run" if step.get("resumed") else "claimed"
            generation = step.get("generation")
            later = f", generation {generation}" if isinstance(generation, int) and generation > 1 else ""
            return Event(at, after, "quiet", f"The step was {again}{later}.", why, minor=not step.get("resumed"))
        case {"did": "send"}:
            outcome, effect = str(step.get("outcome") or ""), str(step.get("effect") or "")
            took = step.get("took")
            return Event(
                at,
                after,
                TONES.get(outcome, "quiet"),
                _answer(step),
                why,
                number,
                outcome,
                effect,
                float(took) if isinstance(took, int | float) else None,
            )
        case {"did": "wait", "seconds": int() | float() as seconds}:
            return Event(at, after, "pause", f"Waited {spell(seconds)}.", why)
        case {"did": "change", "state": str() as state}:
            minor = state in MINOR
            says = MINOR.get(state) or f"It became {state.replace('-', ' ')}."
            return Event(at, after, TONES.get(state, "quiet"), says, "" if minor else why, minor=minor)
        case {"did": "adapt", "side": side}:
            return Event(at, after, "pause", f"The {side} was adapted to its reader ({step.get('of')}).", why)
        case {"did": "resolve"}:
            word = "having taken effect" if step.get("applied") else "not having taken effect"
            evidence = str(step.get("evidence") or why)
            return Event(at, after, "good", f"Settled as {word}{_by(step)}.", evidence)
        case {"did": "retry"}:
            return Event(at, after, "busy", f"Told to run now{_by(step)}.", why)
        case {"did": "cancel"}:
            return Event(at, after, "quiet", f"Given up{_by(step)}.", why)
    return Event(at, after, "quiet", "; ".join(_rest(step)) or "Something happened.", why)


def _answer(step: Facts) -> str:
    if step.get("status") is not None:
        return f"Answered with status {step['status']}."
    phase = str(step.get("fault") or "unknown")
    detail = f": {step['detail']}" if step.get("detail") else ""
    return f"{'Never sent' if phase in UNSENT_PHASES else 'No answer'} (phase {phase}){detail}."


def _by(step: Facts) -> str:
    return f" by {step['by']}" if step.get("by") else ""


def _rest(step: Facts) -> Iterator[str]:
    for name, value in step.items():
        if name not in ("at", "why") and value not in (None, ""):
            yield str(value) if name == "did" else f"{name} {value}"

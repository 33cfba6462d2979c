"""What is known of an upstream's changes over time: each told once, kept with its beginning, and its end.

`drifts_among()` tells what the traffic that is remembered shows; a `Chronicle` keeps it when that is forgotten.
`noted()` adds what is told now to what was told before: a change told again is the same `Event`, one that is told
better (a removal that proves to be a rename) takes its place, one whose end is proved is `over`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import blake2b
from math import exp
from typing import Any

from discovery.drift import Drift, Operation, in_order
from discovery.drift_over import over
from discovery.exchange import Json

MAX_EVENTS = 500
"""Events kept of one upstream. Those that are over go first, the oldest before the others."""

PAIRED = ("field-renamed", "field-moved")


@dataclass(frozen=True, slots=True)
class Event:
    """One change. Epoch seconds: `found` is when it was told first, `over` since when it no longer holds,
    `acknowledged` when a person said they know, `notified` when a receiver of notices was told. `revision` is the
    contract's when it was found."""

    id: str
    drift: Drift
    found: float
    revision: int
    over: float | None = None
    ended: int = 0  # the number of the exchange it was over with
    acknowledged: float | None = None
    notified: float | None = None

    @property
    def confidence(self) -> float:
        """The probability of the change, if change and chance were as likely to begin with."""
        return round(1 / (1 + exp(-min(self.drift.evidence["odds"], 50))), 4)


@dataclass(frozen=True, slots=True)
class Chronicle:
    """An upstream's events, in order of telling. `judged` is the number of the last exchange that was judged."""

    events: tuple[Event, ...] = ()
    judged: int = 0

    def state(self) -> dict[str, Json]:
        """Return the chronicle as JSON; `load` is its inverse."""
        return {"version": 1, "judged": self.judged, "events": [asdict(one) for one in self.events]}


def load(state: dict[str, Any]) -> Chronicle:
    """Return the chronicle whose `state` this is."""
    events = (Event(**{**one, "drift": Drift(**one["drift"])}) for one in state["events"])
    return Chronicle(tuple(events), state["judged"])


def noted(
    kept: Chronicle, told: Sequence[Drift], operations: Sequence[Operation], now: float, revision: int
) -> Chronicle:
    """Return the chronicle with what is told of the operations that were called since it was judged."""
    last = max((operation.seen[-1].seq for operation in operations), default=0)
    since = news_since(kept, operations)
    judged = {unnamed(one.name): one for one in operations if one.seen[-1].seq > since}
    events = {one.id: _ended(one, judged, now) for one in kept.events}
    current = set()
    for drift in sorted(told, key=lambda one: one.evidence["answer"]):
        known = next((one for one in events.values() if _is_told_by(one, drift)), None)
        if known is None and any(_is_shadow(drift, one) for one in events.values()):
            continue
        if known is None:
            known = _ended(Event(_id(drift), drift, now, revision), judged, now)
        elif known.over is None:
            known = replace(known, drift=_agreed(known.drift, drift))
        events[known.id] = known
        current.add(known.id)
    for one in list(events.values()):
        stale = one.over is None and one.id not in current and unnamed(one.drift.operation) in judged
        if stale and any(_says_more(drift, one.drift) for drift in told):
            del events[one.id]
    return Chronicle(_in_bounds(events.values()), last)


def news_since(kept: Chronicle, operations: Sequence[Operation]) -> int:
    """Return the number of the last exchange that was judged: 0 where what was learned has begun anew since."""
    return kept.judged if any(one.seen[-1].seq >= kept.judged for one in operations) else 0


def acknowledged(kept: Chronicle, ids: Iterable[str], now: float) -> Chronicle:
    """Return the chronicle in which a person knows of the events named."""
    return _marked(kept, ids, lambda one: one if one.acknowledged is not None else replace(one, acknowledged=now))


def notified(kept: Chronicle, ids: Iterable[str], now: float) -> Chronicle:
    """Return the chronicle in which somebody was told of the events named."""
    return _marked(kept, ids, lambda one: replace(one, notified=now))


def _marked(kept: Chronicle, ids: Iterable[str], mark: Callable[[Event], Event]) -> Chronicle:
    named = set(ids)
    return replace(kept, events=tuple(mark(one) if one.id in named else one for one in kept.events))


def _id(drift: Drift) -> str:
    """Return what a change is known by: replicas that find the same one give it the same id."""
    parts = (unnamed(drift.operation), drift.kind, drift.where, drift.pointer, str(drift.evidence["answer"]))
    return blake2b("\n".join(parts).encode(), digest_size=6).hexdigest()


def _ended(event: Event, judged: Mapping[str, Operation], now: float) -> Event:
    """Return an event, over if the answers of its operation prove it."""
    operation = judged.get(unnamed(event.drift.operation))
    if event.over is not None or operation is None or (end := over(event.drift, operation)) is None:
        return event
    return replace(event, over=end.at if end.at >= 0 else now, ended=end.seq)


def _is_shadow(drift: Drift, event: Event) -> bool:
    """Whether a drift is but what an event that is over looks like by now: it was so, and is as it was before."""
    old = event.drift
    if event.over is None or (unnamed(drift.operation), drift.where) != (unnamed(old.operation), old.where):
        return False
    places = {old.before, old.after} if old.kind in PAIRED else {old.pointer}
    within = any(f"{drift.pointer}/".startswith(f"{place}/") for place in places)
    return within and old.evidence["answer"] <= drift.evidence["answer"] <= event.ended


def _is_told_by(event: Event, drift: Drift) -> bool:
    """Whether it is this event that a drift tells of: still, or of one that is over, still from before its end."""
    old, at = event.drift, drift.evidence["answer"]
    if (old.kind, old.where, old.pointer) != (drift.kind, drift.where, drift.pointer):
        return False
    if old.kind in PAIRED and old.after != drift.after:
        return False
    if event.over is not None and at >= event.ended:
        return False
    return unnamed(old.operation) == unnamed(drift.operation) or old.evidence["answer"] == at


def _agreed(old: Drift, new: Drift) -> Drift:
    """Return one change told twice: it began when it was first seen, and is as sure as it ever was."""
    first = old if old.evidence["answer"] <= new.evidence["answer"] else new
    surer = old if old.evidence["odds"] > new.evidence["odds"] else new
    evidence = {**surer.evidence, "answer": first.evidence["answer"]}
    return replace(new, evidence=evidence, first_seen=first.first_seen)


def _says_more(drift: Drift, old: Drift) -> bool:
    """Whether a drift tells of the same change as an older one, and better."""
    if (unnamed(drift.operation), drift.where) != (unnamed(old.operation), old.where):
        return False
    if drift.kind in PAIRED:
        halves = (("field-removed", drift.before), ("field-added", drift.after), ("became-optional", drift.before))
        if (old.kind, old.pointer) in halves:
            return True
    around = drift.kind == "envelope-changed" or f"{old.pointer}/".startswith(f"{drift.pointer}/")
    later = old.evidence["answer"] >= drift.evidence["answer"]
    return around and (later or (drift.kind, old.kind) == ("became-optional", "field-removed"))


def _in_bounds(events: Iterable[Event]) -> tuple[Event, ...]:
    kept = sorted(events, key=lambda one: (one.over is not None, -one.found))[:MAX_EVENTS]
    return tuple(sorted(kept, key=lambda one: (one.over is not None, in_order(one.drift))))


def unnamed(operation: str) -> str:
    """Return an operation without the names of its parameters: they are guesses, and guessed better later."""
    return re.sub(r"\{[^}]*\}", "{}", operation)

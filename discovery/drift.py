"""What changed at an upstream: told from its answers alone, with the evidence for it.

`drifts()` reads a `Watch` (what is remembered of the traffic) and returns a `Drift` for each change: the
operation, where in it, what was and what is, since when, how sure. Every question asked of an operation (did
this field come, go, become optional or nullable, take a new kind or value?) is answered by a Bayes factor
against the field's own noise (`discovery.drift_odds`), and only what exceeds `BEYOND_CHANCE` is told.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Any, TypeAlias

from discovery import traffic
from discovery.drift_fields import Change, changes, units_of
from discovery.drift_odds import Step
from discovery.drift_operations import come, gone, successor
from discovery.drift_pairs import Pair, pairs_of
from discovery.drift_requests import Demand, demands
from discovery.drift_sketch import kinds_in
from discovery.drift_watch import Seen, Watch, Words
from discovery.pointer import parent_of
from discovery.reasons import Reason
from discovery.templates import draw
from discovery.traffic import Evidence

BEYOND_CHANCE = log(200)
"""Odds (ln) that a change needs. The false-alarm budget: at most one question in 200 by theory (`drift_odds`), and
since hardly any field of an unchanged operation varies at all, below one operation in 100 as measured."""

LEAST = 3
"""Answers since a change without which nothing is told, however clear they are."""

SEVERITY = {
    "envelope-changed": "breaking",
    "operation-removed": "breaking",
    "became-required": "breaking",
    "field-removed": "breaking",
    "field-renamed": "breaking",
    "field-moved": "breaking",
    "type-changed": "breaking",
    "became-optional": "breaking",
    "became-nullable": "breaking",
    "enum-extended": "warning",
    "field-added": "info",
    "operation-added": "info",
}
"""As oasdiff judges a change of its direction: answers may gain, requests may relax. In order of telling."""

_ORDER = list(SEVERITY)

WHOLE = ("field-added", "field-removed", "type-changed")
"""Kinds that say all there is to say of what lies below the place."""

Place: TypeAlias = "tuple[str, tuple[str, ...]]"


@dataclass(frozen=True, slots=True)
class Drift:
    """One change. `evidence` counts looks, and entities among them; `p` there bounds the probability that chance
    alone shows as much. `first_seen` is epoch seconds, where the traffic told the time."""

    operation: str
    kind: str
    where: str
    pointer: str
    before: Any
    after: Any
    severity: str
    evidence: Mapping[str, Any]
    first_seen: float | None


@dataclass(frozen=True, slots=True)
class Operation:
    """All that is remembered of one operation, in order of its coming."""

    name: str
    seen: tuple[Seen, ...]
    words: Words


def drifts(watch: Watch, template_of: Callable[[Place], str]) -> list[Drift]:
    """Return what changed, the most severe first. `template_of` gives the path template of a stream's place."""
    return drifts_among(operations_of(watch, template_of))


def drifts_among(operations: Sequence[Operation], since: int = 0) -> list[Drift]:
    """Return what changed at those operations that were called after the exchange numbered `since`."""
    found: list[Drift] = []
    for operation in operations:
        if operation.seen[-1].seq <= since:
            continue
        if step := gone(operation.seen):
            found += _removed(operation, step, operations)
        elif step := come(operation.seen):
            since_then = operation.seen[step.at]
            found.append(
                _drift(operation.name, "operation-added", "path", "", None, operation.name, step, since_then)
            )
        found += _requests(operation)
        found += _answers(operation)
    return sorted(found, key=in_order)


def in_order(drift: Drift) -> tuple[int, str, str, str]:
    """The order of telling: the most severe first."""
    return _ORDER.index(drift.kind), drift.operation, drift.where, drift.pointer


def templates_of(evidence: Evidence, overrides: Sequence[str] = ()) -> Callable[[Place], str]:
    """Return how places of paths are named: by the templates that all evidence of the upstream gives."""
    names: dict[int, tuple[str, ...]] = {}

    def walk(place: traffic.Place, above: tuple[str, ...]) -> None:
        names[id(place)] = above
        for segment, child in place.children.items():
            walk(child, (*above, segment))

    walk(evidence.root, ())
    paths = {
        names[id(place)]: template.path for template in draw(evidence, overrides) for place in template.places
    }
    return lambda place: paths.get(place[1], "/" + "/".join(place[1]))


def operations_of(watch: Watch, template_of: Callable[[Place], str]) -> list[Operation]:
    """Return what is remembered, streams of one template as one operation."""
    streams = defaultdict(list)
    for place, stream in watch.streams.items():
        streams[f"{place[0]} {template_of(place)}"].append(stream)
    found = []
    for name, group in streams.items():
        seen = tuple(sorted((one for stream in group for one in stream.seen), key=lambda one: one.seq))
        words: Words = {}
        for stream in group:
            for pointer, told in stream.words.items():
                known = words.get(pointer, {})
                words[pointer] = None if told is None or known is None else {**known, **told}
        if seen:
            found.append(Operation(name, seen, words))
    return found


def _drift(
    operation: str,
    kind: str,
    where: str,
    pointer: str,
    before: Any,
    after: Any,
    step: Step,
    since: Seen,
    **more: Any,
) -> Drift:
    evidence = {
        "n_before": step.looks_before,
        "n_after": step.looks_after,
        "hits": step.looks_hit,
        "entities_before": step.before,
        "entities_after": step.after,
        "flipped": step.flips,
        "odds": round(step.odds, 1),
        "p": float(f"{exp(-step.odds):.1e}"),
        "answer": since.seq,
        **more,
    }
    at = since.at if since.at >= 0 else None
    return Drift(operation, kind, where, pointer, before, after, SEVERITY[kind], evidence, at)


# Operations


def _removed(operation: Operation, step: Step, operations: Sequence[Operation]) -> Iterator[Drift]:
    since = operation.seen[step.at]
    new = successor(operation, operations)
    yield _drift(
        operation.name, "operation-removed", "path", "", operation.name, new.name if new else None, step, since
    )
    if new:
        yield _drift(new.name, "operation-added", "path", "", operation.name, new.name, step, new.seen[0])


# Requests


def _requests(operation: Operation) -> Iterator[Drift]:
    found = list(demands(operation.seen))
    unknown = {(one.where, one.pointer) for one in found if one.reason is Reason.UNKNOWN}
    for one in found:
        if one.reason is Reason.UNKNOWN or (one.where, one.pointer) not in unknown:
            kind, before, after = _demanded(one)
            since = operation.seen[one.step.at]
            more: dict[str, Any] = {"reason": one.reason.value}
            if one.allowed:
                more["allowed"] = list(one.allowed)
            yield _drift(operation.name, kind, one.where, one.pointer, before, after, one.step, since, **more)


def _demanded(demand: Demand) -> tuple[str, str, str]:
    """Return kind, before and after of a demand. A narrower set of values is another type in the wide sense."""
    match demand.reason:
        case Reason.MISSING:
            return "became-required", "optional", "required"
        case Reason.UNKNOWN:
            return "field-removed", "accepted", "refused"
    return "type-changed", "accepted", f"refused ({demand.reason})"


# Answers


def _answers(operation: Operation) -> Iterator[Drift]:
    by_status: dict[int, list[Seen]] = defaultdict(list)
    for one in operation.seen:
        if one.answer.rows:
            by_status[one.status].append(one)
    for status, answers in by_status.items():
        yield from _status(operation, f"response.{status}", answers)


def _status(operation: Operation, where: str, answers: Sequence[Seen]) -> Iterator[Drift]:
    units = units_of(answers)
    found = list(changes(answers, units, lambda pointer: bool(operation.words.get(pointer))))
    likely = [change for change in found if change.step.odds >= BEYOND_CHANCE and change.step.looks_after >= LEAST]
    pairs = _pairs(likely, found, answers, units)
    if envelope := envelope_of(likely, answers, pairs):
        step, before, after = envelope
        yield _drift(operation.name, "envelope-changed", where, "", before, after, step, answers[step.at])
        return
    by_place = {(change.kind, change.pointer): change for change in likely}
    steps = {(change.kind, change.pointer): change for change in found}
    for pair in pairs:
        kind = "field-renamed" if parent_of(pair.before) == parent_of(pair.after) else "field-moved"
        change = max(
            (steps["field-removed", pair.before], steps["field-added", pair.after]), key=lambda one: one.step.odds
        )
        by_place.pop(("field-removed", pair.before), None)
        by_place.pop(("field-added", pair.after), None)
        yield _drift(
            operation.name,
            kind,
            where,
            pair.before,
            pair.before,
            pair.after,
            change.step,
            answers[change.step.at],
            same=pair.same,
            compared=pair.compared,
            sure=pair.sure,
        )
    roots = {
        change.pointer for change in likely if change.kind in ("field-added", "field-removed", "type-changed")
    }
    renamed = {pair.before for pair in pairs}
    told: set[tuple[str, str]] = set()
    for change in by_place.values():
        if any(change.pointer.startswith(root + "/") for root in roots):
            continue
        if (change.kind, change.pointer) in told or _is_part_of_another(change, likely, renamed):
            continue
        told.add((change.kind, change.pointer))
        before, after = _told(change, answers, operation.words)
        yield _drift(
            operation.name, change.kind, where, change.pointer, before, after, change.step, answers[change.step.at]
        )


def _is_part_of_another(change: Change, likely: Sequence[Change], renamed: Container[str]) -> bool:
    """A field that went is not optional; one of a new kind may be null as part of that."""
    covers = {"became-optional": "field-removed", "became-nullable": "type-changed"}.get(change.kind)
    return change.pointer in renamed or any(
        other.kind == covers and other.pointer == change.pointer for other in likely
    )


def _pairs(
    likely: Sequence[Change], found: Sequence[Change], answers: Sequence[Seen], units: Sequence[int]
) -> list[Pair]:
    """Pair what went with what came. One half need not be proved by itself: the same values prove both."""

    def places(among: Sequence[Change], kind: str) -> list[str]:
        return [
            change.pointer
            for change in among
            if change.kind == kind and change.step.odds > 0 and change.step.looks_after >= LEAST
        ]

    went, came = places(likely, "field-removed"), places(likely, "field-added")
    if not went and not came:
        return []
    maybe_went = places(found, "field-removed") if came else went
    maybe_came = places(found, "field-added") if went else came
    pairs = pairs_of(maybe_went, maybe_came, answers, units)
    return [
        pair
        for pair in pairs
        if (pair.before in went and pair.after in came)
        or (pair.sure and (pair.before in went or pair.after in came))
    ]


def envelope_of(
    likely: Sequence[Change], answers: Sequence[Seen], pairs: Sequence[Pair]
) -> tuple[Step, Any, Any] | None:
    """Tell whether the answer as a whole took another form: its kind, or most of its outermost names."""
    for change in likely:
        if change.pointer.count("/") > 1 or change.kind not in WHOLE:
            continue
        old, new = (outer_names(part) for part in (answers[: change.step.at], answers[change.step.at :]))
        if not old or not new:
            continue
        if not change.pointer and change.kind == "type-changed":
            return change.step, sorted(old), sorted(new)
        if len(old & new) < 0.5 * len(old | new):
            paired = {pair.before for pair in pairs}
            lost = {change.pointer for change in likely if change.kind == "field-removed"}
            gained = {change.pointer for change in likely if change.kind == "field-added"}
            if gained & new and (not old & new or lost & old) and not old - new <= paired:
                return change.step, sorted(old), sorted(new)
    return None


def outer_names(answers: Sequence[Seen]) -> set[str]:
    """The outermost names of answers; of lists and scalars, their kind."""
    names: set[str] = set()
    for seen in answers:
        root = seen.answer.rows[0]
        names |= {row.pointer for row in seen.answer.rows if row.pointer.count("/") == 1}
        if not root.objects:
            names |= set(kinds_in(root.mask))
    return names


def _told(change: Change, answers: Sequence[Seen], words: Words) -> tuple[Any, Any]:
    """Return what was and what is, in words or values."""
    old, new = (_mask(part, change.pointer) for part in (answers[: change.step.at], answers[change.step.at :]))
    match change.kind:
        case "field-added":
            return None, " or ".join(kinds_in(new))
        case "field-removed":
            return " or ".join(kinds_in(old)), None
        case "became-optional":
            return "always there", "optional"
        case "enum-extended":
            known = words.get(change.pointer) or {}
            values = sorted((value for told, value in known.items() if told not in change.values), key=str)
            return values, values + sorted((v for told, v in known.items() if told in change.values), key=str)
    return " or ".join(kinds_in(old)), " or ".join(kinds_in(new))


def _mask(answers: Sequence[Seen], pointer: str) -> int:
    mask = 0
    for seen in answers:
        for row in seen.answer.rows:
            if row.pointer == pointer:
                mask |= row.mask
    return mask

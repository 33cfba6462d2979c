"""Whether a change that was told is over: what it says was so, and since some moment never was again.

It is the question of `discovery.drift_fields` once more, asked of the answers since the change alone. So a field
that went is back when its absence ended, a type that changed has changed back when its new kind came no more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from discovery.drift import BEYOND_CHANCE, LEAST, Drift, Operation, outer_names
from discovery.drift_fields import Cell, looks_at, tables, units_of
from discovery.drift_odds import Look, Step, end
from discovery.drift_operations import telling
from discovery.drift_requests import looks_of
from discovery.drift_sketch import NULL, mask_of
from discovery.drift_watch import GONE, Seen
from discovery.reasons import Reason


def over(drift: Drift, operation: Operation) -> Seen | None:
    """Return the first exchange with `operation` from which the change is over; None while it stands."""
    since = drift.evidence["answer"]
    tail = [seen for seen in operation.seen if seen.seq >= since]
    if drift.kind == "operation-removed":
        step = end([(index, one.entity or -index - 1, one.status in GONE) for index, one in telling(tail)])
    elif drift.where in ("request.body", "request.query"):
        looks = looks_of(drift.where, drift.pointer, Reason(drift.evidence["reason"]), operation.seen)
        tail = list(operation.seen)
        step = end([look for look in looks if tail[look[0]].seq >= since])
    elif drift.where.startswith("response."):
        tail = [seen for seen in tail if seen.answer.rows and f"response.{seen.status}" == drift.where]
        step = end(_looks(drift, operation, tail))
    else:
        step = None
    return tail[step.at] if step is not None and _is_sure(step) else None


def _is_sure(step: Step) -> bool:
    return step.odds >= BEYOND_CHANCE and step.looks_after >= LEAST


def _looks(drift: Drift, operation: Operation, tail: Sequence[Seen]) -> list[Look]:
    """Return, answer by answer, whether it was as the change says."""
    units = units_of(tail)
    if drift.kind == "envelope-changed":
        old, new = set(drift.before), set(drift.after)
        names = [outer_names([seen]) for seen in tail]
        return [(index, units[index], len(told & new) > len(told & old)) for index, told in enumerate(names)]
    return looks_at(tables(tail).get(drift.pointer, []), units, _as_told(drift, operation))


def _as_told(drift: Drift, operation: Operation) -> Callable[[Cell], bool]:
    match drift.kind:
        case "field-added":
            return lambda cell: cell.present > 0
        case "field-removed" | "field-renamed" | "field-moved":
            return lambda cell: not cell.present
        case "became-optional":
            return lambda cell: cell.present < cell.holders
        case "became-nullable":
            return lambda cell: bool(cell.mask & NULL)
        case "type-changed":
            new = mask_of(drift.after) & ~mask_of(drift.before)
            return lambda cell: bool(cell.mask & new)
        case "enum-extended":
            known = operation.words.get(drift.pointer) or {}
            values = {told for told, value in known.items() if value not in drift.before}
            return lambda cell: not values.isdisjoint(cell.hashes)
    return lambda _: True

"""Which fields of an operation's answers changed, and when: the looks at each place, judged one by one.

`tables()` lays the sketches of one operation side by side: at each place, one `Cell` for every answer in which the
place could have been (its parent object was there). `units_of()` says which answers are about the same entity.
`changes()` asks of every place whether it came, went, became optional or nullable, or took a new kind or value.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from discovery.drift_odds import Look, Step, end, onset
from discovery.drift_sketch import NULL, STRONG
from discovery.drift_watch import Seen
from discovery.pointer import parent_of

FEW = 4
"""Keys below which an object is no map: too few to tell a habit."""

SETTLED = 8
"""Entities whose values must be known before a set of values can be held for closed."""


class Cell(NamedTuple):
    """One place in one answer: how many objects could have had it, how many did, as which kinds and values.
    `answer` is the answer's index."""

    answer: int
    holders: int
    present: int
    mask: int
    hashes: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Change:
    """One thing that became so at one place. `mask` holds kinds that are new, `values` the hashes that are."""

    kind: str
    pointer: str
    step: Step
    mask: int = 0
    values: frozenset[int] = frozenset()


Tables = dict[str, list[Cell]]


def tables(answers: Sequence[Seen]) -> Tables:
    """Return the cells of every place, in the order of the answers."""
    members: dict[str, list[str]] = defaultdict(list)
    known: set[str] = set()
    for seen in answers:
        for row in seen.answer.rows:
            if row.pointer not in known:
                known.add(row.pointer)
                if row.pointer and not row.pointer.endswith("/*"):
                    members[parent_of(row.pointer)].append(row.pointer)
    found: Tables = defaultdict(list)
    for index, seen in enumerate(answers):
        here = {row.pointer: (row, told) for row, told in zip(seen.answer.rows, seen.answer.hashes, strict=True)}
        for row, told in here.values():
            if not row.pointer or row.pointer.endswith("/*"):
                found[row.pointer].append(Cell(index, row.present, row.present, row.mask, told))
            for member in members[row.pointer] if row.objects else ():
                below = here.get(member)
                if below is None:
                    found[member].append(Cell(index, row.objects, 0, 0, ()))
                else:
                    inner, told_below = below
                    found[member].append(Cell(index, row.objects, inner.present, inner.mask, told_below))
    return found


def units_of(answers: Sequence[Seen]) -> list[int]:
    """Number the entities the answers are about: answers with the same telling values are of the same one."""
    telling = [
        frozenset(value for told in seen.answer.hashes for value in told if value & STRONG) for seen in answers
    ]
    common = Counter(value for values in telling for value in values)
    ceiling = max(8, len(answers) * 0.15)
    units: list[int] = []
    by_value: dict[int, list[int]] = defaultdict(list)
    by_entity: dict[int, int] = {}
    sizes: list[int] = []
    for index, seen in enumerate(answers):
        values = [value for value in telling[index] if common[value] <= ceiling]
        sizes.append(len(values))
        votes = Counter(other for value in values for other in by_value[value])
        best, shared = votes.most_common(1)[0] if votes else (-1, 0)
        twin = by_entity.get(seen.entity, -1) if seen.entity else -1
        least = min(len(values), sizes[twin]) if twin >= 0 else 0
        if twin >= 0 and (least < 3 or votes[twin] >= 0.3 * least):
            unit = units[twin]
        elif (
            best >= 0
            and shared >= 0.5 * (least := min(len(values), sizes[best]))
            and (shared >= 3 or least == shared)
        ):
            unit = units[best]
        else:
            unit = index
        units.append(unit)
        for value in values:
            by_value[value].append(index)
        if seen.entity:
            by_entity[seen.entity] = index
    return units


def looks_at(cells: Sequence[Cell], units: Sequence[int], so: Callable[[Cell], bool]) -> list[Look]:
    return [(cell.answer, units[cell.answer], so(cell)) for cell in cells]


def is_map(found: Tables, members: Sequence[str]) -> bool:
    """Tell whether an object's keys are data: new ones keep coming, most of them in one or two answers only."""
    rare = sum(sum(cell.present > 0 for cell in found[member]) <= 2 for member in members)
    return len(members) >= FEW and rare > 0.5 * len(members)


def changes(answers: Sequence[Seen], units: Sequence[int], closed: Callable[[str], bool]) -> Iterator[Change]:
    """Yield everything that became so at some place, with its odds, likely or not.

    `closed` tells whether a place holds a closed set of values, so far as is known.
    """
    found = tables(answers)
    members: dict[str, list[str]] = defaultdict(list)
    for pointer in found:
        if pointer and not pointer.endswith("/*"):
            members[parent_of(pointer)].append(pointer)
    maps = {pointer for pointer in members if is_map(found, members[pointer])}
    for pointer, cells in found.items():
        if any(pointer.startswith(one + "/") for one in maps):
            continue
        if pointer and not pointer.endswith("/*"):
            yield from _presence(pointer, cells, units)
        yield from _kinds(pointer, cells, units)
        if closed(pointer):
            yield from _values(pointer, cells, units)


def _presence(pointer: str, cells: Sequence[Cell], units: Sequence[int]) -> Iterator[Change]:
    """A field that first became optional and then went, or came and went, is judged in each of its times."""
    has = looks_at(cells, units, lambda cell: cell.present > 0)
    lacks = looks_at(cells, units, lambda cell: cell.present < cell.holders)
    if came := onset(has):
        yield Change("field-added", pointer, came)
    optional = onset(lacks)
    went = end(has)
    if went and optional and optional.at < went.at:
        went = end([look for look in has if look[0] >= optional.at]) if optional.odds > went.odds else went
    if went:
        yield Change("field-removed", pointer, went)
        optional = onset([look for look in lacks if look[0] < went.at]) or optional
    if optional and any(cell.present for cell in cells if cell.answer >= optional.at):
        yield Change("became-optional", pointer, optional)


def _kinds(pointer: str, cells: Sequence[Cell], units: Sequence[int]) -> Iterator[Change]:
    there = [cell for cell in cells if cell.present]
    if (nulls := onset(looks_at(there, units, lambda cell: bool(cell.mask & NULL)))) and any(
        cell.mask & ~NULL for cell in there if cell.answer < nulls.at
    ):
        yield Change("became-nullable", pointer, nulls, NULL)
    valued = [cell for cell in there if cell.mask & ~NULL]
    for bit in (2, 4, 8, 16, 32):
        if step := onset(looks_at(valued, units, lambda cell, bit=bit: bool(cell.mask & bit))):  # type: ignore[misc]
            yield Change("type-changed", pointer, step, bit)


def _values(pointer: str, cells: Sequence[Cell], units: Sequence[int]) -> Iterator[Change]:
    """A new value of a closed set: before it came, every value had come at least twice."""
    there = [cell for cell in cells if cell.hashes]
    firsts: dict[int, int] = {}
    for cell in there:
        for value in cell.hashes:
            firsts.setdefault(value, cell.answer)
    for at in sorted(set(firsts.values())):
        old = Counter(value for cell in there if cell.answer < at for value in cell.hashes)
        known = {units[cell.answer] for cell in there if cell.answer < at}
        if not old or min(old.values()) < 2 or len(known) < max(SETTLED, 3 * len(old)):
            continue
        new = frozenset(value for value in firsts if value not in old)
        step = onset(looks_at(there, units, lambda cell, new=new: any(v in new for v in cell.hashes)))  # type: ignore[misc]
        if step:
            yield Change("enum-extended", pointer, step, 0, new)

"""What an upstream newly demands of requests, or newly refuses: told by its refusals, against what it accepted.

A refusal alone proves nothing: the caller may be at fault. So two things are asked of each place that refusals
name. Were requests like these accepted before, as often as not to be luck? And are they refused since? *Like*
means, by the reason given: lacking the same member; having it at all; having it as the same kind; in the same
form; as long; with the same value.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from math import log

from discovery.drift_odds import Look, Step, onset
from discovery.drift_sketch import Row, Sketch, form_in, length_in, value_in
from discovery.drift_watch import Seen
from discovery.pointer import name_of, parent_of
from discovery.reasons import Reason

SAID = log(100)
"""Odds (ln) from which a demand counts as new: the upstream itself names the place, so few refusals do."""

LEAST = 3
"""Refusals without which no demand counts as new."""

STATEFUL = 5
"""Refusals of a value out of range without which it counts as no new rule: a stock or a balance may be used up."""

Spot = tuple[str, str]
"""(where, pointer), where is `request.body` or `request.query`."""


@dataclass(frozen=True, slots=True)
class Demand:
    """A place that requests must have now (`missing`), or that is refused now for `reason`."""

    where: str
    pointer: str
    reason: Reason
    step: Step
    allowed: tuple[str, ...] = ()


def demands(seen: Sequence[Seen]) -> Iterator[Demand]:
    """Yield what is newly demanded of requests, or newly refused."""
    for (where, pointer), names in homes(seen, Reason.MISSING).items():
        step = onset(_lacking(seen, where, pointer, names))
        if step and step.odds >= SAID and step.looks_hit >= LEAST:
            yield Demand(where, pointer, Reason.MISSING, step)
    for reason in _ALIKE:
        for (where, pointer), names in homes(seen, reason).items():
            looks = _refused(seen, where, pointer, reason, names)
            step = onset(looks)
            least = STATEFUL if reason is Reason.RANGE else LEAST
            if step and step.odds >= SAID and step.looks_hit == step.looks_after >= least:
                allowed = {
                    word for one in seen for told in one.refusals if told.spot in names for word in told.allowed
                }
                yield Demand(where, pointer, reason, step, tuple(sorted(allowed)))


def looks_of(where: str, pointer: str, reason: Reason, seen: Sequence[Seen]) -> list[Look]:
    """Return, request by request, whether it was refused as a demand says."""
    names = homes(seen, reason).get((where, pointer), {(where, pointer)})
    if reason is Reason.MISSING:
        return _lacking(seen, where, pointer, names)
    return _refused(seen, where, pointer, reason, names)


def homes(seen: Sequence[Seen], reason: Reason) -> dict[Spot, set[Spot]]:
    """Return each place with what refusals called it. Many say the name alone: it goes where requests have it."""
    bodies = {row.pointer for one in seen for row in one.body.rows}
    queries = {row.pointer for one in seen for row in one.query.rows}
    named = sorted({told.spot for one in seen for told in one.refusals if told.reason == reason})
    found: dict[Spot, set[Spot]] = defaultdict(set)
    for where, pointer in named:
        home = (where, pointer)
        if pointer not in (bodies if where == "request.body" else queries):
            kin = [("request.body", one) for one in bodies if name_of(one) == name_of(pointer)]
            kin += [("request.query", one) for one in queries if name_of(one) == name_of(pointer)]
            if len(kin) == 1:
                home = kin[0]
        found[home].add((where, pointer))
    return found


def lacks(rows: Sequence[Row], pointer: str) -> bool:
    """Tell whether an object that could hold `pointer` is there without it."""
    by_pointer = {row.pointer: row for row in rows}
    holder = by_pointer.get(parent_of(pointer))
    if holder is None:
        return not rows and pointer.count("/") == 1
    own = by_pointer.get(pointer)
    return holder.objects > (own.present if own else 0)


def _sent(one: Seen, where: str) -> Sketch:
    return one.query if where == "request.query" else one.body


def _names(one: Seen, reason: Reason, names: set[Spot]) -> bool:
    """Whether it was refused for that reason, at one of those places."""
    return any(told.reason == reason and told.spot in names for told in one.refusals)


def _lacking(seen: Sequence[Seen], where: str, pointer: str, names: set[Spot]) -> list[Look]:
    return [
        (index, index, refused)
        for index, one in enumerate(seen)
        if ((refused := _names(one, Reason.MISSING, names)) or one.status < 400)
        and lacks(_sent(one, where).rows, pointer)
    ]


def _refused(seen: Sequence[Seen], where: str, pointer: str, reason: Reason, names: set[Spot]) -> list[Look]:
    """Look at the requests that are like those refused, and like some that were accepted before."""
    marks_of = _ALIKE[reason]
    told: list[tuple[int, bool, frozenset[int]]] = []
    for index, one in enumerate(seen):
        refused = _names(one, reason, names)
        if (refused or one.status < 400) and (marks := marks_of(_sent(one, where), pointer)):
            told.append((index, refused, marks))
    first = next((place for place, (_, refused, _) in enumerate(told) if refused), None)
    if not first:
        return []
    accepted = frozenset[int]().union(*(marks for _, _, marks in told[:first]))
    if reason is Reason.LENGTH:
        accepted = frozenset(range(min(accepted), max(accepted) + 1))
    refusing = [marks & accepted for _, refused, marks in told[first:] if refused]
    alike = frozenset[int]().union(*refusing)
    if reason is Reason.LENGTH and alike:
        alike = frozenset(range(min(alike), max(alike) + 1))
    return [(index, index, refused) for index, refused, marks in told if marks & alike]


def _marks(read: Callable[[int], int]) -> Callable[[Sketch, str], frozenset[int]]:
    def at(sent: Sketch, pointer: str) -> frozenset[int]:
        for row, told in zip(sent.rows, sent.hashes, strict=True):
            if row.pointer == pointer:
                return frozenset(read(mark) for mark in told)
        return frozenset()

    return at


def _kinds(sent: Sketch, pointer: str) -> frozenset[int]:
    return frozenset(row.mask for row in sent.rows if row.pointer == pointer)


def _presence(sent: Sketch, pointer: str) -> frozenset[int]:
    return frozenset(1 for row in sent.rows if row.pointer == pointer)


_ALIKE: dict[Reason, Callable[[Sketch, str], frozenset[int]]] = {
    Reason.UNKNOWN: _presence,
    Reason.TYPE: _kinds,
    Reason.ENUM: _marks(value_in),
    Reason.RANGE: _marks(value_in),
    Reason.LENGTH: _marks(length_in),
    Reason.FORMAT: _marks(form_in),
}
"""What makes two requests alike at a place, by the reason one of them was refused for."""

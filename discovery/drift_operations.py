"""Which operations went, where they went to, and what requests newly lack: told by refusals."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log
from typing import Protocol

from discovery.drift_odds import Step, end, onset
from discovery.drift_sketch import STRONG, Row
from discovery.drift_watch import GONE, REFUSED, Seen
from discovery.pointer import name_of, parent_of

CERTAIN = log(1e4)
"""Odds (ln) from which an operation counts as gone: there is one question only, but a grave one."""

SAID = log(100)
"""Odds (ln) from which a member counts as newly required: the upstream itself names it, so few refusals do."""

LEAST = 5
"""Refusals without one success between them, before an operation can count as gone."""


class Known(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def seen(self) -> tuple[Seen, ...]: ...


def gone(seen: Sequence[Seen]) -> Step | None:
    """Tell since when an operation is answered as if it had never been; None while it is there.

    Answers that tell nothing of it (limits, failures of the server, of the caller's credentials) do not count.
    """
    telling = [(index, one) for index, one in enumerate(seen) if one.status < 400 or one.status in GONE | REFUSED]
    step = end([(index, one.entity or -index - 1, one.status not in GONE) for index, one in telling])
    if step is None or step.odds < CERTAIN or step.looks_after < LEAST or step.after < 3:
        return None
    return step


def successor(old: Known, operations: Sequence[Known]) -> Known | None:
    """Return the operation that took the place of one that is gone: first seen when it went, telling the same."""
    alive = [one for one in old.seen if one.status < 400]
    if not alive:
        return None
    best, most = None, 0.0
    for new in operations:
        later = [one for one in new.seen if one.status < 400]
        if new.name == old.name or not later or new.seen[0].seq <= alive[-1].seq:
            continue
        mine, theirs = _values(alive), _values(later)
        places, others = _places(alive), _places(later)
        shape = len(places & others) / len(places | others) if places | others else 0.0
        score = shape + min(len(mine & theirs), 5) / 5 + _kin(old.name, new.name)
        if score > max(1.0, most):
            best, most = new, score
    return best


def _values(answers: Sequence[Seen]) -> set[int]:
    return {v for one in answers for told in one.answer.hashes for v in told if v & STRONG}


def _places(answers: Sequence[Seen]) -> set[str]:
    return {row.pointer for one in answers for row in one.answer.rows}


def _kin(one: str, other: str) -> float:
    mine, theirs = ({part for part in name.replace(" ", "/").split("/") if part} for name in (one, other))
    return len(mine & theirs) / len(mine | theirs)


def newly_required(seen: Sequence[Seen]) -> Iterator[tuple[tuple[str, str], Step]]:
    """Yield members that requests could lack once, and since some moment are refused for lacking."""
    named = sorted({place for one in seen for place in one.missing})
    for place, aliases in _at_home(named, seen).items():
        where, pointer = place
        looks = [
            (index, index, not aliases.isdisjoint(one.missing))
            for index, one in enumerate(seen)
            if (one.status < 400 or not aliases.isdisjoint(one.missing))
            and lacks(one.query if where == "request.query" else one.body, pointer)
        ]
        step = onset(looks)
        if step and step.odds >= SAID and step.looks_hit >= 3:
            yield place, step


def _at_home(
    named: Sequence[tuple[str, str]], seen: Sequence[Seen]
) -> dict[tuple[str, str], set[tuple[str, str]]]:
    """Return each place with what refusals called it. Many say the name alone: it goes where requests have it."""
    bodies = {row.pointer for one in seen for row in one.body}
    queries = {row.pointer for one in seen for row in one.query}
    found: dict[tuple[str, str], set[tuple[str, str]]] = {}
    for where, pointer in named:
        home = (where, pointer)
        if pointer not in (bodies if where == "request.body" else queries):
            kin = [("request.body", one) for one in bodies if name_of(one) == name_of(pointer)]
            kin += [("request.query", one) for one in queries if name_of(one) == name_of(pointer)]
            if len(kin) == 1:
                home = kin[0]
        found.setdefault(home, set()).add((where, pointer))
    return found


def lacks(rows: Sequence[Row], pointer: str) -> bool:
    """Tell whether an object that could hold `pointer` is there without it."""
    by_pointer = {row.pointer: row for row in rows}
    holder = by_pointer.get(parent_of(pointer))
    if holder is None:
        return not rows and pointer.count("/") == 1
    own = by_pointer.get(pointer)
    return holder.objects > (own.present if own else 0)

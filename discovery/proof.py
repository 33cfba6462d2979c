"""Whether what stands at one place now is what stood at another before: told by values, entity by entity.

Values are keyed hashes (`discovery.drift_sketch`). Agreement is weighed in bits: that an entity shows the value
it had says much where few entities share that value, and nothing where all do. A place that had a *twin*, another
place with the same values all along, proves nothing: what came may be either.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from math import log2
from typing import TypeAlias

from discovery.drift_fields import units_of
from discovery.drift_pairs import below
from discovery.drift_watch import Seen

BITS = 9.0
"""Bits of agreement that prove a place: chance agrees once in 500."""

ENTITIES = 5
"""Entities without which nothing is proved, however telling their values are."""

TELLING = 3.0
"""Bits an entity's value must tell on average: flags, states and other sets of up to eight agree by nature."""

DISTINCT = 0.9
"""The share of those bits that is enough where few entities are known: what all being different would tell."""

CONTRADICTED = 3
"""Entities that must show another value below a place before it speaks against the place as a whole."""

ALIKE = 0.8
"""Share of the values below a place that must be the same for an entity to agree; lists shift."""

Values: TypeAlias = "Counter[tuple[str, int]]"


@dataclass(frozen=True, slots=True)
class Agreement:
    """`same` of `compared` entities show at one place what they showed at the other; chance would do so with
    2 ** -`bits`. `known` are all that were seen before."""

    same: int = 0
    compared: int = 0
    bits: float = 0.0
    known: int = 0

    @property
    def proves(self) -> bool:
        """One entity that disagrees is enough against it: a look-alike mostly agrees."""
        if not self.same == self.compared >= ENTITIES:
            return False
        return self.bits >= max(BITS, self.same * min(TELLING, DISTINCT * log2(self.known)))


@dataclass(frozen=True)
class Eras:
    """The answers of one operation and status before a change and since, with the entities they are about."""

    old: Sequence[Seen] = ()
    new: Sequence[Seen] = ()
    units: dict[int, int] = field(default_factory=dict)  # by the answers' number

    @property
    def met(self) -> int:
        """How many entities were seen before and since."""
        return len({self.units[seen.seq] for seen in self.old} & {self.units[seen.seq] for seen in self.new})

    def agreement(self, before: str, after: str) -> Agreement:
        """Compare what entities last showed at `before` with what they first showed at `after`."""
        old = {self.units[seen.seq]: values for seen in self.old if (values := below(seen, before))}
        new = {self.units[seen.seq]: values for seen in reversed(self.new) if (values := below(seen, after))}
        return _agreement(old, new)

    def contradicted(self, before: str, after: str) -> list[str]:
        """Return what below two places is another value now for most entities, though it is none that lives.

        A payload may be the same as a whole and yet have two members swapped, or one in other units.
        """
        old = {self.units[seen.seq]: leaves(seen, before) for seen in self.old}
        new = {self.units[seen.seq]: leaves(seen, after) for seen in reversed(self.new)}
        compared: Counter[str] = Counter()
        same: Counter[str] = Counter()
        for unit in old.keys() & new.keys():
            for rest, told in old[unit].items():
                if rest in new[unit]:
                    compared[rest] += 1
                    same[rest] += told == new[unit][rest]
        return [
            rest
            for rest, count in compared.items()
            if count >= CONTRADICTED
            and 2 * same[rest] < count
            and not self._lives(self.old, before + rest)
            and not self._lives(self.new, after + rest)
        ]

    def _lives(self, answers: Sequence[Seen], place: str) -> bool:
        """Whether a place shows another value with most entities that were seen twice."""
        told: dict[int, list[tuple[int, ...]]] = defaultdict(list)
        for seen in answers:
            if (values := leaves(seen, place).get("")) is not None:
                told[self.units[seen.seq]].append(values)
        again = [len(set(values)) > 1 for values in told.values() if len(values) > 1]
        return bool(again) and 2 * sum(again) >= len(again)

    def twins(self, place: str) -> list[str]:
        """Return other places whose values were those of `place` all along, so far as they were there."""
        mine = {self.units[seen.seq]: values for seen in self.old if (values := below(seen, place))}
        others = {row.pointer for seen in self.old for row in seen.answer.rows if row.pointer}
        found = []
        for other in sorted(others):
            if f"{other}/".startswith(f"{place}/") or f"{place}/".startswith(f"{other}/"):
                continue
            theirs = {self.units[seen.seq]: values for seen in self.old if (values := below(seen, other))}
            met = _agreement(mine, theirs)
            if met.same >= max(2, 0.8 * min(met.compared, len(mine))):
                found.append(other)
        return found


def leaves(seen: Seen, place: str) -> dict[str, tuple[int, ...]]:
    """Return the values of one answer at and below a place, by the rest of their pointers."""
    start = place + "/"
    return {
        row.pointer[len(place) :]: tuple(sorted(told))
        for row, told in zip(seen.answer.rows, seen.answer.hashes, strict=True)
        if told and (row.pointer == place or row.pointer.startswith(start))
    }


def eras_of(answers: Sequence[Seen], since: int, status: int) -> Eras:
    """Part the answers of one status at the one numbered `since`, the first that showed the change."""
    told = [seen for seen in answers if seen.status == status and seen.answer.rows]
    units = dict(zip((seen.seq for seen in told), units_of(told), strict=True))
    return Eras([s for s in told if s.seq < since], [s for s in told if s.seq >= since], units)


def _agreement(old: dict[int, Values], new: dict[int, Values]) -> Agreement:
    both = [unit for unit in old if unit in new]
    same = [unit for unit in both if _alike(old[unit], new[unit])]
    looks = Counter(frozenset(values.items()) for values in old.values())
    bits = sum(-log2(looks[frozenset(old[unit].items())] / len(old)) for unit in same)
    return Agreement(len(same), len(both), bits, len(old))


def _alike(old: Values, new: Values) -> bool:
    return (old & new).total() >= ALIKE * max(old.total(), new.total())

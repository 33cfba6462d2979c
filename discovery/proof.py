"""Whether what stands at one place now is what stood at another before: told by values, entity by entity.

Values are keyed hashes (`discovery.drift_sketch`). Agreement is weighed in bits: that an entity shows the value
it had says much where few entities share that value, and nothing where all do. A place that had a *twin*, another
place with the same values all along, proves nothing: what came may be either.
"""

from __future__ import annotations

from collections import Counter
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

TELLING = 2.0
"""Bits an entity's value must tell on average. Flags and small sets agree by chance, or nearly agree by nature."""

ALIKE = 0.8
"""Share of the values below a place that must be the same for an entity to agree; lists shift."""

Values: TypeAlias = "Counter[tuple[str, int]]"


@dataclass(frozen=True, slots=True)
class Agreement:
    """`same` of `compared` entities show at one place what they showed at the other; chance would do so with
    2 ** -`bits`."""

    same: int = 0
    compared: int = 0
    bits: float = 0.0

    @property
    def proves(self) -> bool:
        """One entity that disagrees is enough against it: a look-alike mostly agrees."""
        telling = max(BITS, TELLING * self.same)
        return self.same == self.compared >= ENTITIES and self.bits >= telling


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
    return Agreement(len(same), len(both), bits)


def _alike(old: Values, new: Values) -> bool:
    return (old & new).total() >= ALIKE * max(old.total(), new.total())

"""Which field that went is which field that came: renames and moves, by joint evidence.

A field that went is held for one that came when, at the same moment, the same entities show the same values under
the new place: not once, not one constant everywhere, and no other candidate fits as well. Names alone pair nothing
that values contradict. Where two candidates fit alike, nothing is paired: a wrong pair is worse than none.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import SequenceMatcher

from discovery.drift_watch import Seen
from discovery.lexical import words_of
from discovery.pointer import name_of, parent_of

SAME = 0.7
"""Share of entities that must show the same value under both places; some values change with time."""

ALIKE = 0.6
"""Share of the values below a place that must agree for an entity's to count as the same."""

CLEAR = 0.3
"""How much more alike a name must be to decide between candidates whose values fit equally well."""


@dataclass(frozen=True, slots=True)
class Pair:
    """A field that went and one that came, held for the same: `same` of `compared` entities show it."""

    before: str
    after: str
    same: int
    compared: int
    distinct: int
    likeness: float
    contested: bool = False

    @property
    def score(self) -> float:
        return self.same / self.compared if self.compared else 0.0

    @property
    def sure(self) -> bool:
        """Whether values alone prove it: several entities, several values, no other candidate as good."""
        return not self.contested and self.same >= 2 and self.distinct >= 2 and self.score >= SAME


Values = Mapping[tuple[str, int], int]


def below(seen: Seen, pointer: str) -> Counter[tuple[str, int]]:
    """Return the values at and below a place of one answer, as (rest of the pointer, hash) with their counts."""
    found: Counter[tuple[str, int]] = Counter()
    start = pointer + "/"
    for row, told in zip(seen.answer.rows, seen.answer.hashes, strict=True):
        if row.pointer == pointer or row.pointer.startswith(start):
            found.update((row.pointer[len(pointer) :], value) for value in told)
    return found


def compare(before: str, after: str, answers: Sequence[Seen], units: Sequence[int]) -> Pair:
    """Compare what entities showed at `before`, at last, with what they showed at `after`, at first."""
    old: dict[int, Counter[tuple[str, int]]] = {}
    new: dict[int, Counter[tuple[str, int]]] = {}
    for seen, unit in zip(answers, units, strict=True):
        if values := below(seen, before):
            old[unit] = values
        if unit not in new and (values := below(seen, after)):
            new[unit] = values
    both = [unit for unit in old if unit in new]
    same = [unit for unit in both if _alike(old[unit], new[unit])]
    distinct = len({frozenset(new[unit].items()) for unit in same})
    return Pair(before, after, len(same), len(both), distinct, likeness(name_of(before), name_of(after)))


def pairs_of(
    went: Sequence[str], came: Sequence[str], answers: Sequence[Seen], units: Sequence[int]
) -> list[Pair]:
    """Pair places that went with places that came."""
    found = [compare(old, new, answers, units) for old in went for new in came if not _coexist(old, new, answers)]
    fitting = [pair for pair in found if _fits(pair, answers)]
    taken: list[Pair] = []
    for pair in sorted(fitting, key=_rank):
        if any(pair.before == other.before or pair.after == other.after for other in taken):
            continue
        rivals = [
            other
            for other in fitting
            if other is not pair
            and (other.before == pair.before) != (other.after == pair.after)
            and other.score >= pair.score - 0.1
            and other.sure >= pair.sure
            and not any(other.before == one.before or other.after == one.after for one in taken)
        ]
        if all(pair.likeness >= other.likeness + CLEAR for other in rivals):
            taken.append(replace(pair, contested=bool(rivals)))
    return taken


def _rank(pair: Pair) -> tuple[bool, float, float, str, str]:
    return not pair.sure, -pair.score, -pair.likeness, pair.before, pair.after


def _fits(pair: Pair, answers: Sequence[Seen]) -> bool:
    if pair.sure:
        return True
    beside = parent_of(pair.before) == parent_of(pair.after)
    if not beside or _kinds(answers, pair.before) != _kinds(answers, pair.after):
        return False
    if pair.compared >= 2:  # one constant everywhere proves little: then the name must speak for it
        return pair.score >= 0.9 and pair.likeness >= (0.4 if pair.distinct >= 2 else 0.7)
    return pair.score == pair.compared and pair.likeness >= 0.5


def _kinds(answers: Iterable[Seen], pointer: str) -> int:
    mask = 0
    for seen in answers:
        for row in seen.answer.rows:
            if row.pointer == pointer:
                mask |= row.mask
    return mask & ~1


def _coexist(old: str, new: str, answers: Iterable[Seen]) -> bool:
    """Whether one answer had both: then neither replaced the other."""
    return any({old, new} <= {row.pointer for row in seen.answer.rows} for seen in answers)


def _alike(old: Counter[tuple[str, int]], new: Counter[tuple[str, int]]) -> bool:
    shared = sum((old & new).values())
    return shared >= ALIKE * max(sum(old.values()), sum(new.values()))


def likeness(one: str, other: str) -> float:
    """Return how alike two names are, 0 to 1: by their words or by their letters, whichever is more."""
    mine, theirs = set(words_of(one)), set(words_of(other))
    by_words = len(mine & theirs) / len(mine | theirs) if mine | theirs else 0.0
    return max(by_words, SequenceMatcher(None, one.lower(), other.lower()).ratio())

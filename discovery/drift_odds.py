"""How much more likely a change is than chance: the arithmetic of drift detection.

Everything asked here is one question: something was never so, and from some moment on it is (sometimes) so;
did the upstream change, or was it luck? (That something stopped is the same question, asked backwards in
time.) Answers are not independent looks: the same entity seen twice shows the same optional fields twice. So
looks are counted by *unit* (entity), and two kinds of looks weigh differently: *fresh* units, whose first
look came after the moment, and *met* units, known from before it. Met units that flip all at once are by far
the strongest witness, and met units that stay as they were, while only fresh ones show the new, speak against
a change.

`Step.odds` is the natural logarithm of a Bayes factor: P(looks | changed then) / P(looks | never changed). If
nothing changed, it exceeds ln(x) with a probability of at most 1/x (Markov's inequality), as far as the noise
is as assumed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import lgamma
from typing import TypeAlias

Look: TypeAlias = "tuple[int, int, bool]"
"""(index of the answer, unit, whether it was so)."""


NOISE = 0.01
"""How often a known entity's field comes, goes or changes its kind while the API does not, to begin with."""

WEIGHT = 8.0
"""How many looks that beginning is worth; what the field itself shows outweighs it soon."""


@dataclass(frozen=True, slots=True)
class Step:
    """A moment: `at` is the index of the first look that was so, after `before` units that never were."""

    at: int
    odds: float
    before: int
    after: int
    hits: int
    flips: int
    looks_before: int
    looks_after: int
    looks_hit: int


def onset(looks: Sequence[Look]) -> Step | None:
    """Judge that something never was so, and from some look on was. None when it always was, or never."""
    first = next((place for place, look in enumerate(looks) if look[2]), None)
    if not first:
        return None
    known = {unit for _, unit, _ in looks[:first]}
    again = first - len(known)
    fresh: dict[int, bool] = {}
    met: dict[int, bool] = {}
    wavering = 0
    hits = 0
    for _, unit, so in looks[first:]:
        hits += so
        group = met if unit in known else fresh
        if unit in group:
            again += 1
            wavering += group[unit] != so
            group[unit] |= so
        else:
            group[unit] = so
    flips, news = sum(met.values()), sum(fresh.values())
    # The first hit is why we look here: it is no evidence.
    of_met, of_fresh = len(met), len(fresh)
    if looks[first][1] in known:
        stated_flips, of_met = flips - 1, of_met - 1
        stated_news = news
    else:
        stated_flips = flips
        stated_news, of_fresh = news - 1, of_fresh - 1
    changed = _run(stated_flips + stated_news, of_met + of_fresh, 0.5, 0.5)
    chance = _run(stated_news, of_fresh, 0.5, 0.5 + len(known))
    flipped = _run(stated_flips, of_met, NOISE * WEIGHT + wavering, (1 - NOISE) * WEIGHT + again)
    return Step(
        looks[first][0],
        changed - chance - flipped,
        len(known),
        len(met) + len(fresh),
        flips + news,
        flips,
        first,
        len(looks) - first,
        hits,
    )


def end(looks: Sequence[Look]) -> Step | None:
    """Judge that something was so, and from some look on never was again. `at` is the first look without.

    `before` and `after` are as in time: `hits` counts units that were so before.
    """
    step = onset(looks[::-1])
    if step is None:
        return None
    last = next(place for place in range(len(looks) - 1, -1, -1) if looks[place][2])
    return Step(
        looks[last + 1][0],
        step.odds,
        step.after,
        step.before,
        step.hits,
        step.flips,
        step.looks_after,
        step.looks_before,
        step.looks_hit,
    )


def _run(hits: int, of: int, a: float, b: float) -> float:
    """Return ln P of one given sequence of `hits` among `of` under a Beta(a, b) rate."""
    return _ln_beta(a + hits, b + of - hits) - _ln_beta(a, b)


def _ln_beta(a: float, b: float) -> float:
    return lgamma(a) + lgamma(b) - lgamma(a + b)

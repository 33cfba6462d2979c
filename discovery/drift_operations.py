"""Which operations went, where they went to, and which came: told by refusals."""

from __future__ import annotations

from collections.abc import Sequence
from math import log
from typing import Protocol

from discovery.drift_odds import Step, end, onset
from discovery.drift_sketch import STRONG
from discovery.drift_watch import GONE, REFUSED, Seen

CERTAIN = log(1e4)
"""Odds (ln) from which an operation counts as gone: there is one question only, but a grave one."""

LEAST = 5
"""Refusals without one success between them, before an operation can count as gone; or as new, the other way."""


class Known(Protocol):
    @property
    def name(self) -> str: ...

    @property
    def seen(self) -> tuple[Seen, ...]: ...


def gone(seen: Sequence[Seen]) -> Step | None:
    """Tell since when an operation is answered as if it had never been; None while it is there.

    Answers that tell nothing of it (limits, failures of the server, of the caller's credentials) do not count.
    """
    step = end([(index, one.entity or -index - 1, one.status not in GONE) for index, one in telling(seen)])
    if step is None or step.odds < CERTAIN or step.looks_after < LEAST or step.after < 3:
        return None
    return step


def come(seen: Sequence[Seen]) -> Step | None:
    """Tell since when an operation is there that was answered as if it had never been; None where it was not so.

    A thing that is asked for until it exists looks alike; so not one answer may lie on the wrong side.
    """
    there = [(index, one.entity or -index - 1, one.status not in GONE) for index, one in telling(seen)]
    step = onset(there)
    if step is None or step.odds < CERTAIN or step.looks_hit < step.looks_after:
        return None
    return (
        step if min(step.looks_before, step.looks_after) >= LEAST and min(step.before, step.after) >= 3 else None
    )


def telling(seen: Sequence[Seen]) -> list[tuple[int, Seen]]:
    """Return the answers that tell whether an operation is there, with their indices."""
    return [(index, one) for index, one in enumerate(seen) if one.status < 400 or one.status in GONE | REFUSED]


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

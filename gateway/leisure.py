"""How long work off the path of calls rests between its turns: calls come first.

Two learners look at what passes (`gateway.learner`, `gateway.lookups`). Unchecked, each took its tenth of a core
also while calls had none to spare, a fifth of what a call cost.
"""

from __future__ import annotations

import time
from collections.abc import Callable

TURN = 0.002
"""Seconds of work in one go: what a call may have to wait."""

IDLE_SHARE = 0.1
"""Share of a core one learner takes of a process that has little else to do."""

BUSY_SHARE = 0.01
"""Its share while calls take all of the core."""


class Leisure:
    """One worker's rests. It looks how much of a core its process used since it last rested."""

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, spent: Callable[[], float] = time.process_time
    ) -> None:
        self._clock = clock
        self._spent = spent
        self._at, self._cpu = clock(), spent()

    def rest(self) -> float:
        """Return the seconds to rest after a turn."""
        at, cpu = self._clock(), self._spent()
        busy = min(1.0, (cpu - self._cpu) / max(at - self._at, TURN))
        self._at, self._cpu = at, cpu
        share = BUSY_SHARE + (IDLE_SHARE - BUSY_SHARE) * (1.0 - busy) ** 2  # neighbours may hold what is left
        return TURN * (1 / share - 1)

"""How long to wait before trying again, and how many repeats an upstream may be asked to bear."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Backoff:
    """Exponential backoff with full jitter (as botocore's standard mode)."""

    base: float = 0.2
    """Seconds. Above a healthy round trip, below what a person notices."""

    cap: float = 10.0
    """Seconds. A third of the default patience: longer waits are the slow loop's."""

    def delay(self, attempt: int, chance: float) -> float:
        """Return seconds before the sending after `attempt` sendings; `chance` is in [0, 1)."""
        return min(self.cap, self.base * 2.0 ** min(attempt - 1, 30)) * chance


@dataclass(frozen=True, slots=True)
class Budget:
    """A token bucket that lets retries through only while enough calls succeed (AWS standard mode).

    A retry costs `cost`; a success on the first try gives `gain` back. When an upstream is down, each call
    then gets its first try and few repeats, instead of every call getting five.
    """

    capacity: float = 500.0
    cost: float = 14.0
    gain: float = 1.0
    tokens: float = 500.0

    def spend(self) -> Budget | None:
        """Return the budget after one retry, or None when there is not enough left."""
        return replace(self, tokens=self.tokens - self.cost) if self.tokens >= self.cost else None

    def refund(self, retried: bool) -> Budget:
        """Return the budget after a success: what its own retry cost, else a little."""
        return replace(self, tokens=min(self.capacity, self.tokens + (self.cost if retried else self.gain)))

"""At what pace calls go out: a configured rate, and the waits an upstream has asked for.

One pace is kept per upstream and credential, in this process. Sharing it between replicas has its place here.
"""

from __future__ import annotations

import asyncio

from aiolimiter import AsyncLimiter

from gateway.ports import Clock
from policies.rules import Rate


class Pace:
    """One upstream's pace for one credential. Times are the clock's monotonic seconds."""

    def __init__(self, rate: Rate | None, clock: Clock) -> None:
        self._rate = rate
        self._clock = clock
        self._limiter = _limiter(rate)
        self._blocked_until = 0.0

    def block(self, until: float) -> None:
        """An answer said: not before `until`. The longest word counts."""
        self._blocked_until = max(self._blocked_until, until)

    def clear(self, now: float) -> bool:
        """Would a call go out at once?"""
        return now >= self._blocked_until and (self._limiter is None or self._limiter.has_capacity())

    def take(self, now: float) -> bool:
        """Go at once where nothing limits; False: ask for a `place`."""
        return self._limiter is None and now >= self._blocked_until

    async def place(self, now: float, until: float) -> float:
        """Wait for a place, at most until `until`. Return 0 with a place taken, else the seconds it would take."""
        while now < self._blocked_until:  # the word may change while we wait
            if self._blocked_until > until:
                return self._blocked_until - now
            await self._clock.sleep(self._blocked_until - now)
            now = self._clock.monotonic()
        if self._limiter is None:
            return 0.0
        if self._limiter.has_capacity():
            await self._limiter.acquire()
            return 0.0
        try:
            async with asyncio.timeout(max(0.0, until - now)):
                await self._limiter.acquire()
            return 0.0
        except TimeoutError:
            assert self._rate is not None
            return max(until - now, 0.0) + self._rate.per / self._rate.limit


def _limiter(rate: Rate | None) -> AsyncLimiter | None:
    """`burst` at once, refilled at `limit` a `per`: aiolimiter's leaky bucket, its period scaled to the burst."""
    if rate is None:
        return None
    burst = max(1, rate.burst)
    return AsyncLimiter(burst, burst * rate.per / rate.limit)

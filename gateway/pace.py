"""At what pace calls go out: a configured rate, the waits an upstream has asked for, and its breaker.

One pace is kept per upstream and credential, one breaker per upstream, in this process; what answers teach of
both is decided in `policies.pacing`. Sharing them between replicas has its place here.
"""

from __future__ import annotations

import asyncio

from aiolimiter import AsyncLimiter

from discovery.exchange import Fault, Response
from gateway.ports import Clock
from policies.outcome import Outcome, Reading
from policies.pacing import CLOSED, Breaker, breaker_after, held_back, speaks_of_limits
from policies.rules import Rate

LOOK_AGAIN = 1.0
"""Seconds after which a waiting call looks whether it still has to: a probe may have closed the breaker."""


class Circuit:
    """One upstream's breaker, shared by all its paces."""

    __slots__ = ("breaker",)

    def __init__(self) -> None:
        self.breaker: Breaker = CLOSED


class Pace:
    """One upstream's pace for one credential. Times are the clock's monotonic seconds."""

    def __init__(self, rate: Rate | None, clock: Clock, circuit: Circuit | None = None) -> None:
        self._rate = rate
        self._clock = clock
        self._limiter = _limiter(rate)
        self._blocked_until = 0.0
        self._limits = 0
        self._circuit = circuit or Circuit()

    def heard(self, answer: Response | Fault, reading: Reading) -> float:
        """Learn from an answer. Return the seconds for which it holds everyone back: 0, mostly."""
        circuit = self._circuit
        if reading.outcome is Outcome.SUCCESS and isinstance(answer, Response):
            self._limits = 0
            if circuit.breaker is CLOSED and not speaks_of_limits(answer.headers):
                return 0.0
        now, chance = self._clock.monotonic(), self._clock.chance()
        circuit.breaker = breaker_after(circuit.breaker, answer, reading, now, chance)
        if reading.outcome is Outcome.RATE_LIMITED and now >= self._blocked_until:
            self._limits += 1  # those under way when the limit was met are one with it
        seconds = held_back(answer, reading, self._clock.now(), self._limits or 1, chance)
        if seconds > 0:
            self.block(now + seconds)
        return seconds

    def block(self, until: float) -> None:
        """An answer said: not before `until`. The longest word counts."""
        self._blocked_until = max(self._blocked_until, until)

    def clear(self, now: float) -> bool:
        """Would a call go out at once?"""
        if now < self._blocked_until or not self._circuit.breaker.closed:
            return False
        return self._limiter is None or self._limiter.has_capacity()

    def take(self, now: float) -> bool:
        """Go at once where nothing limits; False: ask for a `place`."""
        return self._limiter is None and now >= self._blocked_until and self._circuit.breaker.closed

    async def place(self, now: float, until: float) -> float:
        """Wait for a place, at most until `until`. Return 0 with a place taken, else the seconds it would take."""
        while now < (held := max(self._blocked_until, self._circuit.breaker.until)):
            if held > until:
                return held - now
            await self._clock.sleep(min(held - now, LOOK_AGAIN))  # the word may change while we wait
            now = self._clock.monotonic()
        if not self._circuit.breaker.closed:
            self._circuit.breaker = self._circuit.breaker.probe(now)
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

"""Goes on with calls whose time has come and whose caller may be gone: every process sweeps, all share the work.

A waiting call lies in the due index of its shard. A *look* asks all shards when their next call is due (one
pipelined round trip); between looks that is known, so a call that becomes due is taken within milliseconds
wherever it waits. Taking tells a call to one process only for `HOLD` seconds; who then acts on it, the fence
decides, as for any claim. Each process walks due shards in an order of its own and takes few at a time, so that
a long queue is shared and one upstream's cannot keep all hands.

Promises: a call is sent by one process at a time; none is forgotten while any process runs; a process that
cannot reach the store does nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
from collections import Counter

import orjson

from gateway.callbacks import UNKNOWN, Callbacks
from gateway.gate import Gate
from gateway.notices import Notices
from gateway.ports import Clock, Pending, Waiting
from gateway.problems import LedgerUnavailable
from policies.claims import SHARDS, Ask, Change, Granted, State

LOOK = 1.0
"""Seconds between looks at most, half at least: what others defer for less than that may start so much late."""

HOLD = 2.0
"""Seconds a call that was taken is told to nobody else: its claim follows in milliseconds, or its taker died."""

HANDS = 128
"""Calls under way at once in one process: most of their time is waiting for upstreams."""

HANDS_FOR_ONE = 96
"""Calls under way at once for one upstream: a slow one leaves hands for the others."""

TAKEN = 16
"""Calls taken from a shard at a time: the others leave the rest of a long queue to other processes."""

FAREWELL = 5.0
"""Seconds calls under way are waited for at the end: most answers come in one, and an end must be one."""

REAPING = 600.0
"""Seconds in which every shard is looked through for workflows that ended, one after the other."""


class Sweeper:
    """One process's share of the sweeping. `run()` it until cancelled; `idle` and `ended` as in `Retention`."""

    def __init__(
        self,
        gate: Gate,
        ledger: Waiting,
        clock: Clock,
        *,
        idle: float = 30 * 86400.0,
        ended: float = 7 * 86400.0,
        notices: Notices | None = None,
    ) -> None:
        self._gate = gate
        self._notices = notices or Notices((), ledger, gate.runner)
        self._callbacks = Callbacks(self._notices, ledger, clock)
        self._ledger = ledger
        self._clock = clock
        self._idle, self._kept = idle, ended
        self._heads = [math.inf] * SHARDS  # when each shard's next call is due, on our monotonic clock
        self._looks_at = 0.0
        self._reaps_at = clock.monotonic() + REAPING * clock.chance()
        self._reaped = int(clock.chance() * SHARDS)
        self._under_way: dict[asyncio.Task[None], str] = {}
        self._busy: Counter[str] = Counter()
        self._wake = asyncio.Event()
        gate.runner.on_wait = self.expect

    def expect(self, call: str, at: float) -> None:
        """A call of ours waits until `at` (the store's time): no need to find that out by a look."""
        shard = int(call[:2], 16)
        due = self._clock.monotonic() + max(0.0, at - self._clock.now())
        if due < self._heads[shard]:
            self._heads[shard] = due
            self._wake.set()

    async def run(self) -> None:
        """Sweep until cancelled. What is under way then has `FAREWELL` seconds to end, or is left to its lease."""
        try:
            while True:
                try:
                    await self._round()
                except LedgerUnavailable:
                    self._looks_at = self._clock.monotonic() + LOOK
                    self._heads = [math.inf] * SHARDS
                await self._rest()
        finally:
            if self._under_way:  # a sending broken off here would be a doubt
                await asyncio.wait(self._under_way, timeout=FAREWELL)
            for life in self._under_way:
                life.cancel()
            await asyncio.gather(*self._under_way, return_exceptions=True)

    async def _round(self) -> None:
        """Look if it is time to; then take what is due, in an order of our own."""
        now = self._clock.monotonic()
        if now >= self._looks_at:
            heads = await self._ledger.heads()
            self._looks_at = now + LOOK * (0.5 + self._clock.chance() / 2)
            self._heads = [now + seconds for seconds in heads]
        if now >= self._reaps_at:
            await self._reap(now)
        due = [shard for shard in range(SHARDS) if self._heads[shard] <= now]
        start = int(self._clock.chance() * len(due))
        order = due[start:] + due[:start]
        while order:
            while (free := HANDS - len(self._under_way)) <= 0:
                await asyncio.wait(self._under_way, return_when=asyncio.FIRST_COMPLETED)
            some, order = order[:free], order[free:]  # in one write, and so in one sync of the store's journal
            await asyncio.gather(*(self._take(shard, min(TAKEN, free // len(some))) for shard in some))

    async def _take(self, shard: int, limit: int) -> None:
        calls, next_due = await self._ledger.take(shard, limit, HOLD)
        self._heads[shard] = self._clock.monotonic() + next_due
        for call in calls:
            life = asyncio.create_task(self._go_on(call))
            self._under_way[life] = call
            life.add_done_callback(self._ended)

    async def _go_on(self, call: str) -> None:
        with contextlib.suppress(LedgerUnavailable):  # it comes back when its hold, or its lease, is over
            if "." in call:  # the end of one, see `Record.news`
                await self._callbacks.tell(call)
                return
            pending = await self._ledger.pending(call)
            if pending is None or self._busy[pending.about.upstream] >= HANDS_FOR_ONE:
                return
            upstream = pending.about.upstream
            self._busy[upstream] += 1
            try:
                known = self._notices if upstream in self._notices.receivers else self._gate
                if await known.go_on(call, pending) is None:
                    await self._put_off(call, pending)
            finally:
                self._busy[upstream] -= 1

    async def _put_off(self, call: str, pending: Pending) -> None:
        """Let a call alone for a while that cannot be gone on with here; others may know its upstream."""
        ask = Ask(pending.record.fingerprint, send=False, settle=True, alone=True)
        claimed = await self._ledger.claim(call, pending.about, ask)
        if isinstance(claimed.result, Granted):
            record = claimed.result.record
            state = State.WAITING if record.state is State.CLAIMED else record.state
            later = self._clock.now() + UNKNOWN
            wish = Change(state, record.outcome, record.effect, not_before=later)
            why = f"no upstream is called {pending.about.upstream!r}"
            line = orjson.dumps({"at": self._clock.now(), "did": "put off", "why": why})
            await self._ledger.change(call, record.fence, wish, transcript=line)

    def _ended(self, life: asyncio.Task[None]) -> None:
        del self._under_way[life]
        if not life.cancelled() and (error := life.exception()) is not None:
            asyncio.get_running_loop().call_exception_handler(
                {"message": "a waiting call broke off", "exception": error, "task": life}
            )

    async def _rest(self) -> None:
        """Sleep until the next call is due, or the next look."""
        until = min(self._looks_at, *self._heads)
        self._wake.clear()
        pause = until - self._clock.monotonic()
        if pause > 0:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._wake.wait()

    async def _reap(self, now: float) -> None:
        await self._ledger.reap(self._reaped, self._idle, self._kept)
        self._reaped = (self._reaped + 1) % SHARDS
        self._reaps_at = now + REAPING / SHARDS * (0.5 + self._clock.chance())

"""At what pace calls go out."""

import asyncio
import functools
import time

from gateway.clock import SystemClock
from gateway.pace import Pace
from policies.rules import Rate


def alive(test):
    """Run a test on an event loop of its own, bounded."""

    @functools.wraps(test)
    def run():
        asyncio.run(asyncio.wait_for(test(), 20))

    return run


def now():
    return time.monotonic()


@alive
async def test_without_a_limit_everything_goes_at_once():
    pace = Pace(None, SystemClock())

    assert pace.clear(now()) and pace.take(now())


@alive
async def test_a_burst_goes_out_and_the_next_must_wait():
    pace = Pace(Rate(limit=1, per=3600.0, burst=2), SystemClock())

    assert await pace.place(now(), now()) == 0.0
    assert await pace.place(now(), now()) == 0.0
    assert await pace.place(now(), now()) > 0
    assert not pace.clear(now())


@alive
async def test_a_place_that_comes_in_time_is_waited_for():
    pace = Pace(Rate(limit=20, per=1.0, burst=1), SystemClock())
    await pace.place(now(), now())
    before = time.monotonic()

    assert await pace.place(now(), now() + 5.0) == 0.0
    assert time.monotonic() > before


@alive
async def test_a_word_of_the_upstream_holds_everyone():
    pace = Pace(None, SystemClock())
    pace.block(now() + 100.0)

    assert not pace.clear(now())
    assert not pace.take(now())
    assert await pace.place(now(), now() + 1.0) > 90.0


@alive
async def test_a_short_word_is_waited_for():
    pace = Pace(None, SystemClock())
    pace.block(now() + 0.01)

    assert await pace.place(now(), now() + 5.0) == 0.0

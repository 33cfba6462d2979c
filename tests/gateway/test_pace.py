"""At what pace calls go out."""

import asyncio
import functools
import time

from discovery.exchange import Fault, Phase, Request, Response
from gateway.clock import SystemClock
from gateway.pace import Circuit, Pace
from gateway.testing import ManualClock
from policies.outcome import classify
from policies.pacing import RUN
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


# What answers teach

FINE = Response(200, (), b"{}")
DOWN = Fault(Phase.CONNECT, "refused")


def hear(pace, answer, times=1):
    for _ in range(times):
        pace.heard(answer, classify(Request("POST", b"/", (), b"{}"), answer, 0.0))


@alive
async def test_limits_in_a_row_hold_back_longer_until_a_success():
    clock = ManualClock()
    pace = Pace(None, clock)
    limited = Response(429, (), b"")

    hear(pace, limited, times=100)  # all were under way together
    first = await pace.place(clock.at, clock.at)
    clock.at += first
    hear(pace, limited)
    second = await pace.place(clock.at, clock.at)
    clock.at += second
    hear(pace, FINE)
    hear(pace, limited)

    assert (first, second) == (0.75, 1.5)
    assert await pace.place(clock.at, clock.at) == first


@alive
async def test_an_open_breaker_lets_nothing_out_and_then_one_probe():
    clock, circuit = ManualClock(), Circuit()
    mine, theirs = Pace(None, clock, circuit), Pace(None, clock, circuit)
    hear(mine, DOWN, times=RUN)

    rest = await theirs.place(clock.at, clock.at)
    clock.at += rest

    assert 0.5 < rest <= 1.0
    assert not theirs.take(clock.at) and not theirs.clear(clock.at)
    assert await theirs.place(clock.at, clock.at) == 0.0
    assert await mine.place(clock.at, clock.at) > 0
    hear(theirs, FINE)
    assert mine.take(clock.at) and mine.clear(clock.at)


@alive
async def test_those_who_wait_go_on_when_the_probe_went_well():
    clock, circuit = ManualClock(), Circuit()
    pace = Pace(None, clock, circuit)
    hear(pace, DOWN, times=RUN)
    for _ in range(5):  # probes that fail: the rest is long by now
        clock.at += await pace.place(clock.at, clock.at)
        await pace.place(clock.at, clock.at)
        hear(pace, DOWN)
    waiting = asyncio.create_task(pace.place(clock.at, clock.at + 100.0))
    await asyncio.sleep(0)
    began = clock.at

    hear(pace, FINE)

    assert await waiting == 0.0
    assert clock.at - began <= 1.0

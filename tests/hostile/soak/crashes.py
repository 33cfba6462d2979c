"""Death at every boundary of a small scenario, one at a time; two deaths at all pairs; stops instead of deaths.

A scenario is run once to count its boundaries. Then, for each, a gateway is started that signals itself there;
what it leaves is taken up by another on the same store, and the workflow runs again until it is done. A trial
that never reached its boundary is counted as such: it proved nothing.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from tests.hostile.soak.oracle import Oracle, Step
from tests.hostile.soak.workflow import Caller
from tests.hostile.soak.world import Running, World

AT_ONCE = 24
"""Trials under way at a time. They wait for leases most of the time."""

ENOUGH = 90.0
"""Seconds a workflow may take in all: many leases and stated waits."""

LAST_BOUNDARY = 0.5
"""Seconds a gateway may take from a workflow's last answer to its own last boundary."""

Steps = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is done: steps as (upstream, modes), by how many callers at once."""

    name: str
    steps: Steps
    callers: int = 1
    leaves: bool = False  # the caller is gone for good once the gateway said that it goes on alone


SCENARIOS = (
    Scenario("a request without a key", (("shop", "ok"),)),
    Scenario("a request under a key", (("till", "ok"),)),
    Scenario("told to wait, then success", (("shop", "429:1,ok"),)),
    Scenario("the answer lost after the effect, no key", (("shop", "drop-after,ok"),)),
    Scenario("the answer lost after the effect, under a key", (("till", "drop-after,ok"),)),
    Scenario("three steps", (("shop", "ok"), ("till", "ok"), ("shop", "ok"))),
    Scenario("two callers of one step", (("shop", "ok"),), callers=2),
    Scenario("put off, and finished without its caller", (("shop", "429:1,ok"),), leaves=True),
)

SLOW_SECOND = Scenario("told to wait, and the second answer slow", (("shop", "429:1,slow:3"),))
"""For stops: the stopped one wakes while the other waits for its answer."""


@dataclass
class Tally:
    """What came of many trials."""

    trials: int = 0
    kills: int = 0
    stops: int = 0
    missed: int = 0  # trials that never came to their boundary
    hit: Counter[str] = field(default_factory=Counter)  # boundaries, by label
    doubts: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    effects: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        for name in ("trials", "kills", "stops", "missed", "calls", "effects"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.hit += other.hit
        self.doubts += other.doubts
        self.violations += other.violations


async def boundaries(world: World, scenario: Scenario) -> list[str]:
    """Return the labels of all boundaries, in the order of one undisturbed run."""
    for trace in (False, True):  # the first also teaches the store the scripts
        traced = await world.gateway(trace=trace)
        caller = Caller(world, Oracle(world.upstream), lambda one=traced: [one])
        done = await _callers(caller, f"count-{traced.pid}", scenario, ENOUGH)
        traced.kill()
        await traced.ended
        assert all(done), f"{scenario.name}: not done undisturbed; told {caller.told}"
    return [line.partition(" ")[2] for line in traced.points()]


async def trial(
    world: World, scenario: Scenario, deaths: tuple[int, ...], mutant: str = "", wake: str = ""
) -> Tally:
    """Run `scenario` once, with a gateway that dies at each of `deaths` in turn; then drain and judge.

    With `wake` the first does not die: it stops, and goes on when another `sends` or has `ended`.
    """
    tally = Tally(trials=1)
    number = signal.SIGSTOP if wake else signal.SIGKILL
    current: list[Running] = []
    caller = Caller(world, Oracle(world.upstream), lambda: [one for one in current if not one.stopped])
    async with _gateways(world, current, deaths, number, mutant) as first:
        name = f"trial-{first.pid}"
        steps = [_step(name, index, *step) for index, step in enumerate(scenario.steps)]
        living = asyncio.gather(*_lives(caller, name, steps, scenario, ENOUGH))
        if wake:
            await _stop_and_wake(world, caller, current, living, steps, mutant, wake, tally)
        else:
            await _die_in_turn(world, current, living, deaths, mutant, tally)
        if not all(await living):
            tally.violations.append(f"I4 forgotten: {steps} did not end; told {caller.told}")
        for one in list(current):
            one.kill()
            await one.ended
    await world.upstream.caught_up()
    tally.calls += caller.calls
    tally.effects += sum(world.upstream.effects[step.ref] for step in steps)
    tally.doubts += caller.oracle.doubts
    at = f"{scenario.name}, {'stop' if wake else 'death'} at {deaths} {wake} ({list(tally.hit)})"
    found = tally.violations + caller.violations + caller.oracle.violations(steps)
    tally.violations = [f"{violation} ({at})" for violation in found]
    return tally


@asynccontextmanager
async def _gateways(
    world: World, current: list[Running], deaths: tuple[int, ...], number: int, mutant: str
) -> AsyncIterator[Running]:
    first = await world.gateway(deaths[0], number, mutant=mutant)
    current.append(first)
    try:
        yield first
    finally:
        for one in current:
            one.kill()


async def _die_in_turn(
    world: World,
    current: list[Running],
    living: asyncio.Future[list[bool]],
    deaths: tuple[int, ...],
    mutant: str,
    tally: Tally,
) -> None:
    """Start the next gateway whenever one died, until each of `deaths` was or the workflow is done."""
    for turn in range(1, len(deaths) + 1):
        dying = current[-1]
        await asyncio.wait({living, dying.ended}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({dying.ended}, timeout=LAST_BOUNDARY)
        if not dying.ended.done():
            tally.missed += 1
            return
        tally.kills += 1
        tally.hit[dying.hit()] += 1
        current.append(await world.gateway(deaths[turn] if turn < len(deaths) else 0, mutant=mutant))


async def _stop_and_wake(
    world: World,
    caller: Caller,
    current: list[Running],
    living: asyncio.Future[list[bool]],
    steps: list[Step],
    mutant: str,
    wake: str,
    tally: Tally,
) -> None:
    """Wait for the stop, let another take over the workflow, and wake the stopped one."""
    stopped = current[0]
    while not stopped.is_stopped():
        if living.done():
            tally.missed += 1
            return
        await asyncio.sleep(0.01)
    stopped.stopped = True
    tally.stops += 1
    tally.hit[stopped.hit()] += 1
    sent = sum(world.upstream.sendings[step.ref] for step in steps)
    current.append(await world.gateway(mutant=mutant))
    # The callers at the stopped one wait on; another run of the same workflow finds the other gateway.
    name = f"trial-{stopped.pid}"
    second = asyncio.gather(*_lives(caller, name, steps, SLOW_SECOND, ENOUGH))
    while not second.done():
        if wake == "sends" and sum(world.upstream.sendings[step.ref] for step in steps) > sent:
            break
        await asyncio.sleep(0.01)
    stopped.go_on()
    if not all(await second):
        tally.violations.append(f"I4 forgotten: the second run did not end; told {caller.told}")


async def _callers(caller: Caller, name: str, scenario: Scenario, seconds: float) -> list[bool]:
    steps = [_step(name, index, *step) for index, step in enumerate(scenario.steps)]
    return await asyncio.gather(*_lives(caller, name, steps, scenario, seconds))


def _lives(
    caller: Caller, name: str, steps: list[Step], scenario: Scenario, seconds: float
) -> list[Coroutine[object, object, bool]]:
    until = asyncio.get_running_loop().time() + seconds
    if scenario.leaves:
        return [caller.leave(name, steps[0], until)]
    return [caller.live(name, steps, until) for _ in range(scenario.callers)]


def _step(workflow: str, index: int, upstream: str, modes: str) -> Step:
    return Step(f"{workflow}-{index}", upstream, modes)


async def trials(
    world: World,
    scenario: Scenario,
    every: Iterable[tuple[int, ...]],
    mutant: str = "",
    wake: str = "",
    until: float = float("inf"),
) -> Tally:
    """Run a trial for each of `every`, `AT_ONCE` at a time, while the loop's time is before `until`."""
    total = Tally()
    left = iter(every)

    async def work() -> None:
        for deaths in left:
            if asyncio.get_running_loop().time() > until:
                return
            total.add(await trial(world, scenario, deaths, mutant, wake))

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return total

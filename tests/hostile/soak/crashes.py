"""Death at every boundary of a small scenario, one at a time; two deaths at all pairs; stops instead of deaths.

A scenario is run once to count its boundaries. Then, for each, a gateway is started that signals itself there;
what it leaves is taken up by another on the same store, and the workflow runs again until it is done. A trial
that never reached its boundary is counted as such: it proved nothing.
"""

from __future__ import annotations

import asyncio
import signal
from collections import Counter
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from tests.hostile.soak.oracle import Oracle, Step
from tests.hostile.soak.workflow import Caller
from tests.hostile.soak.world import Running, World

AT_ONCE = 24
"""Trials under way at a time. They wait for leases most of the time."""

ENOUGH = 90.0
"""Seconds a workflow may take in all: many leases and stated waits."""

LAST_BOUNDARY = 0.5
"""Seconds a gateway may take from a workflow's last answer to its own last boundary."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is done: steps, each with what `Step` wants after its `ref`, by how many callers at once."""

    name: str
    steps: tuple[tuple[Any, ...], ...]
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
    Scenario("the answer lost, and looked up", (("desk", "drop-after,ok"),)),
    Scenario("the answer lost, the effect late, and looked up", (("desk", "late:0.5,ok"),)),
    Scenario("accepted, and finished later", (("shop", "accept:0.5"),)),
    Scenario("a batch of which one item is told to wait", (("shelf", "batch"),)),
)

UNNAMED = Scenario("two equal calls without a step's name", (("shop", "ok", "POST", 2),))
"""Apart from the others: see `test_crash_points.may_be_forgotten`."""

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
    pairs: list[tuple[int, int]] = field(default_factory=list)  # of deaths: of the first, and of who took over
    doubts: Counter[str] = field(default_factory=Counter)
    calls: int = 0
    effects: int = 0
    violations: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        for name in ("trials", "kills", "stops", "missed", "calls", "effects"):
            setattr(self, name, getattr(self, name) + getattr(other, name))
        self.hit += other.hit
        self.pairs += other.pairs
        self.doubts += other.doubts
        self.violations += other.violations


async def boundaries(world: World, scenario: Scenario) -> list[str]:
    """Return the labels of all boundaries, in the order of one undisturbed run."""
    for _ in range(1 if world.taught else 2):
        undisturbed = Trial(world, scenario)
        passed = await undisturbed.count()
        assert not undisturbed.tally.violations, undisturbed.tally.violations
        world.taught = True  # the first run of all teaches the engine the scripts, which has boundaries of its own
    return passed


class Trial:
    """One run of `scenario` in a store of its own, disturbed once or more; then drained and judged."""

    def __init__(self, world: World, scenario: Scenario, mutant: str = "") -> None:
        self._world = world
        self._scenario = scenario
        self._mutant = mutant
        self._store = world.new_store()
        self._current: list[Running] = []
        self._caller = Caller(
            world, Oracle(world.upstream), lambda: [one for one in self._current if not one.stopped]
        )
        self._name = f"trial-{self._store}"
        self._steps = [Step(f"{self._name}-{at}", *step) for at, step in enumerate(scenario.steps)]
        self.tally = Tally(trials=1)

    async def count(self) -> list[str]:
        """Run it undisturbed; return the boundaries it passed."""
        async with self._begun(trace=True) as first:
            await self._judge(self._live(self._scenario), "no death")
        return labels(first)

    async def die(self, deaths: tuple[int, ...], trace: bool = False) -> Tally:
        """Run it with a gateway that dies at each of `deaths` in turn. `trace` finds the pairs this begins."""
        async with self._begun(deaths[0]):
            living = self._live(self._scenario)
            await self._die_in_turn(living, deaths, trace)
            await self._judge(living, f"death at {deaths}")
        if trace and edge(self._current[0].hit()):
            passed = enumerate(labels(self._current[-1]), 1)
            self.tally.pairs = [(deaths[0], at) for at, label in passed if edge(label)]
        return self.tally

    async def stop(self, at: int, wake: str) -> Tally:
        """Run it with a gateway that stops at `at`, and goes on when another `sends` or has `ended`."""
        async with self._begun(at, signal.SIGSTOP):
            living = self._live(self._scenario)
            await self._stop_and_wake(living, wake)
            await self._judge(living, f"stop at {at}, woken when another {wake}")
        return self.tally

    @asynccontextmanager
    async def _begun(
        self, at: int = 0, number: int = signal.SIGKILL, trace: bool = False
    ) -> AsyncIterator[Running]:
        yield await self._gateway(at, number, trace)
        for one in self._current:
            one.kill()

    async def _gateway(self, at: int = 0, number: int = signal.SIGKILL, trace: bool = False) -> Running:
        one = await self._world.gateway(at, number, trace=trace, mutant=self._mutant, store=self._store)
        self._current.append(one)
        return one

    def _live(self, scenario: Scenario) -> asyncio.Future[list[bool]]:
        """Let the scenario's callers run the workflow."""
        until = asyncio.get_running_loop().time() + ENOUGH
        if scenario.leaves:
            return asyncio.gather(self._leave(until))
        caller, every = self._caller, range(scenario.callers)
        return asyncio.gather(*(caller.live(self._name, self._steps, until) for _ in every))

    async def _leave(self, until: float) -> bool:
        what = self._name, self._steps[0], until
        return await self._caller.entrust(*what) and await self._caller.look_on(*what)

    async def _die_in_turn(self, living: asyncio.Future[list[bool]], deaths: tuple[int, ...], trace: bool) -> None:
        """Start the next gateway whenever one died, until each of `deaths` was or the workflow is done."""
        for turn in range(1, len(deaths) + 1):
            dying = self._current[-1]
            await asyncio.wait({living, dying.ended}, return_when=asyncio.FIRST_COMPLETED)
            await asyncio.wait({dying.ended}, timeout=LAST_BOUNDARY)
            if not dying.ended.done():
                self.tally.missed += 1
                return
            self.tally.kills += 1
            self.tally.hit[dying.hit()] += 1
            last = turn == len(deaths)
            await self._gateway(0 if last else deaths[turn], trace=trace and last)

    async def _stop_and_wake(self, living: asyncio.Future[list[bool]], wake: str) -> None:
        """Wait for the stop, let another take over the workflow, and wake the stopped one."""
        stopped = self._current[0]
        while not stopped.is_stopped():
            if living.done():
                self.tally.missed += 1
                return
            await asyncio.sleep(0.01)
        stopped.stopped = True
        self.tally.stops += 1
        self.tally.hit[stopped.hit()] += 1
        sent = self._sent()
        await self._gateway()
        # The callers at the stopped one wait on; another run of the same workflow finds the other gateway.
        second = self._live(SLOW_SECOND)
        while not second.done() and not (wake == "sends" and self._sent() > sent):
            await asyncio.sleep(0.01)
        stopped.go_on()
        if not all(await second):
            self._forgotten("the second run")

    def _sent(self) -> int:
        return sum(self._world.upstream.sendings[step.ref] for step in self._steps)

    def _forgotten(self, what: str) -> None:
        self.tally.violations.append(f"I4 forgotten: {what} of {self._steps} did not end")

    async def _judge(self, living: asyncio.Future[list[bool]], what: str) -> None:
        """Wait for the end of all, and compare what was told with what took effect."""
        if not all(await living):
            self._forgotten("a run")
        for one in self._current:
            one.kill()
            await one.ended
        await self._world.upstream.caught_up()
        tally, caller, oracle = self.tally, self._caller, self._caller.oracle
        tally.calls = caller.calls
        tally.effects = sum(self._world.upstream.effects[ref] for step in self._steps for ref in step.counted)
        tally.doubts = oracle.doubts
        found = tally.violations + caller.violations + oracle.violations(self._steps)
        at = f"{self._scenario.name}, {what} ({list(tally.hit)}); told {dict(caller.told)}"
        tally.violations = [f"{violation} ({at})" for violation in found]


def labels(of: Running) -> list[str]:
    """Return the boundaries a traced gateway passed."""
    return [line.partition(" ")[2] for line in of.points()]


def edge(label: str) -> bool:
    """Does the world know more, or another know less, from here on? Between two edges a death leaves the same."""
    return label.startswith(("store:", "wire:", "life: reply"))


async def trials(
    every: Iterable[Callable[[], Coroutine[object, object, Tally]]], until: float = float("inf")
) -> Tally:
    """Run every trial, `AT_ONCE` at a time, beginning none after `until` (the loop's time)."""
    total = Tally()
    left = iter(every)

    async def work() -> None:
        for begin in left:
            if asyncio.get_running_loop().time() > until:
                return
            total.add(await begin())

    await asyncio.gather(*(work() for _ in range(AT_ONCE)))
    return total


async def deaths(
    world: World,
    scenario: Scenario,
    every: Iterable[tuple[int, ...]],
    mutant: str = "",
    trace: bool = False,
    until: float = float("inf"),
) -> Tally:
    """Die at each of `every`, in a trial each. `trace` finds the pairs of edges they begin."""
    return await trials((partial(_death, world, scenario, mutant, at, trace) for at in every), until)


async def _death(world: World, scenario: Scenario, mutant: str, at: tuple[int, ...], trace: bool) -> Tally:
    return await Trial(world, scenario, mutant).die(at, trace)


async def stops(world: World, scenario: Scenario, every: Iterable[int], mutant: str = "") -> Tally:
    """Stop at each of `every`, once until another sends and once until another has ended."""
    both = [(at, wake) for at in every for wake in ("sends", "ended")]
    return await trials(partial(_stop, world, scenario, mutant, at, wake) for at, wake in both)


async def _stop(world: World, scenario: Scenario, mutant: str, at: int, wake: str) -> Tally:
    return await Trial(world, scenario, mutant).stop(at, wake)

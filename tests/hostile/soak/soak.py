"""Random workflows against random faults, while gateways and engine are killed and stopped at random.

Every workflow runs until it is done. At the end nothing is killed any more and what is left drains; what has not
ended then is forgotten. What is random comes from one seed, but for the kernel's timing.
"""

from __future__ import annotations

import asyncio
import random
import resource
import signal
import sys
import time
from collections import Counter

from tests.hostile.soak.asking import ask
from tests.hostile.soak.oracle import Oracle, Step
from tests.hostile.soak.report import Report
from tests.hostile.soak.workflow import Caller
from tests.hostile.soak.world import Running, World

GATEWAYS = 4
"""Processes on one store."""

WORKFLOWS = 48
"""Under way at a time."""

KILLS = 0.25, 0.6
"""Seconds between kills of gateways."""

AT_BOUNDARY = 0.5
"""The part of gateways that kill themselves at a boundary of a call, instead of being killed at an instant."""

ENGINE_KILLS = 4.0, 12.0
"""Seconds between kills of the engine."""

STOPS = 8.0, 16.0
"""Seconds between stops of a gateway, which last longer than a lease."""

UNREACHABLE = 3
"""How a gateway ends that was started while the engine was away."""

TELL = 20.0
"""Seconds between words on how it goes."""

DRAIN = 120.0
"""Seconds in which everything left has to end once nothing is killed any more."""

MODES = {
    "ok": 10,
    "drop-after,ok": 2,
    "drop-before,ok": 2,
    "after-500,ok": 1,
    "429:1,ok": 2,
    "503:1,ok": 1,
    "429,429,ok": 1,
    "slow:0.5": 2,
    "drip:0.5": 2,
    "large": 1,
    "429:2,drop-after,ok": 1,
    "drop-after,drop-after,ok": 1,
    "slow:5,ok": 1,
    "late:0.5,ok": 1,
    "accept:1": 1,
}
"""How the upstream behaves, and how often. (After four seconds an answer counts as lost: `slow:5` works on.)"""

UPSTREAMS = {
    ("shop", "POST"): 4,
    ("till", "POST"): 4,
    ("shop", "PUT"): 2,
    ("desk", "POST"): 2,
    ("shelf", "POST"): 1,
}
"""Who is asked, and how often."""

LEAVES = 0.15
"""The part of the callers that leave for good as soon as the gateway says that it goes on alone."""

LEFT = ("429:1,ok", "503:2,ok", "429:3,drop-after,ok", "429,429,ok")
"""How the upstream behaves to what they leave behind."""


class Soak:
    """One soak of `seconds` in `world`."""

    def __init__(self, world: World, seed: int, seconds: float, fsync: str, mutant: str) -> None:
        self._world = world
        self._dice = random.Random(seed)
        self._seconds = seconds
        self._mutant = mutant
        self._oracle = Oracle(world.upstream)
        self._gateways: list[Running] = []
        self._caller = Caller(world, self._oracle, self._awake, self._dice, hangs_up=0.1)
        self._over = False
        self._boundaries: Counter[str] = Counter()
        self._all: list[Step] = []
        self._left: list[tuple[str, Step]] = []
        self.report = Report(seed, fsync)

    async def run(self) -> Report:
        began = time.monotonic()
        await asyncio.gather(*(self._raise() for _ in range(GATEWAYS)))
        until = asyncio.get_running_loop().time() + self._seconds
        telling = asyncio.create_task(self._tell())
        plagues = [asyncio.create_task(plague) for plague in (self._kill(), self._kill_engine(), self._stop())]
        work = [asyncio.create_task(self._work(number, until)) for number in range(WORKFLOWS)]
        await asyncio.wait([*work, *plagues], timeout=self._seconds)
        self._over = True
        await asyncio.gather(*plagues)
        await asyncio.gather(*work)
        await self._look_on(until + DRAIN)
        await self._world.upstream.caught_up()
        telling.cancel()
        self._conclude(time.monotonic() - began)
        for one in self._gateways:
            one.kill()
        return self.report

    # Work

    async def _work(self, number: int, until: float) -> None:
        """Live workflows, one after another, until the time is up; then the last one drains."""
        count = 0
        while not self._over:
            count += 1
            name = f"w{number}-{count}"
            leaves = self._dice.random() < LEAVES
            steps = [self._left_behind(name)] if leaves else self._steps(name)
            self._all += steps
            self.report.workflows += 1
            self.report.steps += len(steps)
            if leaves:
                self._left.append((name, steps[0]))
            begun = self._caller.entrust(name, steps[0], until + DRAIN) if leaves else None
            if not await (begun or self._caller.live(name, steps, until + DRAIN)):
                self.report.violations.append(f"I4 forgotten: {name} {steps} had not ended {DRAIN:g} s after")
                return
            if not leaves:
                self._judge(steps)
                await self._end(name)

    async def _look_on(self, until: float) -> None:
        """Everything that was left behind has ended, or ends now, without anybody asking."""
        hands = asyncio.Semaphore(WORKFLOWS)

        async def one(name: str, step: Step) -> None:
            async with hands:
                await self._caller.look_on(name, step, until)

        await asyncio.gather(*(one(*left) for left in self._left))

    def _steps(self, workflow: str) -> list[Step]:
        return [self._step(f"{workflow}-{index}") for index in range(self._dice.randint(1, 4))]

    def _step(self, ref: str) -> Step:
        upstream, method = self._dice.choices(list(UPSTREAMS), list(UPSTREAMS.values()))[0]
        modes = self._dice.choices(list(MODES), list(MODES.values()))[0]
        return Step(ref, upstream, "batch" if upstream == "shelf" else modes, method)

    def _left_behind(self, workflow: str) -> Step:
        return Step(f"{workflow}-0", self._dice.choice(("shop", "till")), self._dice.choice(LEFT))

    def _judge(self, steps: list[Step]) -> None:
        """Judge a workflow when it has ended; a late effect is found again at the very end."""
        self.report.violations += self._oracle.violations(steps)

    async def _end(self, name: str) -> None:
        """Say that the workflow is over, so that the store may forget it."""
        for one in self._awake()[:1]:
            await ask(one.url, "POST", f"/-/workflows/default/{name}/end", self._world.admin)

    # Plagues

    def _awake(self) -> list[Running]:
        return [one for one in self._gateways if one.alive and not one.stopped]

    async def _raise(self) -> None:
        """Start a gateway in the place of a dead one; half of them know the boundary they will die at."""
        dies = not self._over and self._dice.random() < AT_BOUNDARY
        at = int(self._dice.lognormvariate(5, 1)) + 1 if dies else 0
        self._gateways.append(await self._world.gateway(at, mutant=self._mutant))

    async def _kill(self) -> None:
        """Kill one at an instant, bury those who died, raise others in their place."""
        while not self._over:
            await asyncio.sleep(self._dice.uniform(*KILLS))
            if (awake := self._awake()) and len(awake) > 1:
                self._dice.choice(awake).kill()
                self.report.kills_at_instants += 1
            await asyncio.sleep(0.02)
            await self._bury()
        await self._bury()
        for one in self._gateways:  # nobody dies in the drain
            if one.stopped:
                one.go_on()
        spare = [one for one in self._gateways if one.alive]
        self._gateways += [await self._world.gateway(mutant=self._mutant) for _ in range(GATEWAYS)]
        for one in spare:
            one.kill()
            self.report.kills_at_instants += 1

    async def _bury(self) -> None:
        for one in [one for one in self._gateways if not one.alive]:
            if hit := one.hit():
                self._boundaries[hit] += 1
                self.report.kills_at_boundaries += 1
            elif one.ended.result() not in (-signal.SIGKILL, UNREACHABLE):
                self.report.violations.append(f"unexpected: a gateway ended with {one.ended.result()}")
            self._gateways.remove(one)
            self._world.forget(one)
            await self._raise()

    async def _kill_engine(self) -> None:
        while not self._over:
            await asyncio.sleep(self._dice.uniform(*ENGINE_KILLS))
            await self._world.engine.kill()
            self.report.kills_of_engine += 1
            await asyncio.sleep(self._dice.uniform(0, 0.5))
            await self._world.engine.start()

    async def _stop(self) -> None:
        """Stop one for longer than a lease, and let it go on."""
        while not self._over:
            await asyncio.sleep(self._dice.uniform(*STOPS))
            awake = self._awake()
            if self._over or len(awake) < 3:
                continue
            one = self._dice.choice(awake)
            one.stop()
            self.report.stops += 1
            await asyncio.sleep(self._dice.uniform(5.5, 8))
            one.go_on()

    # The end

    async def _tell(self) -> None:
        """Say now and then how it goes."""
        while True:
            await asyncio.sleep(TELL)
            report = self.report
            kills = report.kills_at_instants + report.kills_at_boundaries + report.kills_of_engine
            said = f"  {kills} kills, {report.workflows} workflows, {self._caller.calls} calls"
            said += f", {len(self._awake())} gateways awake, {len(report.violations)} violations"
            print(said, dict(self._caller.told), file=sys.stderr, flush=True)

    def _conclude(self, seconds: float) -> None:
        report, upstream = self.report, self._world.upstream
        report.violations += self._oracle.violations(self._all) + self._oracle.strangers(self._all)
        report.violations += self._caller.violations
        report.violations = list(dict.fromkeys(report.violations))
        named = Counter(violation.partition(":")[0] for violation in report.violations)
        report.doubled = named["I1 doubled"] + named["I2 doubled"]
        report.lost = named["I3 lost"]
        report.changed, report.early = named["I5 changed"], named["I6 early"]
        report.repeated, report.unexpected = named["I7 repeated"], named["unexpected"]
        report.kills = report.kills_at_instants + report.kills_at_boundaries + report.kills_of_engine
        report.boundaries = len(self._boundaries)
        report.seconds = round(seconds, 1)
        report.calls, report.replays = self._caller.calls, self._caller.replays
        report.told = dict(self._caller.told.most_common())
        report.entrusted = len(self._left)
        report.forgotten = named["I4 forgotten"]
        report.doubts_under_keys = self._oracle.doubts_under_keys
        report.doubts = dict(self._oracle.doubts)
        report.sendings = sum(upstream.sendings.values())
        report.effects = sum(upstream.effects.values())


async def soak(world: World, *, seed: int, seconds: float, fsync: str, mutant: str = "") -> Report:
    """Soak `world`; see the module."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    return await Soak(world, seed, seconds, fsync, mutant).run()

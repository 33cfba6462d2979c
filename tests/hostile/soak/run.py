"""The proof by killing, for people: `make soak`, or

    python tests/hostile/soak/start.py tests.hostile.soak.run [--seconds 300] [--seed N] [--json]

A third of the time goes to deaths at each boundary of small scenarios (each, then pairs); the rest is a soak.
Exit code 1 when an invariant was broken.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import signal
import sys
import time
from functools import partial

from tests.hostile.soak.crashes import SCENARIOS, Scenario, Tally, Trial, boundaries, trials
from tests.hostile.soak.report import table
from tests.hostile.soak.soak import soak
from tests.hostile.soak.world import a_world

CRASHES = 1 / 3
"""The part of the time that is spent on boundaries."""


async def crashes(seconds: float, seed: int) -> tuple[Tally, dict[str, str]]:
    """Die at each boundary of each scenario, then at pairs, until the time is up."""
    until = asyncio.get_running_loop().time() + seconds
    dice = random.Random(seed)
    tallies = {scenario.name: Tally() for scenario in SCENARIOS}

    async with a_world("no") as world:  # what is killed here is never the engine

        async def die(scenario: Scenario, at: tuple[int, ...], trace: bool) -> Tally:
            tally = await Trial(world, scenario).die(at, trace)
            tallies[scenario.name].add(tally)
            return tally

        singles, total, told = [], Tally(), {}
        for scenario in SCENARIOS:
            count = len(await boundaries(world, scenario))
            singles += [(scenario, (at,)) for at in range(1, count + 1)]
        dice.shuffle(singles)  # where the time is short, all scenarios have their share
        total.add(await trials((partial(die, *single, True) for single in singles), until))
        for scenario in SCENARIOS:
            every = sum(one is scenario for one, _ in singles)
            told[scenario.name] = f"{tallies[scenario.name].kills} of {every} boundaries"
            say(f"  {scenario.name}: {told[scenario.name]}")
        pairs = [(scenario, pair) for scenario in SCENARIOS for pair in tallies[scenario.name].pairs]
        dice.shuffle(pairs)
        begun = {name: tally.trials for name, tally in tallies.items()}
        total.add(await trials((partial(die, *pair, False) for pair in pairs), until))
        for name, tally in tallies.items():
            every = sum(scenario.name == name for scenario, _ in pairs)
            told[name] += f", {tally.trials - begun[name]} of {every} pairs of edges"
            say(f"  {name}: {told[name]}")
    return total, told


def say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


async def main(words: list[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started ends with us
    read = argparse.ArgumentParser(description="Kill gateways and count effects.")
    read.add_argument("--seconds", type=float, default=300.0)
    read.add_argument("--seed", type=int, default=time.time_ns() % 10**6)
    read.add_argument("--fsync", choices=["always", "everysec"], default="always")
    read.add_argument("--mutant", default="", help="plant this bug; the proof should then fail")
    read.add_argument("--no-boundaries", action="store_true", help="only the soak")
    read.add_argument("--json", action="store_true")
    told = read.parse_args(words)
    began = time.time()
    tally, scenarios = Tally(), {}
    if not told.no_boundaries:
        say("dying at each boundary of small scenarios")
        tally, scenarios = await crashes(told.seconds * CRASHES, told.seed)
    say("soaking")
    async with a_world(told.fsync) as world:
        left = told.seconds - (time.time() - began)
        report = await soak(world, seed=told.seed, seconds=max(10.0, left), fsync=told.fsync, mutant=told.mutant)
        if not report.held:
            say("\n\n".join(["gateways said:", *world.complaints()[:5]]))
    if told.json:
        print(json.dumps({"boundaries": vars(tally), "scenarios": scenarios, "soak": report.as_json()}))
    else:
        print(table(tally, scenarios, report))
    return 1 if tally.violations or not report.held else 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

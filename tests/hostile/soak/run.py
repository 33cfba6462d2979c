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
from tests.hostile.soak.soak import Report, soak
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
        print(_table(tally, scenarios, report))
    return 1 if tally.violations or not report.held else 0


def _table(tally: Tally, scenarios: dict[str, str], report: Report) -> str:
    lines = []
    if scenarios:
        lines += ["Deaths at boundaries", *(f"  {name}: {what}" for name, what in scenarios.items())]
        lines += [f"  kills {tally.kills}, effects {tally.effects}, never reached {tally.missed}"]
        lines += [f"  doubts {_counts(tally.doubts)}"]
        lines += [f"  violations {len(tally.violations)}", *(f"    {text}" for text in tally.violations[:20])]
    lines += [f"Soak of {report.seconds:.0f} s (seed {report.seed}, appendfsync {report.fsync})"]
    lines += [
        f"  kills {report.kills}: {report.kills_at_instants} of gateways at random instants, "
        f"{report.kills_at_boundaries} at {report.boundaries} kinds of boundary, "
        f"{report.kills_of_engine} of the engine",
        f"  stops past a lease {report.stops}",
        f"  workflows {report.workflows}, steps {report.steps}, calls {report.calls}, replays {report.replays}",
        f"  sendings {report.sendings}, effects {report.effects}",
        f"  doubts {_counts(report.doubts)}; under a key {report.doubts_under_keys}",
        f"  told {_counts(report.told)}",
        f"  finished without their callers {report.entrusted}",
        f"  doubled {report.doubled}, lost {report.lost}, forgotten {report.forgotten}, changed {report.changed}, "
        f"early {report.early}, repeated {report.repeated}, unexpected {report.unexpected}",
    ]
    lines += [f"    {text}" for text in report.violations[:20]]
    verdict = "every invariant held" if report.held and not tally.violations else "INVARIANTS WERE BROKEN"
    lines += [f"{tally.kills + report.kills} kills: {verdict}"]
    return "\n".join(lines)


def _counts(counts: dict[str, int]) -> str:
    return f"{sum(counts.values())} ({', '.join(f'{name} {count}' for name, count in counts.items())})"


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))

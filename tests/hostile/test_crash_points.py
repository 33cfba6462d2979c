"""Death, or a long stop, at each boundary of a call's life: the short form of `make soak` (tests/hostile/soak)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from tests.hostile.soak.crashes import SCENARIOS, SLOW_SECOND, Scenario, Tally, boundaries, trials
from tests.hostile.soak.mutants import MUTANTS
from tests.hostile.soak.run import main
from tests.hostile.soak.world import World, a_world

R = TypeVar("R")

PLAIN, KEYED, LIMITED, LOST, LOST_KEYED, THREE, TWINS, ALONE = SCENARIOS


def in_a_world(work: Callable[[World], Awaitable[R]]) -> R:
    async def run() -> R:
        async with a_world("no") as world:  # the engine is not killed here
            return await work(world)

    return asyncio.run(run())


async def deaths(world: World, scenario: Scenario, wanted: Callable[[str], bool], mutant: str = "") -> Tally:
    labels = await boundaries(world, scenario)
    return await trials(world, scenario, ((at,) for at, label in enumerate(labels, 1) if wanted(label)), mutant)


async def stops(world: World, scenario: Scenario, wanted: Callable[[str], bool], mutant: str = "") -> Tally:
    labels = await boundaries(world, scenario)
    every = [(at,) for at, label in enumerate(labels, 1) if wanted(label)]
    total = Tally()
    for wake in ("sends", "ended"):
        total.add(await trials(world, scenario, every, mutant, wake))
    return total


def at_the_edge(label: str) -> bool:
    """Where a store or a wire may know more than its gateway did."""
    return label.startswith(("store: sent", "wire:"))


def test_an_effect_stays_single_when_the_gateway_dies_where_store_or_wire_know_more_than_it_did():
    tally = in_a_world(lambda world: deaths(world, PLAIN, at_the_edge))

    assert tally.violations == []
    assert tally.kills == tally.trials >= 9
    assert tally.missed == 0


@pytest.mark.slow
@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
def test_an_effect_stays_single_after_a_death_at_any_boundary(scenario):
    tally = in_a_world(lambda world: deaths(world, scenario, lambda _: True))

    assert tally.violations == []
    # Of two callers one may end without the other's boundaries; what is put off, another trial's gateway may take.
    assert tally.kills >= (0.6 if scenario.leaves else 0.9) * tally.trials


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [PLAIN, KEYED, SLOW_SECOND], ids=lambda scenario: scenario.name)
def test_an_effect_stays_single_when_the_holder_stops_at_any_boundary_and_wakes_after_its_lease(scenario):
    tally = in_a_world(lambda world: stops(world, scenario, may_stop))

    assert tally.violations == []
    assert tally.stops >= tally.trials - 2


def may_stop(label: str) -> bool:
    """Between the last look at the clock and the write no look is left: docs/promises.md, what is not promised."""
    return label not in ("wire: some of the request", "wire: all of the request")


MUTANT_TRIALS = {
    "mark-after-send": lambda world: deaths(world, PLAIN, at_the_edge, "mark-after-send"),
    "dropped-fence": lambda world: stops(world, SLOW_SECOND, may_stop, "dropped-fence"),
    "unconditional-complete": lambda world: stops(world, PLAIN, may_stop, "unconditional-complete"),
    "delete-on-exception": lambda world: deaths(world, LOST, at_the_edge, "delete-on-exception"),
    "new-key-on-retry": lambda world: deaths(world, KEYED, at_the_edge, "new-key-on-retry"),
    "ignoring-not-after": lambda world: stops(world, PLAIN, may_stop, "ignoring-not-after"),
}


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANTS)
def test_a_planted_bug_breaks_an_invariant(mutant):
    tally = in_a_world(MUTANT_TRIALS[mutant])

    assert [violation for violation in tally.violations if violation.startswith("I")], tally


@pytest.mark.slow
def test_a_short_soak_holds_every_invariant():
    assert asyncio.run(main(["--seconds", "30", "--no-boundaries", "--seed", "7"])) == 0

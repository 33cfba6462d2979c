"""Death, or a long stop, at each boundary of a call's life: the short form of `make soak` (tests/hostile/soak)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest

from tests.hostile.soak import crashes
from tests.hostile.soak.crashes import SCENARIOS, SLOW_SECOND, UNNAMED, Scenario, Tally, boundaries, edge
from tests.hostile.soak.mutants import MUTANTS
from tests.hostile.soak.run import main
from tests.hostile.soak.world import World, a_world

R = TypeVar("R")

PLAIN, KEYED, LIMITED, LOST, LOST_KEYED, THREE, TWINS, ALONE, LOOKED_UP, LATE, ACCEPTED, BATCH = SCENARIOS


def in_a_world(work: Callable[[World], Awaitable[R]]) -> R:
    async def run() -> R:
        async with a_world("no") as world:  # the engine is not killed here
            return await work(world)

    return asyncio.run(run())


async def deaths(world: World, scenario: Scenario, wanted: Callable[[str], bool], mutant: str = "") -> Tally:
    labels = await boundaries(world, scenario)
    every = [(at,) for at, label in enumerate(labels, 1) if wanted(label)]
    return await crashes.deaths(world, scenario, every, mutant)


async def stops(world: World, scenario: Scenario, wanted: Callable[[str], bool], mutant: str = "") -> Tally:
    labels = await boundaries(world, scenario)
    every = [at for at, label in enumerate(labels, 1) if wanted(label)]
    return await crashes.stops(world, scenario, every, mutant)


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


@pytest.mark.slow
@pytest.mark.parametrize("scenario", [PLAIN, KEYED], ids=lambda scenario: scenario.name)
def test_an_effect_stays_single_after_two_deaths_at_any_pair_of_edges(scenario):
    async def every_pair(world: World) -> Tally:
        labels = await boundaries(world, scenario)
        first = await crashes.deaths(world, scenario, ((at,) for at in range(1, len(labels) + 1)), trace=True)
        return await crashes.deaths(world, scenario, first.pairs)

    tally = in_a_world(every_pair)

    assert tally.violations == []
    assert tally.trials > 200
    assert tally.missed <= 0.1 * tally.trials  # who takes over may meet the sweeper a turn sooner or later


@pytest.mark.slow
def test_two_equal_unnamed_calls_have_two_effects_after_a_death_at_any_boundary():
    tally = in_a_world(lambda world: deaths(world, UNNAMED, lambda label: not may_be_forgotten(label)))

    assert tally.violations == []
    assert tally.kills == tally.trials


def may_be_forgotten(label: str) -> bool:
    """The caller has its reply, and the store does not know: the next equal call is taken for a repeat.

    The other way round it would be doubled; so the call tells its caller that it is replayed, and docs/limits.md.
    """
    return label in ("life: reply delivered", "store: before DELIVERED")


LOST_BEFORE = Scenario("the request lost before its effect", (("shop", "drop-before,ok"),))


def undisturbed(world: World, scenario: Scenario, mutant: str) -> Awaitable[Tally]:
    return crashes.deaths(world, scenario, [(10**6,)], mutant)


MUTANT_TRIALS = {
    "mark-after-send": lambda world, name: deaths(world, PLAIN, edge, name),
    "dropped-fence": lambda world, name: stops(world, SLOW_SECOND, may_stop, name),
    "unconditional-complete": lambda world, name: stops(world, PLAIN, may_stop, name),
    "delete-on-exception": lambda world, name: deaths(world, LOST, at_the_edge, name),
    "new-key-on-retry": lambda world, name: deaths(world, KEYED, edge, name),
    "ignoring-not-after": lambda world, name: stops(world, PLAIN, may_stop, name),
    "told-before-kept": lambda world, name: deaths(world, PLAIN, edge, name),
    "retry-unkeyed": lambda world, name: deaths(world, PLAIN, edge, name),
    "delivered-swallowed": lambda world, name: undisturbed(world, UNNAMED, name),
    "ignoring-retry-after": lambda world, name: undisturbed(world, LIMITED, name),
    "forgotten-wait": lambda world, name: undisturbed(world, ALONE, name),
    "assumed-applied": lambda world, name: undisturbed(world, LOST_BEFORE, name),
    "altered-reply": lambda world, name: undisturbed(world, PLAIN, name),
    "absence-at-once": lambda world, name: undisturbed(world, LATE, name),
}
"""Where each bug of `MUTANTS` shows."""


@pytest.mark.slow
@pytest.mark.parametrize("mutant", MUTANT_TRIALS)
def test_a_planted_bug_breaks_an_invariant(mutant, monkeypatch):
    monkeypatch.setattr(crashes, "ENOUGH", 20.0)  # what a bug lets hang has hung by then

    tally = in_a_world(lambda world: MUTANT_TRIALS[mutant](world, mutant))

    assert [violation for violation in tally.violations if violation.startswith("I")], tally


@pytest.mark.slow
def test_a_sweeper_that_takes_what_others_have_fails_the_soak():
    assert MUTANTS.keys() - MUTANT_TRIALS.keys() == {"doubled-sweeper"}
    assert asyncio.run(main(["--seconds", "15", "--no-boundaries", "--mutant", "doubled-sweeper"])) == 1


@pytest.mark.slow
def test_a_short_soak_holds_every_invariant():
    assert asyncio.run(main(["--seconds", "30", "--no-boundaries", "--seed", "7"])) == 0

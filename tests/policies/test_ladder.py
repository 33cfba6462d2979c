"""An adaptation is trusted step by step, never against a person's word, and falls when calls fare worse."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import reduce

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policies.ladder import (
    CANARIES,
    PROVING,
    QUORUM,
    WORSE,
    Fared,
    Rung,
    Standing,
    accepted,
    applies,
    first,
    halted,
    load,
    seen,
    told,
)

INSTANCES = st.sampled_from([f"order-{n}" for n in range(9)])
NEWS = st.lists(
    st.tuples(st.just("seen"), INSTANCES)
    | st.tuples(st.just("told"), st.booleans(), st.booleans())
    | st.tuples(st.sampled_from(["accepted", "halted"])),
    max_size=60,
)


def after(standing: Standing, news: tuple) -> Standing:
    match news:
        case ("seen", instance):
            return seen(standing, instance)
        case ("told", adapted, well):
            return told(standing, adapted=adapted, well=well)
        case ("accepted",):
            return accepted(standing)
        case _:
            return halted(standing)


@pytest.mark.parametrize(
    ("adapt", "sure", "rung"),
    [
        (None, True, Rung.CANARY),
        (None, False, Rung.SUGGEST),
        ("auto", True, Rung.CANARY),
        ("auto", False, Rung.SUGGEST),
        ("suggest", True, Rung.SUGGEST),
        ("observe", True, Rung.OBSERVE),
    ],
)
def test_only_what_is_sure_is_tried_without_being_asked(adapt, sure: bool, rung: Rung):
    assert first(adapt, sure=sure) is rung


def test_it_holds_for_all_once_it_did_well_for_several_instances():
    standing = Standing(Rung.CANARY)
    for at in range(PROVING):
        standing = told(seen(standing, f"order-{at % QUORUM}"), adapted=True, well=True)

    assert standing.rung is Rung.AUTO
    assert applies(standing, "order-of-somebody-else")


def test_one_instance_alone_proves_nothing_for_the_others():
    standing = reduce(
        lambda s, _: told(seen(s, "only"), adapted=True, well=True), range(100), Standing(Rung.CANARY)
    )

    assert standing.rung is Rung.CANARY


def test_a_canary_holds_for_whoever_comes_until_enough_calls_did_well():
    met = reduce(seen, [f"order-{at}" for at in range(CANARIES + 3)], Standing(Rung.CANARY))

    proved = met
    for _ in range(PROVING):
        assert applies(proved, "an order that calls but once")
        proved = told(proved, adapted=True, well=True)

    assert proved.rung is Rung.AUTO


def test_once_its_calls_did_well_a_canary_holds_for_the_first_few_instances_alone():
    standing = reduce(seen, [f"order-{at}" for at in range(CANARIES + 3)], Standing(Rung.CANARY))
    standing = replace(standing, adapted=Fared(0, PROVING))

    held = [applies(standing, f"order-{at}") for at in range(CANARIES + 3)]

    assert held == [True] * CANARIES + [False] * 3


def test_what_fares_worse_is_taken_back_until_a_person_accepts_it():
    standing = Standing(Rung.AUTO)
    for _ in range(20):
        standing = told(standing, adapted=False, well=True)
    for _ in range(WORSE):
        standing = told(standing, adapted=True, well=False)

    assert not applies(standing, "order-1")
    assert standing.halt == f"{WORSE} of {WORSE} adapted calls failed"
    assert applies(accepted(standing), "order-1")


def test_what_fails_as_often_without_it_is_not_held_against_it():
    standing = Standing(Rung.AUTO)
    for at in range(40):
        standing = told(standing, adapted=False, well=at % 2 == 0)
        standing = told(standing, adapted=True, well=at % 2 == 0)

    assert applies(standing, "order-1")


@given(NEWS, INSTANCES)
@settings(max_examples=150, deadline=None)
def test_a_person_has_the_last_word(news: list, instance: str):
    standing = reduce(after, news, Standing(Rung.CANARY))

    assert not applies(halted(standing), instance)
    assert not applies(reduce(after, [n for n in news if n != ("accepted",)], halted(standing)), instance)
    assert not applies(standing, instance, "observe")


@given(NEWS, INSTANCES)
@settings(max_examples=150, deadline=None)
def test_nothing_that_waits_for_a_person_is_ever_applied_without_one(news: list, instance: str):
    standing = reduce(after, [n for n in news if n != ("accepted",)], Standing(Rung.SUGGEST))

    assert not applies(standing, instance)
    assert not applies(Standing(Rung.AUTO), instance, "suggest")


@given(NEWS)
@settings(max_examples=150, deadline=None)
def test_nothing_holds_for_all_before_a_quorum_did_well(news: list):
    standing = Standing(Rung.CANARY)
    for one in news:
        standing = after(standing, one)
        if standing.rung is Rung.AUTO:
            assert len(standing.instances) >= QUORUM
        assert load(json.loads(json.dumps(standing.state()))) == standing

"""What follows from an answer."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from policies.disposition import Defer, Deliver, Doubt, GiveUp, Retry, Situation, decide
from policies.outcome import Effect, Outcome, Reading

HERE = Situation(tries=1, attempts=5, now=100.0, patience_ends=130.0, repeat_until=0.0)
UNKNOWN = Reading(Outcome.TRANSIENT, Effect.UNKNOWN, "no answer")
NOTHING = Reading(Outcome.TRANSIENT, Effect.NONE, "never sent")


def test_what_is_definite_is_delivered():
    for outcome in (Outcome.SUCCESS, Outcome.VALIDATION, Outcome.REFUSED):
        assert decide(Reading(outcome, Effect.NONE, ""), HERE) == Deliver()


def test_an_unknown_effect_is_a_doubt_where_repeating_is_not_safe():
    assert decide(UNKNOWN, HERE) == Doubt("no answer")


def test_an_unknown_effect_is_repeated_inside_the_keys_window():
    assert isinstance(decide(UNKNOWN, replace(HERE, repeat_until=200.0)), Retry)


def test_no_effect_is_repeated_whatever_the_method():
    assert isinstance(decide(NOTHING, HERE), Retry)


def test_a_stated_wait_is_kept_to_and_spends_no_attempt():
    asked = decide(replace(NOTHING, wait=3.0), HERE)

    assert isinstance(asked, Retry)
    assert asked.delay >= 3.0
    assert not asked.counts


def test_a_stated_wait_beyond_the_patience_is_deferred():
    assert isinstance(decide(replace(NOTHING, wait=3600.0), HERE), Defer)


def test_a_wait_beyond_the_keys_window_is_a_doubt_when_the_effect_is_unknown():
    at = replace(HERE, repeat_until=150.0)

    assert isinstance(decide(replace(UNKNOWN, wait=3600.0), at), Doubt)


def test_attempts_end():
    assert isinstance(decide(NOTHING, replace(HERE, tries=5)), GiveUp)


def test_an_empty_budget_ends_retries():
    assert isinstance(decide(NOTHING, replace(HERE, budget_left=False)), GiveUp)


@given(
    st.sampled_from(Outcome),
    st.sampled_from(Effect),
    st.none() | st.floats(0, 1e9),
    st.integers(1, 9),
    st.floats(0, 1e6),
    st.floats(0, 1e6),
    st.floats(0, 1, exclude_max=True),
)
def test_nothing_of_unknown_effect_is_ever_repeated_outside_its_window(
    outcome, effect, wait, tries, patience, window, chance
):
    at = Situation(tries, 5, 100.0, 100.0 + patience, window, chance)

    decided = decide(Reading(outcome, effect, "why", wait), at)

    if isinstance(decided, Retry | Defer) and effect is not Effect.NONE:
        assert at.now < at.repeat_until
    if isinstance(decided, Retry) and wait is not None:
        assert decided.delay >= wait

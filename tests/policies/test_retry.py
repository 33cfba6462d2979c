"""How long to wait, and how many repeats an upstream is asked to bear."""

from hypothesis import given
from hypothesis import strategies as st

from policies.retry import Backoff, Budget


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_delay_is_never_negative_and_never_above_the_cap(attempt, chance):
    assert 0 <= Backoff().delay(attempt, chance) <= Backoff().cap


def test_delays_double_until_the_cap():
    delays = [Backoff(base=1.0, cap=8.0).delay(attempt, 1.0) for attempt in range(1, 6)]

    assert delays == [1.0, 2.0, 4.0, 8.0, 8.0]


def test_a_budget_lets_through_as_many_retries_as_it_holds():
    budget, spent = Budget(), 0
    while (left := budget.spend()) is not None:
        budget, spent = left, spent + 1

    assert spent == 500 // 14


def test_a_retry_that_helped_gives_its_cost_back():
    spent = Budget().spend()
    assert spent is not None

    assert spent.refund(retried=True) == Budget()


def test_a_budget_never_grows_beyond_its_capacity():
    assert Budget().refund(retried=False) == Budget()

"""Learning rests longer while calls need the core."""

from __future__ import annotations

import pytest

from gateway.leisure import BUSY_SHARE, IDLE_SHARE, TURN, Leisure


@pytest.mark.parametrize(("busy", "share"), [(0.0, IDLE_SHARE), (1.0, BUSY_SHARE), (1.7, BUSY_SHARE)])
def test_a_turn_and_its_rest_take_the_share_that_is_left(busy: float, share: float) -> None:
    time = [0.0]
    leisure = Leisure(lambda: time[0], lambda: busy * time[0])
    time[0] += 0.1
    assert TURN / (TURN + leisure.rest()) == pytest.approx(share)


def test_a_core_that_neighbours_share_is_soon_taken_for_busy() -> None:
    time = [0.0]
    leisure = Leisure(lambda: time[0], lambda: 0.7 * time[0])
    time[0] += 0.1
    assert TURN / (TURN + leisure.rest()) < 2 * BUSY_SHARE


def test_it_looks_at_the_time_since_the_last_rest_alone() -> None:
    time, spent = [0.0], [0.0]
    leisure = Leisure(lambda: time[0], lambda: spent[0])
    time[0], spent[0] = 100.0, 1.0
    idle = leisure.rest()
    time[0], spent[0] = 100.1, 1.1
    assert leisure.rest() == pytest.approx(TURN * (1 / BUSY_SHARE - 1))
    assert idle < 10 * TURN

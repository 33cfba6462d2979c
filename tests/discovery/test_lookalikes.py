"""Nothing wrong is made at once of changes that look alike: `lookalikes` says what is drawn."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))

from lookalikes import TRAPS, Score, World, composed, judge, play


def test_of_changes_drawn_at_random_nothing_wrong_is_made() -> None:
    score = play(range(5000, 5030))

    assert score.wrong == 0, score.bad
    assert score.right > 200  # what is honest is restored all the same


@pytest.mark.parametrize("trap", TRAPS)
def test_no_trap_springs_alone(trap: str) -> None:
    score = Score()
    for seed in range(2):
        judge(world := World(seed, [trap]), composed(world), score)

    assert score.wrong == 0, score.bad

"""Spans and moments read as people say them."""

import pytest

from gateway.spans import ago, spell


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.0004, "0 ms"),
        (0.25, "250 ms"),
        (3, "3 s"),
        (3.14, "3.1 s"),
        (119, "119 s"),
        (300, "5 min"),
        (7200, "2 h"),
        (4e5, "5 d"),
    ],
)
def test_a_span_is_told_in_its_largest_fitting_unit(seconds, said):
    assert spell(seconds) == said


@pytest.mark.parametrize(("then", "said"), [(100.0, "just now"), (97.0, "3 s ago"), (400.0, "in 5 min")])
def test_a_moment_is_told_from_now(then, said):
    assert ago(then, 100.0) == said

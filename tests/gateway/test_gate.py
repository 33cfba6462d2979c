"""Whom an absolute target is for."""

from __future__ import annotations

import pytest

from gateway.gate import Arrival, Gate, Known
from gateway.testing import ManualClock, MemoryLedger, ScriptedUpstream
from policies.rules import UpstreamRules

BASES = {"all": "https://shop.test", "v2": "https://shop.test/v2", "longer": "https://shop.test/v2/eu"}


@pytest.mark.parametrize("names", [("all", "v2", "longer"), ("longer", "v2", "all"), ("v2", "all", "longer")])
@pytest.mark.parametrize(
    ("target", "name", "rest"),
    [
        (b"https://shop.test/v2/eu/x?q=1", "longer", b"/x?q=1"),
        (b"https://shop.test/v2/x", "v2", b"/x"),
        (b"https://shop.test/v2?q", "v2", b"/?q"),
        (b"https://shop.test/v20", "all", b"/v20"),
        (b"https://shop.test", "all", b"/"),
    ],
)
def test_of_base_urls_that_lie_one_under_the_other_the_longest_counts(names, target, name, rest):
    """In whatever order they are configured: the credentials of the one are not for the other."""
    clock = ManualClock()
    known = {each: Known(UpstreamRules(each, BASES[each]), ScriptedUpstream()) for each in names}
    arrival = Gate(known, MemoryLedger(clock), clock).by_host("GET", target, (), "")

    assert isinstance(arrival, Arrival)
    assert (arrival.upstream, arrival.target) == (name, rest)

"""What is let through to an upstream, before anything else is asked."""

import pytest

from gateway.clock import SystemClock
from gateway.gate import Arrival, Gate, Identified, Known
from gateway.testing import ManualClock, MemoryLedger, ScriptedUpstream
from policies.reply import Problem
from policies.rules import UpstreamRules


def gate(base_url, headers=(("authorization", "Bearer ours"),)):
    known = Known(UpstreamRules("shop", base_url, headers=headers), ScriptedUpstream())
    return Gate({"shop": known}, MemoryLedger(ManualClock()), SystemClock())


@pytest.mark.parametrize("target", [b"/../admin", b"/a/../../admin", b"/%2e%2E/admin", b"/.%2e/admin", b"/./../x"])
def test_dot_segments_do_not_take_injected_headers_out_of_a_base_url(target):
    refused = gate("https://shop.example/v2").identify(Arrival("shop", "GET", target, ()))

    assert isinstance(refused, Problem)
    assert (refused.slug, refused.status) == ("refused-target", 403)


@pytest.mark.parametrize("target", [b"/a%2Fb//c/../d/./e", b"/a/..", b"/x?next=../../y", b"/...", b"/a..b"])
def test_dot_segments_inside_it_pass_as_they_are(target):
    passed = gate("https://shop.example/v2").identify(Arrival("shop", "GET", target, ()))

    assert isinstance(passed, Identified)
    assert passed.arrival.target == target


def test_where_the_base_url_has_no_path_nothing_lies_outside():
    assert isinstance(gate("https://shop.example").identify(Arrival("shop", "GET", b"/../x", ())), Identified)


def test_where_nothing_is_injected_the_target_passes_as_it_is():
    assert isinstance(
        gate("https://shop.example/v2", ()).identify(Arrival("shop", "GET", b"/../x", ())), Identified
    )

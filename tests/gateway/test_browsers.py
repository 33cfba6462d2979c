"""Calls that a web page of somebody else's makes are refused; programs and people are not concerned."""

from __future__ import annotations

import pytest

from gateway.browsers import knows, refusal
from gateway.clock import SystemClock
from gateway.gate import Arrival, Gate, Identified, Known
from gateway.testing import ManualClock, MemoryLedger, ScriptedUpstream
from policies.reply import Problem
from policies.rules import UpstreamRules

NAMES = frozenset({"gimbal"})


def said(site: bytes, host: bytes = b"127.0.0.1:8470", **more: bytes):
    rest = ((name.replace("_", "-").encode(), value) for name, value in more.items())
    return ((b"host", host), (b"sec-fetch-site", site), *rest)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", said(b"cross-site", sec_fetch_mode=b"navigate")),  # a form of another site
        ("POST", said(b"cross-site", sec_fetch_mode=b"no-cors")),
        ("GET", said(b"cross-site", sec_fetch_mode=b"cors")),
        ("OPTIONS", said(b"cross-site", sec_fetch_mode=b"cors")),
        ("GET", said(b"same-origin", host=b"evil.example:8470")),  # its name was led here
        ("GET", said(b"none", host=b"evil.example:8470", sec_fetch_mode=b"navigate")),
        ("GET", ((b"host", b"localhost"), (b"service-worker", b"script"))),
    ],
)
def test_what_a_page_of_somebody_elses_asks_for_is_refused(method, headers):
    refused = refusal(method, headers, NAMES)

    assert refused is not None
    assert (refused.slug, refused.status) == ("foreign-page", 403)


@pytest.mark.parametrize(
    ("method", "headers"),
    [
        ("POST", said(b"same-site", sec_fetch_mode=b"cors")),  # a page of another port of this machine
        ("POST", said(b"same-origin")),
        ("GET", said(b"none", sec_fetch_mode=b"navigate")),  # typed
        ("GET", said(b"cross-site", sec_fetch_mode=b"navigate")),  # followed
        ("POST", said(b"same-origin", host=b"gimbal:8470")),
    ],
)
def test_what_a_person_or_a_page_of_this_machine_asks_for_passes(method, headers):
    assert refusal(method, headers, NAMES) is None


def test_an_upstream_whose_name_lies_on_the_way_is_never_sent_such_a_call():
    upstream = ScriptedUpstream()
    known = Known(UpstreamRules("shop", "http://shop.example"), upstream)
    gate = Gate({"shop": known}, MemoryLedger(ManualClock()), SystemClock(), hosts=NAMES)

    by_page = gate.identify(Arrival("shop", "POST", b"/x", said(b"cross-site")))
    by_program = gate.identify(Arrival("shop", "POST", b"/x", ((b"host", b"any.name"),)))

    assert isinstance(by_page, Problem)
    assert isinstance(by_program, Identified)


@pytest.mark.parametrize("host", ["127.0.0.1:8470", "[::1]:1", "LOCALHOST.", "a.localhost", "10.0.0.7", "Gimbal"])
def test_addresses_and_our_own_names_are_known(host):
    assert knows(host, NAMES)


@pytest.mark.parametrize("host", ["", "gimbal.evil", "localhost.evil", "127.0.0.1.evil", "notlocalhost"])
def test_other_names_are_not(host):
    assert not knows(host, NAMES)

"""Prefer (RFC 7240): what is honoured is taken, the rest goes on."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.prefer import Prefer, prefer_of, read_prefer


@pytest.mark.parametrize(
    ("written", "read"),
    [
        ([b"wait=10"], Prefer(wait=10.0)),
        ([b"Wait = 10"], Prefer(wait=10.0)),
        ([b'wait="10"'], Prefer(wait=10.0)),
        ([b"respond-async, wait=10"], Prefer(10.0, True)),
        ([b"respond-async", b"wait=10"], Prefer(10.0, True)),
        ([b"return=minimal, wait=1, handling=lenient"], Prefer(1.0, rest=b"return=minimal, handling=lenient")),
        ([b"wait=0.3"], Prefer(wait=0.3)),
        ([b"WAIT=\t5"], Prefer(wait=5.0)),
        ([rb'wait="\1\0"'], Prefer(wait=10.0)),
        ([b"wait=5; sure=yes"], Prefer(wait=5.0)),
        ([b"Respond-Async; later"], Prefer(respond_async=True)),
        ([b'respond-async=""'], Prefer(respond_async=True)),
        ([b"wait=soon"], Prefer()),
        ([b"wait=-1"], Prefer()),
        ([b"wait"], Prefer()),
        ([b"wait=soon, wait=9"], Prefer()),
        ([b"wait=5=6"], Prefer()),
        ([b"wait=99999999999999999999"], Prefer()),
        ([b'foo="a, wait=3", wait=1'], Prefer(wait=1.0, rest=b'foo="a, wait=3"')),
        ([b'foo="a\\", wait=3", wait=1'], Prefer(wait=1.0, rest=b'foo="a\\", wait=3"')),
        ([b'foo="never closed, wait=1'], Prefer(rest=b'foo="never closed, wait=1')),
        ([b"waiting=3, no-wait"], Prefer(rest=b"waiting=3, no-wait")),
        ([b'"', b";", b"=5", b'"="'], Prefer(rest=b'",;,=5,"="')),
        ([b"wait=1, wait=9"], Prefer(wait=1.0)),
        ([b", ,"], Prefer()),
    ],
)
def test_what_we_honour_of_prefer_is_taken_and_the_rest_goes_on(written, read):
    assert read_prefer(written) == read


def test_several_headers_are_one():
    brought = ((b"prefer", b"respond-async"), (b"accept", b"wait=9"), (b"prefer", b"wait=2"))

    assert prefer_of(brought) == Prefer(2.0, respond_async=True)


PIECES = st.sampled_from([b"wait", b"respond-async", b"x", b"=", b"5", b'"', b",", b";", b" ", b"\\"])


@given(st.lists(st.lists(PIECES).map(b"".join), max_size=3))
def test_what_is_passed_on_holds_nothing_that_was_honoured(values):
    read = read_prefer(values)

    assert read_prefer([read.rest]) == Prefer(rest=read.rest)

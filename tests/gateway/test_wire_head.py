"""Heads as the wire writes and mends them: pure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from discovery.exchange import Request
from gateway.wire_head import compose, forwardable, mend


def test_only_end_to_end_headers_are_forwardable_and_those_unchanged():
    kept = ((b"B", b"1"), (b"a", b"\xe9"), (b"b", b"2"), (b"Proxy-Status", b"x"))
    hop = (
        (b"CONNECTION", b"close, X-One"),
        (b"Connection", b" x-two"),
        (b"x-one", b"1"),
        (b"X-Two", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"TE", b"trailers"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"h2c"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"Proxy-Authorization", b"Bearer x"),
        (b"Service-Worker-Allowed", b"/"),
        (b"Clear-Site-Data", b'"cookies"'),
        (b"NEL", b'{"report_to": "x"}'),
    )

    assert forwardable(kept[:2] + hop + kept[2:]) == kept


@given(
    st.text(st.characters(max_codepoint=255), max_size=8),
    st.binary(max_size=8),
    st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=3).map(tuple),
)
def test_a_composed_head_is_one_message_whatever_goes_in(method, target, headers):
    head = compose(Request(method, b"/" + target, headers), b"h", b"", 0)

    if isinstance(head, bytes):
        assert head.endswith(b"\r\n\r\n")
        assert head.count(b"\r\n\r\n") == 1
        assert len(head.split(b"\r\n", 1)[0].split(b" ")) == 3


@pytest.mark.parametrize(
    ("raw", "mended"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", None),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2,2\r\n\r\nContent-Length: 9\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nContent-Length: 9\r\n",
        ),
    ],
)
def test_only_agreeing_lengths_are_mended(raw, mended):
    assert mend(raw) == mended

"""The forward proxy's look-up: an absolute target finds the upstream whose base URL it lies under."""

from __future__ import annotations

import pytest

from gateway.forward import address, find_upstream

BASES = (
    ("shop", "http://api.example.com"),
    ("till", "http://api.example.com/v2"),
    ("other", "https://API.example.com:8443/x/"),
    ("six", "http://[::1]:8000"),
    ("books", "http://bücher.example"),
)


@pytest.mark.parametrize(
    ("target", "found"),
    [
        (b"http://api.example.com/a", ("shop", b"/a")),
        (b"HTTP://Api.Example.COM/a", ("shop", b"/a")),
        (b"http://api.example.com:80/a", ("shop", b"/a")),
        (b"http://api.example.com:/a", ("shop", b"/a")),
        (b"http://api.example.com", ("shop", b"/")),
        (b"http://api.example.com?q=1", ("shop", b"/?q=1")),
        (b"http://api.example.com/v2", ("till", b"/")),
        (b"http://api.example.com/v2?", ("till", b"/?")),
        (b"http://api.example.com/v2/a%2Fb//c;d?x=http://y", ("till", b"/a%2Fb//c;d?x=http://y")),
        (b"http://api.example.com/v2x", ("shop", b"/v2x")),
        (b"http://api.example.com/V2/a", ("shop", b"/V2/a")),
        (b"https://api.example.com:8443/x/a", ("other", b"/a")),
        (b"http://[::1]:8000/a", ("six", b"/a")),
        (b"http://xn--bcher-kva.example/a", ("books", b"/a")),
    ],
)
def test_addresses_are_compared_as_urls_are(target, found):
    assert find_upstream(target, BASES) == found
    assert find_upstream(target, reversed(BASES)) == found


@pytest.mark.parametrize(
    "target",
    [
        b"https://api.example.com/a",
        b"http://api.example.com:8080/a",
        b"http://api.example.com.evil.test/a",
        b"http://api.example.com@evil.test/a",
        b"http://user:secret@api.example.com/a",
        b"http://api.example.com#/a",
        b"https://api.example.com:8443/y",
        b"ftp://api.example.com/a",
        b"api.example.com:80",
        b"http:///a",
        b"http://",
        b"*",
        b"",
    ],
)
def test_what_lies_under_no_base_url_is_nobodys(target):
    assert find_upstream(target, BASES) is None


def test_a_port_that_is_none_is_no_address():
    assert address(b"http://api.example.com:123456/") is None

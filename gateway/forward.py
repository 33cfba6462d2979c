"""Whom an absolute target is for: a forward proxy finds the upstream by its host (RFC 9112 3.2.2).

Pure. Addresses are compared as URLs are (RFC 9110 4.2.3): scheme and host in any case, the default port left out
or written, an empty path as `/`. The path below stays byte for byte as it was written.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

_URL = re.compile(rb"(?i)(https?)://(\[[0-9a-f:.]+\]|[^/?#@\[\]:]+)(?::([0-9]{0,5}))?(?=[/?]|$)([^#]*)")
_PORTS = {b"http": 80, b"https": 443}


class Address(NamedTuple):
    origin: tuple[bytes, bytes, int]
    rest: bytes  # path and query, as they were written


def address(url: bytes) -> Address | None:
    """Return what an absolute URL names; None: it is no address of an API (another scheme, a user, a fragment)."""
    found = _URL.fullmatch(url)
    if found is None:
        return None
    scheme = found[1].lower()
    return Address((scheme, found[2].lower(), int(found[3] or _PORTS[scheme])), found[4])


def find_upstream(target: bytes, bases: Iterable[tuple[str, str]]) -> tuple[str, bytes] | None:
    """Return the name of the upstream `target` lies under, of `bases` (name, base URL), and the target below it.

    Of two that lie one under the other, the longer base URL wins: its credentials are meant.
    """
    asked = address(target)
    if asked is None:
        return None
    best: tuple[str, bytes] | None = None
    length = -1
    for name, base_url in bases:
        base = _base(base_url)
        if base is None or base.origin != asked.origin or len(base.rest) <= length:
            continue
        below = asked.rest.removeprefix(base.rest)
        if asked.rest.startswith(base.rest) and below[:1] in (b"", b"/", b"?"):
            best, length = (name, below if below[:1] == b"/" else b"/" + below), len(base.rest)
    return best


@lru_cache(maxsize=1024)
def _base(base_url: str) -> Address | None:
    scheme, _, rest = base_url.rstrip("/").partition("://")
    host, slash, path = rest.partition("/")
    try:
        host = host if host.isascii() else host.encode("idna").decode()
        return address(f"{scheme}://{host}{slash}{path}".encode("ascii"))
    except ValueError:
        return None

"""Browsers as callers: which of their requests somebody else's page made. Pure.

A program says what it does; a browser also does what any page on the web tells it to. On a loopback address, where
callers need no token, such a page could make calls with the credentials that are injected here. Browsers tell
of it themselves, in headers no script can set (`Sec-Fetch-*`, W3C Fetch Metadata; `Service-Worker`); programs send
none of these, and nothing changes for them.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Collection

from discovery.exchange import Headers, find
from policies.reply import Problem

TELLING = frozenset({b"sec-fetch-site", b"service-worker"})
"""Headers that only browsers send, lower case."""


def knows(host: str, names: Collection[str]) -> bool:
    """Tell whether a `Host` is one we go by. An address cannot be rebound, so it is; of names, loopback's are,
    and `names`.
    """
    name = re.sub(r":\d*$", "", host.strip().lower()).strip("[]").rstrip(".")
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name == "localhost" or name.endswith(".localhost") or name in names
    return True


def refusal(method: str, headers: Headers, names: Collection[str]) -> Problem | None:
    """Return why a call that a browser makes is refused, or None. A person may follow a link to anywhere."""
    if find(headers, b"service-worker") is not None:
        return _foreign("An upstream's script may not stand between this gateway and its browser.")
    host = (find(headers, b"host") or b"").decode("latin-1")
    if not knows(host, names):
        return _foreign(f"The page calls this gateway {host[:80]!r}, a name it does not go by (setting hosts).")
    followed = method in ("GET", "HEAD") and find(headers, b"sec-fetch-mode") == b"navigate"
    if find(headers, b"sec-fetch-site") == b"cross-site" and not followed:
        return _foreign("Its page is of another site. Call from a program, or from a page on this machine.")
    return None


def _foreign(why: str) -> Problem:
    return Problem("foreign-page", 403, "A web page made this call", f"{why} Nothing was sent.")

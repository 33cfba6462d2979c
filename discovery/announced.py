"""What an upstream announces of its operations in the headers of its answers: deprecation, sunset, successor.

`Deprecation` (RFC 9745), `Sunset` (RFC 8594), and `Link` with rel `deprecation`, `sunset` or `successor-version`
(RFC 8288, 5829). An announcement is no drift: nothing changed yet. It is the upstream's own word, told as such.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import NamedTuple

from discovery.exchange import Headers

NAMES = frozenset((b"deprecation", b"sunset", b"link"))

RELATIONS = {"successor-version": "successor", "deprecation": "about-deprecation", "sunset": "about-sunset"}

MAX_LINK = 4096
"""Bytes of a `Link` header that are read."""

_LINK = re.compile(
    r'<([^<>]{1,1000})>((?:\s*;\s*[\w!#$&+.^`|~*-]+(?:\s*=\s*(?:"[^"]{0,500}"|[^\s",;]{1,500}))?)*)'
)
_REL = re.compile(r';\s*rel\s*=\s*(?:"([^"]*)"|([^\s",;]+))', re.I)


class Said(NamedTuple):
    """One thing announced of one stream: its latest value, and the exchanges that said it first and last."""

    value: str
    first: int
    first_at: float
    last: int
    last_at: float
    times: int


def announced(headers: Headers) -> Iterator[tuple[str, str]]:
    """Yield what an answer announces: `deprecated`, `sunset` (epoch seconds, or empty), `successor`, `about-…`
    (an address, without its query)."""
    for name, raw in headers:
        folded = name.lower()
        if folded not in NAMES:
            continue
        text = raw[:MAX_LINK].decode("latin-1").strip()
        if folded == b"link":
            yield from _linked(text)
        elif folded == b"deprecation" and text.lower() in ("true", "?1"):  # drafts of RFC 9745 had no date
            yield "deprecated", ""
        elif (at := moment_of(text)) is not None:
            yield ("deprecated" if folded == b"deprecation" else "sunset"), str(at)


def moment_of(text: str) -> int | None:
    """Return epoch seconds of an RFC 9651 Date (`@1688169599`), an HTTP-date or an RFC 3339 time."""
    if re.fullmatch(r"@\d{1,11}", text):
        return int(text[1:])
    try:
        at = parsedate_to_datetime(text)
    except ValueError:
        try:
            at = datetime.fromisoformat(text)
        except ValueError:
            return None
    return int((at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp())


def _linked(text: str) -> Iterator[tuple[str, str]]:
    for target, parameters in _LINK.findall(text):
        found = _REL.search(parameters)
        for relation in (found[1] or found[2]).lower().split() if found else ():
            if relation in RELATIONS:
                yield RELATIONS[relation], re.split(r"[?#]", target)[0]


def said_again(before: Said | None, value: str, seq: int, at: float) -> Said:
    """Return what is kept after an exchange said it (again)."""
    if before is None:
        return Said(value, seq, at, seq, at, 1)
    return before._replace(value=value, last=seq, last_at=at, times=before.times + 1)

"""Lists in parts: how much is asked for, where a list goes on, and the query that says so."""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import urlencode

from gateway.console.messages import ConsoleRequest, Stop, bad_request
from gateway.ports import Entry

LIMIT = 100
"""Calls or workflows in a list, unless asked otherwise."""

MOST = 1000
"""Calls or workflows in a list at most: a page of them stays below a megabyte."""

CALL = re.compile(r"[0-9a-f]{26}")
"""The form of a call's id; anything else names none."""


def number(request: ConsoleRequest, name: str, default: int, most: int) -> int:
    said = request.said(name)
    if not said:
        return default
    if not (said.isascii() and said.isdigit() and len(said) < 12):
        raise Stop(bad_request(f"{name} must be a whole number."))
    return min(most, int(said)) if name == "from" else max(1, min(most, int(said)))


def before(request: ConsoleRequest) -> tuple[float, str] | None:
    """Return after which call a list goes on, as `next` said it."""
    said = request.said("before")
    if not said:
        return None
    at, _, call = said.rpartition("-")
    if not (re.fullmatch(r"\d{1,12}(\.\d{1,9})?", at, re.ASCII) and CALL.fullmatch(call)):
        raise Stop(bad_request("before must be as the member next of a list said it."))
    return float(at), call


def after(shown: Sequence[Entry], limit: int, state: str) -> str:
    """Return the query that goes on behind the calls `shown`, in `state` if it is one."""
    last = shown[-1]
    kept = {"state": state} if state else {}
    return f"?{urlencode({**kept, 'limit': limit, 'before': f'{last.created!r}-{last.id}'})}"


def longer(found: Sequence[object], limit: int) -> str | None:
    """Return the query that shows more of a list, or None where all of it, or the most there is, was shown."""
    if len(found) <= limit or limit >= MOST:
        return None
    return f"?{urlencode({'limit': min(MOST, limit * 2)})}"

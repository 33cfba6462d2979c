"""When an upstream says to come back: every form of it, in headers and in bodies, as seconds from the answer.

Precedence: `Retry-After` (RFC 9110 10.2.3) and its cousins in milliseconds, then what the body states, then the
limit headers, the current draft before the older three-header and `X-` forms. A past date is 0; what is
malformed or negative is not said. A wait of years is told as it was stated: whoever waits decides.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from math import isfinite

from discovery.complaints import Complaint
from discovery.exchange import Headers, Json
from discovery.lexical import plain

EPOCH = 10**9
"""A reset beyond this many seconds is a time, not a distance: 2001 in epoch seconds, 31 years from now."""


@dataclass(frozen=True, slots=True)
class Pace:
    """What an answer's headers say of pace. `spent`: a limit with nothing remaining, and when it is renewed.

    `repeat` is a plain word about trying again (`Stripe-Should-Retry`, a negative gRPC pushback), or None.
    """

    wait: float | None = None
    spent: bool = False
    reset: float | None = None
    repeat: bool | None = None


QUIET = Pace()

_LETTERS = frozenset(b"rRxXgGsSiI")


def read_pace(headers: Headers, now: float) -> Pace:
    """Return what `headers` say of pace. `now` turns dates and epoch times into seconds from now."""
    wait: float | None = None
    remaining: float | None = None
    reset: float | None = None
    repeat: bool | None = None
    spent = False
    for raw, value in headers:
        if not raw or raw[0] not in _LETTERS:
            continue
        name, text = raw.lower().decode("latin-1"), value.decode("latin-1").strip()
        if name == "retry-after":
            wait = _first(wait, _seconds_or_date(text, now))
        elif name in ("x-amz-retry-after", "retry-after-ms", "x-ms-retry-after-ms", "grpc-retry-pushback-ms"):
            milliseconds = _number(text)
            if milliseconds is not None and milliseconds < 0 and name.startswith("grpc"):
                repeat = False
            elif milliseconds is not None and milliseconds >= 0:
                wait = _first(wait, milliseconds / 1000)
        elif name in ("x-retry-after", "x-rate-limit-retry-after-seconds", "x-ratelimit-retry-after"):
            wait = _first(wait, _seconds_or_date(text, now))
        elif name.endswith("should-retry") and text.lower() in ("true", "false"):
            repeat = text.lower() == "true"
        elif name == "ratelimit":
            for left, renewed in _policies(text):
                if left <= 0:
                    spent, reset = True, _latest(reset, renewed)
        elif "ratelimit" in name or "rate-limit" in name:
            if "remaining" in name:
                remaining = _least(remaining, _number(text))
            elif "reset" in name and _reset(text, now) is not None:
                reset = _latest(reset, _reset(text, now))
    if remaining is not None and remaining <= 0:
        spent = True
    return Pace(wait, spent, reset if spent else None, repeat)


def stated_in(complaints: Sequence[Complaint], tree: Json) -> float | None:
    """Return the wait a body states: a member such as `retryDelay: "17.5s"`, or `try again in 30 seconds`."""
    if (found := _member(tree, 0)) is not None:
        return found
    for complaint in complaints[:20]:
        for match in _SENTENCE.finditer(complaint.text):
            return (
                float(match[1])
                * _UNITS["ms" if match[2][:4].lower() == "mill" else match[2][:2].lower().rstrip("e")]
                if match[2]
                else float(match[1])
            )
    return None


_UNITS = {
    "ms": 0.001,
    "mi": 60.0,
    "m": 60.0,
    "s": 1.0,
    "se": 1.0,
    "h": 3600.0,
    "ho": 3600.0,
    "d": 86400.0,
    "da": 86400.0,
}
_SENTENCE = re.compile(
    r"\b(?:(?:retry|try again|wait)(?:\s+(?:after|in|for|at least|your request in))?|(?:available"
    r"|resets?)(?: again)?"
    r"\s+(?:after|in)|(?:erneut|noch einmal) in|réessayer (?:dans|après)|de nuevo en|novamente em"
    r"|riprova(?:re)? tra)"
    r"\s*:?\s*(\d{1,7}(?:\.\d{1,6})?)\s*(ms|milli\w*|seconds?|secondes?|segundos?|sekunden|secs?|s"
    r"|minut\w*|mins?|hours?|heures?"
    r"|days?)?(?!\w| ?(?:times|attempts|x)\b)",
    re.I,
)
_MEMBERS = frozenset(
    {
        "retryafter",
        "retrydelay",
        "retryafterseconds",
        "retryin",
        "waitseconds",
        "retryafterms",
        "retryinfo",
        "resetinseconds",
    }
)
_DURATION = re.compile(r"(\d{1,7}(?:\.\d{1,9})?)\s*(ms|s|m|h|seconds?)?")


def _member(node: Json, depth: int) -> float | None:
    if depth > 5:
        return None
    children: list[Json] = []
    if isinstance(node, dict):
        for key, value in list(node.items())[:50]:
            name = plain(key)
            if name in _MEMBERS:
                scale = 0.001 if name.endswith("ms") else 1.0
                if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < EPOCH:
                    return float(value) * scale
                if isinstance(value, str) and (match := _DURATION.fullmatch(value)):
                    return (
                        float(match[1]) * {"ms": 0.001, "m": 60.0, "h": 3600.0}.get(match[2] or "s", 1.0) * scale
                    )
            if isinstance(value, (dict, list)):
                children.append(value)
    elif isinstance(node, list):
        children = [child for child in node[:10] if isinstance(child, (dict, list))]
    return next((found for child in children if (found := _member(child, depth + 1)) is not None), None)


def _seconds_or_date(text: str, now: float) -> float | None:
    if text.isascii() and text.isdigit():
        return float(text) if len(text) < 300 else None
    if (number := _number(text)) is not None:
        return number if number >= 0 else None
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError, TypeError, IndexError, OSError):
        return None


def _reset(text: str, now: float) -> float | None:
    """A reset is seconds from now, epoch seconds, epoch milliseconds or a date: its size tells."""
    number = _number(text)
    if number is None:
        return _seconds_or_date(text, now)
    if number > EPOCH * 1000:
        number /= 1000
    return max(0.0, number - now) if number > EPOCH else max(0.0, number)


_ITEM = re.compile(r';\s*([a-z]+)=("?)(-?\d{1,15}(?:\.\d{1,3})?)\2')


def _policies(text: str) -> list[tuple[float, float | None]]:
    """The items of a `RateLimit` field: (remaining, seconds to reset). An older draft wrote `remaining=`."""
    if "remaining=" in text:
        parts = dict(re.findall(r"(\w+)\s*=\s*(\d{1,15})", text))
        return [(float(parts["remaining"]), float(parts["reset"]) if "reset" in parts else None)]
    found: list[tuple[float, float | None]] = []
    for item in text.split(",")[:20]:
        members = {name: float(number) for name, _, number in _ITEM.findall(item)}
        if "r" in members:
            found.append((members["r"], members.get("t")))
    return found


def _number(text: str) -> float | None:
    try:
        number = float(text.partition(",")[0].partition(";")[0]) if len(text) < 60 else None
    except ValueError:
        return None
    return number if number is not None and isfinite(number) else None


def _first(old: float | None, new: float | None) -> float | None:
    return new if old is None else old


def _latest(old: float | None, new: float | None) -> float | None:
    return new if old is None else old if new is None else max(old, new)


def _least(old: float | None, new: float | None) -> float | None:
    return new if old is None else old if new is None else min(old, new)

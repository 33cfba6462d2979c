"""Spans of time and moments as people say them."""

from __future__ import annotations


def spell(seconds: float) -> str:
    """Return a span in its largest fitting unit: `250 ms`, `3 s`, `5 min`, `2 h`, `4 d`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 10 and seconds != int(seconds):
        return f"{seconds:.1f} s"
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def ago(then: float, now: float) -> str:
    """Return a moment as people say it: `just now`, `3 s ago`, `in 5 min`."""
    span = now - then
    if abs(span) < 1:
        return "just now"
    return f"{spell(span)} ago" if span > 0 else f"in {spell(-span)}"

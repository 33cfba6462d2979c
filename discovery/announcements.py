"""What an upstream has announced, operation by operation: which are deprecated, until when, and what follows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from discovery.announced import Said
from discovery.drift import Place
from discovery.drift_watch import Stream, Watch

SILENT = 5
"""Answers without it after which an announcement counts as withdrawn."""

DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is announced of one operation. Times are epoch seconds: `deprecated` 0 where no date was told.

    `answers` said so, the first of them at `first_seen`; `withdrawn`: the latest ones did not.
    """

    operation: str
    deprecated: int | None = None
    sunset: int | None = None
    successor: str | None = None
    more: str | None = None
    answers: int = 0
    first_seen: float | None = None
    withdrawn: bool = False


def announcements(watch: Watch, template_of: Callable[[Place], str]) -> list[Announcement]:
    """Return what is announced, the nearest sunset first."""
    groups: dict[str, list[Stream]] = defaultdict(list)
    for place, stream in watch.streams.items():
        if stream.said and stream.seen:
            groups[f"{place[0]} {template_of(place)}"].append(stream)
    found = [_of(name, streams) for name, streams in groups.items()]
    return sorted(found, key=lambda one: (one.withdrawn, one.sunset is None, one.sunset or 0, one.operation))


def _of(operation: str, streams: list[Stream]) -> Announcement:
    said: dict[str, Said] = {}
    for stream in streams:
        for kind, one in stream.said.items():
            if kind not in said or said[kind].last < one.last:
                said[kind] = one
    values = {kind: one.value for kind, one in said.items()}
    first = min((one for stream in streams for one in stream.said.values()), key=lambda one: one.first)
    lately = min(stream.seen[-SILENT:][0].seq for stream in streams)
    return Announcement(
        operation,
        int(values["deprecated"] or 0) if "deprecated" in values else None,
        int(values["sunset"]) if "sunset" in values else None,
        values.get("successor"),
        values.get("about-deprecation") or values.get("about-sunset"),
        sum(max(one.times for one in stream.said.values()) for stream in streams),
        first.first_at if first.first_at >= 0 else None,
        all(one.last < lately for one in said.values()),
    )


def tell_announcement(one: Announcement, now: float) -> str:
    """Return an announcement as a colleague would pass it on, at `now`."""
    parts = []
    if one.deprecated is not None:
        parts.append(_moment("deprecated", one.deprecated, now) if one.deprecated else "is deprecated")
    if one.sunset is not None:
        verb = "was to be switched off on" if one.sunset <= now else "is to be switched off on"
        parts.append(f"{verb} {_date(one.sunset)} ({_distance(one.sunset - now)})")
    if one.successor:
        parts.append(f"its successor is {one.successor}")
    if one.more:
        parts.append(f"more at {one.more}" if parts else f"there is a notice about its future at {one.more}")
    counted = f"said by {one.answers} answer{'s' * (one.answers != 1)}"
    first = f", first on {_date(one.first_seen)}" if one.first_seen is not None else ""
    gone = "; the latest answers say so no more" if one.withdrawn else ""
    return f"{one.operation} {', '.join(parts)}; {counted}{first}{gone}"


def announcement_as_object(one: Announcement, now: float) -> dict[str, Any]:
    """Return an announcement as `gimbal drift --announced --json` and `drift.json` have it."""
    return {
        "operation": one.operation,
        "deprecated": one.deprecated is not None,
        "deprecated_at": one.deprecated or None,
        "sunset_at": one.sunset,
        "successor": one.successor,
        "more": one.more,
        "answers": one.answers,
        "first_seen": one.first_seen,
        "withdrawn": one.withdrawn,
        "message": tell_announcement(one, now),
    }


def _moment(word: str, at: float, now: float) -> str:
    return f"is {word} since {_date(at)}" if at <= now else f"will be {word} from {_date(at)}"


def _date(at: float) -> str:
    return f"{datetime.fromtimestamp(at, UTC):%Y-%m-%d}"


def _distance(seconds: float) -> str:
    days = round(abs(seconds) / DAY)
    told = "today" if not days else f"{days} day{'s' * (days != 1)}"
    return told if not days else f"in {told}" if seconds > 0 else f"{told} ago"

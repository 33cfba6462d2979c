"""`gimbal drift NAME`: what changed at an upstream, the most severe first, with the evidence for it."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.options import AsJson, Config, Data, Store, read_settings
from gateway.commands.render import clean, put, put_json, say
from gateway.problems import ConfigError, GimbalError

if TYPE_CHECKING:
    from discovery.chronicle import Event
    from gateway.changes import Changes
    from gateway.settings import Settings

LEVELS = {"breaking": "error", "warning": "warning", "info": "note"}
"""Severity -> level of SARIF 2.1.0 (3.27.10)."""


@dataclass(frozen=True, slots=True)
class Asked:
    """Which events are shown: those found or begun `since` then, and, unless `every`, no acknowledged ones."""

    since: float = 0.0
    every: bool = False

    def among(self, events: tuple[Event, ...]) -> list[Event]:
        return [
            one
            for one in events
            if max(one.found, one.drift.first_seen or 0.0, one.over or 0.0) >= self.since
            and (self.every or one.acknowledged is None)
        ]


def drift(
    name: Annotated[str, typer.Argument(help="The upstream.")],
    sarif: Annotated[
        bool, typer.Option("--sarif", help="Print a SARIF 2.1.0 log, as code scanners read it.")
    ] = False,
    announced: Annotated[
        bool, typer.Option("--announced", help="Show only what the upstream announces: deprecation, sunset.")
    ] = False,
    since: Annotated[
        str | None,
        typer.Option(metavar="WHEN", help="Only changes found, begun or over since: 2026-11-01, or 7d, 12h ago."),
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Show acknowledged changes too.")] = False,
    acknowledge: Annotated[
        list[str] | None,
        typer.Option(metavar="ID", help="You know of this change: it no longer counts. `all` for all of them."),
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
    store: Store = None,
) -> None:
    """Show what changed at an upstream: one line a change, the most severe first.

    Exits with 1 when something changed that breaks callers, is not over and was not acknowledged; else with 0.
    """
    from discovery.announcements import announcement_as_object, tell_announcement
    from gateway.changes import as_object

    now = time.time()
    asked = Asked(moment(since, now) if since else 0.0, every)
    changes = asyncio.run(_read(read_settings(config, data, store), name, acknowledge or [], now))
    found = asked.among(changes.events)
    if announced:
        for one in changes.announced:
            if as_json:
                put_json(announcement_as_object(one, now))
            else:
                put(clean(tell_announcement(one, now)))
        return
    if sarif:
        put(json.dumps(as_sarif(name, found), ensure_ascii=False, indent=1))
    elif as_json:
        for event in found:
            put_json(as_object(event))
    else:
        _show(name, found, changes, now)
    if any(one.drift.severity == "breaking" and one.over is None and one.acknowledged is None for one in found):
        raise typer.Exit(1)


def moment(text: str, now: float) -> float:
    """Return epoch seconds of a day, a time, or a duration before `now`."""
    from gateway.form import seconds

    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        try:
            return now - seconds(text)
        except ValueError:
            raise ConfigError(
                f"--since {text}: should be a day such as 2026-11-01, or a span such as 7d"
            ) from None
    return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


async def _read(settings: Settings, name: str, ids: list[str], now: float) -> Changes:
    from gateway.changes import acknowledge, judge
    from gateway.compose import open_contracts

    async with open_contracts(settings) as contracts:
        found = await judge(contracts, name, now)
        if found is not None and ids:
            known = await acknowledge(contracts, name, ids, now)
            if not known:
                raise GimbalError(
                    f"{name} has no change {', '.join(ids)}; gimbal drift {name} --json tells their ids"
                )
            say(f"{name}: {len(known)} change{'s' * (len(known) != 1)} acknowledged")
            found = await judge(contracts, name, now)
        upstreams = await contracts.upstreams()
    if found is None:
        others = f"; known: {', '.join(upstreams)}" if upstreams else ""
        raise GimbalError(f"nothing is known of {name!r}{others}. gimbal learn FILE --upstream {name} learns it")
    return found


def as_sarif(name: str, found: list[Event]) -> dict[str, Any]:
    """Return events as one SARIF run: the kind is the rule, the operation and pointer a logical location."""
    from discovery.drift import SEVERITY
    from discovery.drift_telling import tell

    results = [
        {
            "ruleId": one.kind,
            "level": LEVELS[one.severity] if event.over is None else "note",
            "message": {"text": tell(one, event.over)},
            "locations": [
                {"logicalLocations": [{"fullyQualifiedName": f"{name} {one.operation} {one.where}{one.pointer}"}]}
            ],
            "partialFingerprints": {"gimbal/v1": event.id},
            "properties": dict(one.evidence),
        }
        for event in found
        for one in (event.drift,)
    ]
    rules = [{"id": kind, "defaultConfiguration": {"level": LEVELS[level]}} for kind, level in SEVERITY.items()]
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": {"name": "Gimbal", "rules": rules}}, "results": results}],
    }


def _show(name: str, found: list[Event], changes: Changes, now: float) -> None:
    from discovery.announcements import tell_announcement
    from discovery.drift_telling import tell

    for event in found:
        word = "over" if event.over is not None else event.drift.severity
        put(f"{word:8}  {clean(tell(event.drift, event.over))} [{event.id[:6]}]")
    for one in changes.announced:
        if not one.withdrawn:
            put(f"{'notice':8}  {clean(tell_announcement(one, now))}")
    if not found:
        others = len(changes.events) - sum(one.acknowledged is not None for one in changes.events)
        if not changes.events:
            say(f"{name}: nothing changed, as far as its answers show")
        else:
            say(f"{name}: nothing else changed" + (f"; {others} earlier" if others else ""))

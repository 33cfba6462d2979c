"""`gimbal drift NAME`: what changed at an upstream, the most severe first, with the evidence for it."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.options import AsJson, Config, Data, Store, read_settings
from gateway.commands.render import clean, put, put_json, say
from gateway.problems import GimbalError

if TYPE_CHECKING:
    from discovery.drift import Drift
    from gateway.settings import Settings

LEVELS = {"breaking": "error", "warning": "warning", "info": "note"}
"""Severity -> level of SARIF 2.1.0 (3.27.10)."""


def drift(
    name: Annotated[str, typer.Argument(help="The upstream.")],
    sarif: Annotated[
        bool, typer.Option("--sarif", help="Print a SARIF 2.1.0 log, as code scanners read it.")
    ] = False,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
    store: Store = None,
) -> None:
    """Show what changed at an upstream: one line a change, the most severe first.

    Exits with 1 when something changed that breaks callers, with 0 otherwise.
    """
    from gateway.knowledge import as_object

    found = asyncio.run(_read(read_settings(config, data, store), name))
    if sarif:
        put(json.dumps(as_sarif(name, found), ensure_ascii=False, indent=1))
    elif as_json:
        for one in found:
            put_json(as_object(one))
    else:
        _show(name, found)
    if any(one.severity == "breaking" for one in found):
        raise typer.Exit(1)


async def _read(settings: Settings, name: str) -> list[Drift]:
    from gateway.compose import open_contracts
    from gateway.knowledge import drifts_of

    async with open_contracts(settings) as contracts:
        found = await drifts_of(contracts, name)
        known = await contracts.upstreams()
    if found is None:
        others = f"; known: {', '.join(known)}" if known else ""
        raise GimbalError(f"nothing is known of {name!r}{others}. gimbal learn FILE --upstream {name} learns it")
    return found


def as_sarif(name: str, found: list[Drift]) -> dict[str, Any]:
    """Return drifts as one SARIF run: the kind is the rule, the operation and pointer a logical location."""
    from discovery.drift import SEVERITY
    from discovery.drift_telling import tell

    results = [
        {
            "ruleId": one.kind,
            "level": LEVELS[one.severity],
            "message": {"text": tell(one)},
            "locations": [
                {"logicalLocations": [{"fullyQualifiedName": f"{name} {one.operation} {one.where}{one.pointer}"}]}
            ],
            "properties": dict(one.evidence),
        }
        for one in found
    ]
    rules = [{"id": kind, "defaultConfiguration": {"level": LEVELS[level]}} for kind, level in SEVERITY.items()]
    return {
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{"tool": {"driver": {"name": "Gimbal", "rules": rules}}, "results": results}],
    }


def _show(name: str, found: list[Drift]) -> None:
    from discovery.drift_telling import tell

    for one in found:
        put(f"{one.severity:8}  {clean(tell(one))}")
    if not found:
        say(f"{name}: nothing changed, as far as its answers show")

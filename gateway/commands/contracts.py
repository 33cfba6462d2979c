"""`gimbal contracts NAME`: what is known of an upstream, why, and how to correct it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.against import against as hold
from gateway.commands.options import AsJson, Config, Data, Store, read_settings
from gateway.commands.render import put, put_json, put_table, say
from gateway.problems import GimbalError

if TYPE_CHECKING:
    from discovery.traffic import Evidence
    from gateway.settings import Settings


def contracts(
    words: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[NAME [OPERATION]] | set NAME TEMPLATE.. | unset NAME TEMPLATE..", show_default=False
        ),
    ] = None,
    openapi: Annotated[bool, typer.Option("--openapi", help="Print it as an OpenAPI 3.1 document.")] = False,
    evidence: Annotated[
        bool, typer.Option("--evidence", help="With --openapi: counts as x-gimbal members.")
    ] = False,
    check: Annotated[
        bool, typer.Option("--check", help="Fail unless the OpenAPI document passes openapi-spec-validator.")
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option("--against", metavar="FILE", help="Hold what was seen against a vendor's OpenAPI document."),
    ] = None,
    revision: Annotated[int | None, typer.Option("--revision", metavar="N", help="An earlier revision.")] = None,
    revisions: Annotated[bool, typer.Option("--revisions", help="List the revisions that are kept.")] = False,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
    store: Store = None,
) -> None:
    """Show what is known of an upstream: operations, how often each was seen, and why a segment is a parameter.

    Without a name it lists the upstreams; with an operation ('GET /orders/{order_id}') it tells that one in depth.
    `set` says how paths go where the evidence misleads ('/users/me', '/tags/{tag}'); it holds until `unset`.
    """
    settings = read_settings(config, data, store)
    match words or []:
        case []:
            asyncio.run(_list(settings, as_json))
        case ["set" | "unset" as verb, name, first, *more]:
            asyncio.run(_set(settings, name, [first, *more], remove=verb == "unset"))
        case [name] | [name, _] if revision is not None:
            put(json.dumps(asyncio.run(_revision(settings, name, revision)), ensure_ascii=False, indent=1))
        case [name] if revisions:
            for number, at, digest in asyncio.run(_read(settings, name)).revisions:
                put_json({"revision": number, "at": at, "digest": digest})
        case [name] if against is not None:
            told = asyncio.run(_read(settings, name))
            hold(against, told.evidence, told.overrides, told.base, as_json)
        case [name] if openapi or check:
            document = asyncio.run(_read(settings, name)).document(evidence)
            if check:
                _check(name, document)
            if openapi:
                put(json.dumps(document, ensure_ascii=False, indent=1))
        case [name]:
            _show(asyncio.run(_read(settings, name)), as_json)
        case [name, operation]:
            _show_operation(asyncio.run(_read(settings, name)), operation, as_json)
        case _:
            raise typer.BadParameter("say NAME, NAME OPERATION, set NAME TEMPLATE, or unset NAME TEMPLATE")


def _check(name: str, document: dict[str, Any]) -> None:
    from discovery.openapi import faults

    if found := faults(document):
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise GimbalError(f"the document of {name!r} is no valid OpenAPI 3.1: {found[0]}{more}")
    say(f"{name}: valid OpenAPI 3.1, {sum(map(len, document['paths'].values()))} operations")


class _Known:
    """All that is known of one upstream, read once."""

    def __init__(
        self,
        name: str,
        evidence: Evidence,
        overrides: list[str],
        revisions: list[tuple[int, float, str]],
        base: str,
    ) -> None:
        self.name = name
        self.evidence = evidence
        self.overrides = overrides
        self.revisions = revisions
        self.base = base

    def document(self, evidence: bool = False) -> dict[str, Any]:
        from discovery.openapi import document
        from discovery.schema import Claims

        version = str(self.revisions[-1][0]) if self.revisions else "0"
        servers = [self.base] if self.base else []
        return document(self.evidence, self.name, servers, self.overrides, Claims(evidence=evidence), version)


async def _set(settings: Settings, name: str, templates: list[str], *, remove: bool) -> None:
    from gateway.compose import open_contracts

    for template in templates:
        if not template.startswith("/"):
            raise typer.BadParameter(f"a template starts with a slash, as in /users/{{user_id}}, not {template!r}")
    async with open_contracts(settings) as store:
        for template in templates:
            await store.override(name, template, remove=remove)
        for template in await store.overrides(name):
            say(f"{name}: {template}")


async def _read(settings: Settings, name: str) -> _Known:
    from discovery.traffic import Evidence
    from gateway.compose import open_contracts

    async with open_contracts(settings) as store:
        state = await store.evidence(name)
        if state is None:
            known = ", ".join(await store.upstreams()) or "none yet"
            raise GimbalError(
                f"nothing is known of {name!r}; known are: {known}. Teach it with: gimbal learn FILE"
            )
        rules, kept = settings.upstreams.get(name), await store.revision(name)
        base = rules.base_url if rules else kept.document["servers"][0]["url"] if kept else ""
        return _Known(name, Evidence.load(state), await store.overrides(name), await store.revisions(name), base)


async def _revision(settings: Settings, name: str, number: int) -> dict[str, Any]:
    from gateway.compose import open_contracts

    async with open_contracts(settings) as store:
        kept = await store.revision(name, number)
        if kept is None:
            raise GimbalError(
                f"revision {number} of {name!r} is not kept; see: gimbal contracts {name} --revisions"
            )
        return kept.document


async def _list(settings: Settings, as_json: bool) -> None:
    from gateway.compose import open_contracts

    async with open_contracts(settings) as store:
        rows = []
        for name in await store.upstreams():
            kept = await store.revision(name)
            operations = sum(map(len, kept.document["paths"].values())) if kept else 0
            rows.append((name, operations, kept.number if kept else 0))
    if as_json:
        for name, operations, number in rows:
            put_json({"upstream": name, "operations": operations, "revision": number})
    elif rows:
        put_table(["UPSTREAM", "OPERATIONS", "REVISION"], [[name, str(n), str(r)] for name, n, r in rows])
    else:
        say("nothing is known yet; teach an upstream with: gimbal learn FILE --upstream NAME")


def _show(told: _Known, as_json: bool) -> None:
    from discovery.contract_telling import operations_of

    known = operations_of(told.evidence, told.overrides)
    if as_json:
        for one in known:
            facts: dict[str, Any] = {"method": one.method, "path": one.path, "seen": one.seen}
            facts |= {"statuses": one.statuses, "accepted": one.accepted, "undecided": [*one.undecided]}
            put_json(facts)
        return
    cells = [
        [
            one.method,
            one.path,
            str(one.seen),
            " ".join(f"{status}x{count}" for status, count in one.statuses.items()),
            f"{one.fields}{' each' if one.of_items else ''}" if one.fields else "",
            ", ".join(one.undecided),
        ]
        for one in known
    ]
    put_table(["METHOD", "PATH", "SEEN", "ANSWERS", "FIELDS", "UNDECIDED"], cells)


def _show_operation(told: _Known, operation: str, as_json: bool) -> None:
    """One operation in depth: parameters with their reasons, then each body, a line a place."""
    from discovery.contract_telling import in_depth

    method, _, path = operation.partition(" ")
    found = in_depth(told.evidence, told.overrides, method, path)
    if found is None:
        raise GimbalError(f"{operation!r} is no operation of {told.name}; see: gimbal contracts {told.name}")
    one = found.operation
    if as_json:
        put_json(told.document(evidence=True)["paths"][one.path][one.method.lower()])
        return
    put(f"{one.method} {one.path}: seen {one.seen} times, accepted {one.accepted}")
    for parameter in found.parameters:
        sure = "" if parameter.certain else " (undecided)"
        put(f"  {{{parameter.name}}}{sure}: {', '.join(parameter.kinds)}; {parameter.why}")
    for part in found.parts:
        put("")
        put_table(
            [part.title.upper(), "TYPE", "PRESENT", "BETWEEN"],
            [
                [place.pointer, place.type, f"{place.seen}/{place.of}", _between(place.between)]
                for place in part.places
            ],
        )


def _between(shares: tuple[float, float] | None) -> str:
    return "" if shares is None else f"{shares[0]:.0%} - {shares[1]:.0%}"

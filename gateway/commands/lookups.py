"""`gimbal lookups NAME`: the look-ups traffic proposes for an upstream; accept one, or drop one."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, TypeVar

import typer

from gateway.commands.options import AsJson, Config, Data, Store, read_settings
from gateway.commands.render import put_json, put_table, say
from gateway.problems import GimbalError

if TYPE_CHECKING:
    from gateway.lookups import Accepted, LookupStore, LookupTold
    from gateway.settings import Settings

T = TypeVar("T")


def lookups(
    name: Annotated[str, typer.Argument(help="The upstream.")],
    accept: Annotated[
        str | None, typer.Option("--accept", metavar="OPERATION", help="Use the one proposed for it from now on.")
    ] = None,
    drop: Annotated[
        str | None, typer.Option("--drop", metavar="OPERATION", help="Use the accepted one no longer.")
    ] = None,
    absent_after: Annotated[
        str | None,
        typer.Option(
            "--absent-after",
            metavar="SPAN",
            help="With --accept: after so long, absence proves it was not applied.",
        ),
    ] = None,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
    store: Store = None,
) -> None:
    """Show the look-ups that traffic proposes and those accepted; none is used before it is accepted."""
    from gateway.form import seconds
    from gateway.lookups import told

    if absent_after is not None and accept is None:
        raise typer.BadParameter("goes with --accept", param_hint="--absent-after")
    try:
        after = math.inf if absent_after is None else seconds(absent_after)
    except ValueError as error:
        raise typer.BadParameter(str(error), param_hint="--absent-after") from None
    settings = read_settings(config, data, store)

    async def work(kept: LookupStore) -> list[LookupTold]:
        if accept is not None:
            await _accept(kept, name, accept, after)
        if drop is not None and not await kept.drop(name, drop):
            raise GimbalError(f"no look-up is accepted for {drop!r} of {name!r}")
        return await told(kept, name)

    rows = with_lookups(settings, work)
    if as_json:
        for row in rows:
            put_json(row.facts)
    elif rows:
        put_table(
            ["OPERATION", "LOOK-UP", "FOUND", "SEEN", "AGAINST", "STATE"],
            [
                [
                    row.form.operation,
                    f"GET {row.form.get}",
                    row.form.found,
                    str(row.seen),
                    str(row.against),
                    _state(row.used),
                ]
                for row in rows
            ],
        )
    else:
        say(f"no look-up is proposed for {name!r} yet: it takes GETs that return what POSTs made")


async def _accept(kept: LookupStore, name: str, operation: str, after: float) -> None:
    from gateway.lookups import Accepted

    for one in await kept.proposals(name):
        if one.form.operation == operation:
            await kept.accept(name, Accepted(one.form, after))
            return
    raise GimbalError(f"no look-up is proposed for {operation!r}: `gimbal lookups {name}` lists those there are")


def with_lookups(settings: Settings, work: Callable[[LookupStore], Awaitable[T]]) -> T:
    """Open what is proposed and accepted, do `work` with it, and return what it returned."""
    from gateway.compose import open_contracts
    from gateway.lookups import LookupStore

    async def run() -> T:
        async with open_contracts(settings) as contracts:
            return await work(LookupStore(contracts.link))

    return asyncio.run(run())


def _state(one: Accepted | None) -> str:
    if one is None:
        return "proposed"
    return "accepted" if math.isinf(one.absent_after) else f"accepted, absent after {one.absent_after:g} s"

"""`gimbal pins NAME`: the shapes workflow types were written for, what leads back, what refusals taught, and a
person's word on either."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.options import AsJson, Config, Data, Store, read_settings
from gateway.commands.render import put, put_json, put_table, say
from gateway.problems import GimbalError

if TYPE_CHECKING:
    from gateway.pinboard import Pinboard


def pins(
    name: Annotated[str, typer.Argument(help="The upstream.")],
    accept: Annotated[
        str | None,
        typer.Option("--accept", metavar="OPERATION", help="The workflow was changed: pin anew."),
    ] = None,
    adapt: Annotated[
        str | None, typer.Option("--adapt", metavar="OPERATION", help="Make the suggested edits from now on.")
    ] = None,
    hold: Annotated[
        str | None, typer.Option("--hold", metavar="OPERATION", help="Stop adapting; answers pass as they come.")
    ] = None,
    require: Annotated[
        str | None,
        typer.Option("--require", metavar="POINTER", help="Stop a safe call where this is not restored."),
    ] = None,
    operation: Annotated[
        str | None, typer.Option("--operation", metavar="OPERATION", help="The operation that --require is about.")
    ] = None,
    type_: Annotated[str | None, typer.Option("--type", metavar="TYPE", help="Only this workflow type's.")] = None,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
    store: Store = None,
) -> None:
    """Show an upstream's pins, one line each; or decide about those of an operation ("GET /orders/{int}").

    Exits with 1 when a pin waits for a person, with 0 otherwise.
    """
    deeds: dict[str, str | None] = {"accept": accept, "adapt": adapt, "hold": hold}
    asked = [(deed, of) for deed, of in deeds.items() if of is not None]
    if len(asked) + bool(require) > 1 or bool(require) is not (operation is not None):
        raise typer.BadParameter("decide one thing at a time; --require POINTER wants --operation OPERATION")
    settings = read_settings(config, data, store)
    deed, of = asked[0] if asked else ("require", operation)
    found = asyncio.run(_read(settings, name, type_, of, deed, require))
    if as_json:
        for one in found:
            put_json(one)
    else:
        _show(name, found)
    if any(one["waits"] for one in found):
        raise typer.Exit(1)


async def _read(
    settings: Any, name: str, type_: str | None, operation: str | None, deed: Any, require: str | None
) -> list[Any]:
    from gateway.compose import open_contracts
    from gateway.pinboard import Pinboard

    async with open_contracts(settings) as contracts:
        board = Pinboard(contracts)
        if operation is None:
            return await board.told(name, type_)
        if not await board.told(name, type_, operation):
            raise await _unknown(board, name, operation)
        if require:
            await board.require(name, operation, require, type_)
        else:
            await board.decide(name, operation, deed, type_)
        return await board.told(name, type_, operation)


async def _unknown(board: Pinboard, name: str, operation: str) -> GimbalError:
    every: list[Any] = await board.told(name)
    known = ", ".join(sorted({one["operation"] for one in every})) or "none yet"
    return GimbalError(f"no pin of {name!r} is of the operation {operation!r}; there are: {known}")


def _show(name: str, found: list[Any]) -> None:
    if not found:
        say(f"{name}: nothing is pinned yet; the first successes of a workflow type pin its shapes")
        return
    pins = [one for one in found if one["side"] == "answer"]
    if pins:
        put_table(
            ["TYPE", "OPERATION", "STATUS", "PINNED", "RUNG", "EDITS"],
            [
                [
                    pin["type"],
                    pin["operation"],
                    str(pin["status"]),
                    "yes" if pin["complete"] else f"after {pin['answers']} answers",
                    pin["halted"] or (pin["rung"] if pin["edits"] else ""),
                    str(len(pin["edits"]) or ""),
                ]
                for pin in pins
            ],
        )
    for one in found:
        for edit in one["edits"]:
            if one["side"] == "request":
                put(f"  {one['operation']} request: {edit['says']}: {edit['stands']}")
            else:
                place = edit["place"] or "(whole)"
                put(f"  {one['operation']} {edit['edit']} {place}: {edit['stands']}. {edit['why']}")

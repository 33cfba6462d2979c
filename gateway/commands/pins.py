"""`gimbal pins NAME`: the shapes workflow types were written for, what leads back, what refusals taught, and a
person's word on either."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from gateway.commands.options import AsJson, Config, Data, Store, read_settings
from gateway.commands.render import put, put_json, put_table, say
from gateway.problems import GimbalError

if TYPE_CHECKING:
    from gateway.shelf import Shelf, V
    from policies.lessons import Lessons
    from policies.pins import Pin


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
    from policies import lessons
    from policies import pins as rules

    turns: list[tuple[str | None, Turns]] = [
        (accept, (rules.adopted, lessons.forgotten)),
        (adapt, (rules.approved, lessons.approved)),
        (hold, (rules.held, lessons.held)),
        (operation if require else None, (lambda pin: rules.required(pin, require or ""), None)),
    ]
    wanted = [(one, turn) for one, turn in turns if one is not None]
    if len(wanted) > 1 or bool(require) is not (operation is not None):
        raise typer.BadParameter("decide one thing at a time; --require POINTER wants --operation OPERATION")
    settings = read_settings(config, data, store)
    found, taught = asyncio.run(_read(settings, name, type_, *(wanted[0] if wanted else (None, (None, None)))))
    if as_json:
        for pin in found:
            put_json(as_object(pin))
        for one in taught:
            put_json(lessons_object(one))
    else:
        _show(name, found, taught)
    if any(waits(pin) for pin in found) or any(one.pending for one in taught):
        raise typer.Exit(1)


Turns = tuple[Callable[[Any], Any] | None, Callable[[Any], Any] | None]
"""What a person's word makes of a pin, and of an operation's lessons."""


async def _read(
    settings: Any, name: str, type_: str | None, operation: str | None, turns: Turns
) -> tuple[list[Pin], list[Lessons]]:
    from gateway.compose import open_contracts
    from gateway.pins import lessons_beside, pins_beside

    async with open_contracts(settings) as contracts:
        pinned, taught = pins_beside(contracts), lessons_beside(contracts)
        found = [pin for pin in await pinned.all(name) if type_ in (None, pin.type)]
        known = [one for one in await taught.all(name) if one.mends or one.pending]
        if operation is None:
            return found, known
        chosen = [pin for pin in found if pin.operation == operation]
        learned = [one for one in known if one.operation == operation]
        if not chosen and not learned:
            named = ", ".join(sorted({pin.operation for pin in found} | {one.operation for one in known}))
            raise GimbalError(
                f"no pin of {name!r} is of the operation {operation!r}; there are: {named or 'none yet'}"
            )
        return await _turned(pinned, name, chosen, turns[0]), await _turned(taught, name, learned, turns[1])


async def _turned(shelf: Shelf[V], name: str, chosen: list[V], turn: Callable[[V], V] | None) -> list[V]:
    if turn is None:
        return chosen
    turned = [turn(one) for one in chosen]
    for one in turned:
        await shelf.keep(name, one)
    return turned


def lessons_object(one: Lessons) -> dict[str, Any]:
    """Return an operation's lessons as `gimbal pins --json` has them."""
    from policies.lessons import told

    return {
        "operation": one.operation,
        "side": "request",
        "rung": one.standing.rung.value,
        "halted": one.standing.halt or None,
        "mends": [{**told(mend), "sure": True} for mend in one.mends]
        + [{**told(mend), "sure": False} for mend in one.pending],
    }


def as_object(pin: Pin) -> dict[str, Any]:
    """Return a pin as `gimbal pins --json` has it: places, kinds and reasons, never a value."""
    from discovery.adapt import told

    return {
        "type": pin.type,
        "operation": pin.operation,
        "status": pin.status,
        "answers": pin.shape.answers,
        "complete": pin.complete,
        "rung": pin.standing.rung.value,
        "halted": pin.standing.halt or None,
        "edits": [
            {**told(one.edit), "sure": one.sure or one.place in pin.accepted, "why": one.why}
            for one in pin.adaptation.edits
        ],
        "required": sorted(pin.required),
        "places": {at: sorted(place.kinds) for at, place in pin.shape.places.items()},
    }


def waits(pin: Pin) -> bool:
    """Tell whether an edit waits for a person's word."""
    return any(one.place not in pin.accepted for one in pin.adaptation.suggestions)


def _show(name: str, found: list[Pin], taught: list[Lessons]) -> None:
    from discovery.edits import Lost
    from policies.lessons import said

    for lesson in taught:
        standing = lesson.standing.halt or lesson.standing.rung.value
        for mend in lesson.mends:
            put(f"  {lesson.operation} request: {said(mend)} ({standing})")
        for mend in lesson.pending:
            put(f"  {lesson.operation} request: {said(mend)}: waits")
    if not found and not taught:
        say(f"{name}: nothing is pinned yet; the first successes of a workflow type pin its shapes")
        return
    if not found:
        return
    put_table(
        ["TYPE", "OPERATION", "STATUS", "PINNED", "RUNG", "EDITS"],
        [
            [
                pin.type,
                pin.operation,
                str(pin.status),
                "yes" if pin.complete else f"after {pin.shape.answers} answers",
                pin.standing.halt or (pin.standing.rung.value if pin.adaptation.edits else ""),
                str(len(pin.adaptation.edits) or ""),
            ]
            for pin in found
        ],
    )
    for pin in found:
        for one in pin.adaptation.edits:
            lost = isinstance(one.edit, Lost)
            mark = (
                "is counted"
                if lost
                else "is made"
                if one.sure
                else "accepted"
                if one.place in pin.accepted
                else "waits"
            )
            kind = type(one.edit).__name__.lower()
            put(f"  {pin.operation} {kind} {one.place or '(whole)'}: {mark}. {one.why}")

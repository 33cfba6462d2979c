"""What workflows keep of upstreams, for people: pins with their edits, what refusals taught, and a word on either.

`gimbal pins` and the console both show this and decide through it. It tells places, kinds and reasons; of values
only those that an answer allowed or a person configured.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from discovery import adapt
from discovery.edits import Lost
from discovery.exchange import Json
from gateway.contracts import RedisContracts
from gateway.pins import lessons_beside, pins_beside
from policies import lessons, pins
from policies.lessons import Lessons
from policies.pins import Pin

Deed: TypeAlias = Literal["accept", "adapt", "hold"]

DEEDS: dict[str, tuple[Callable[[Pin], Pin], Callable[[Lessons], Lessons]]] = {
    "accept": (pins.adopted, lessons.forgotten),
    "adapt": (pins.approved, lessons.approved),
    "hold": (pins.held, lessons.held),
}
"""A person's word -> what it makes of a pin, and of an operation's lessons."""


class Pinboard:
    """Belongs to one event loop. Every method raises `LedgerUnavailable` while the store is away."""

    def __init__(self, contracts: RedisContracts) -> None:
        self._pins = pins_beside(contracts)
        self._lessons = lessons_beside(contracts)

    async def told(self, upstream: str, type: str | None = None, operation: str | None = None) -> list[Json]:
        """Return pins, then lessons: of one workflow type and one operation, where they are named."""
        found = [pin for pin in await self._pins.all(upstream) if type in (None, pin.type)]
        taught = [one for one in await self._lessons.all(upstream) if one.mends or one.pending]
        shown = [pin_view(pin) for pin in found if operation in (None, pin.operation)]
        return [*shown, *(lessons_view(one) for one in taught if operation in (None, one.operation))]

    async def decide(self, upstream: str, operation: str, deed: Deed, type: str | None = None) -> None:
        """Take a person's word on an operation: on its pins (of one workflow type, or all) and its lessons."""
        of_pin, of_lessons = DEEDS[deed]
        await self._turn_pins(upstream, operation, type, of_pin)
        for one in await self._lessons.all(upstream):
            if one.operation == operation and (one.mends or one.pending):
                await self._lessons.keep(upstream, of_lessons(one))

    async def require(self, upstream: str, operation: str, pointer: str, type: str | None = None) -> None:
        """Mark a place: a safe call whose answer lacks it is stopped."""
        await self._turn_pins(upstream, operation, type, lambda pin: pins.required(pin, pointer))

    async def _turn_pins(
        self, upstream: str, operation: str, type: str | None, turn: Callable[[Pin], Pin]
    ) -> None:
        for pin in await self._pins.all(upstream):
            if pin.operation == operation and type in (None, pin.type):
                await self._pins.keep(upstream, turn(pin))


def pin_view(pin: Pin) -> dict[str, Json]:
    """Return a pin as `gimbal pins --json` has it."""
    return {
        "side": "answer",
        "type": pin.type,
        "operation": pin.operation,
        "status": pin.status,
        "answers": pin.shape.answers,
        "complete": pin.complete,
        "rung": pin.standing.rung.value,
        "halted": pin.standing.halt or None,
        "waits": any(one.place not in pin.accepted for one in pin.adaptation.suggestions),
        "edits": [
            {
                **adapt.told(one.edit),
                "place": one.place,
                "sure": one.sure or one.place in pin.accepted,
                "stands": _stands(one, pin),
                "says": adapt.said(one.edit),
                "why": one.why,
            }
            for one in pin.adaptation.edits
        ],
        "required": [*sorted(pin.required)],
        "places": {at: [*sorted(place.kinds)] for at, place in pin.shape.places.items()},
    }


def lessons_view(one: Lessons) -> dict[str, Json]:
    """Return an operation's lessons as `gimbal pins --json` has them."""
    standing = one.standing.halt or "is made"
    every = [(mend, True, standing) for mend in one.mends] + [(mend, False, "waits") for mend in one.pending]
    return {
        "side": "request",
        "operation": one.operation,
        "rung": one.standing.rung.value,
        "halted": one.standing.halt or None,
        "waits": bool(one.pending),
        "edits": [
            {**lessons.told(mend), "sure": sure, "stands": stands, "says": lessons.said(mend)}
            for mend, sure, stands in every
        ],
    }


def _stands(one: adapt.Evidenced, pin: Pin) -> str:
    if isinstance(one.edit, Lost):
        return "is counted"
    if one.sure:
        return "is made"
    return "accepted" if one.place in pin.accepted else "waits"

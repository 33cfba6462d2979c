"""Pins and lessons in the store, beside an upstream's contracts."""

from __future__ import annotations

from gateway.contracts import RedisContracts
from gateway.shelf import Shelf
from policies import lessons, pins
from policies.lessons import Lessons
from policies.pins import Pin


def pins_beside(contracts: RedisContracts) -> Shelf[Pin]:
    """Return the pins of upstreams (`gimbal:{c/NAME}:pins`), over the contracts' connection."""
    return Shelf(contracts.link, contracts.vault, "pins", _name, pins.load, pins.ahead)


def lessons_beside(contracts: RedisContracts) -> Shelf[Lessons]:
    """Return what refusals taught (`gimbal:{c/NAME}:lessons`), over the contracts' connection."""
    return Shelf(
        contracts.link, contracts.vault, "lessons", lambda one: one.operation, lessons.load, lessons.ahead
    )


def _name(pin: Pin) -> str:
    return f"{pin.type} {pin.operation} {pin.status}"

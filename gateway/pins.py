"""Pins in the store, beside an upstream's contracts: `gimbal:{c/NAME}:pins`, each sealed.

A person's word on a pin is written over whatever is there; a gateway writes only over what it has read, and where
somebody else was faster, `policies.pins.ahead` says which of the two holds.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from gateway.cluster import ClusterLink
from gateway.contracts import RedisContracts
from gateway.link import Link
from gateway.shelf import Shelf
from gateway.vault import Vault
from policies import pins
from policies.pins import Pin


@dataclass(slots=True)
class RedisPins:
    """The pins of upstreams, shared by replicas. Every method raises `LedgerUnavailable`."""

    link: Link | ClusterLink
    vault: Vault
    _marks: dict[tuple[str, str], bytes] = field(default_factory=dict)  # of what was last read or written
    _read: dict[str, int] = field(default_factory=dict)  # writings that had been made when all was read

    @classmethod
    def beside(cls, contracts: RedisContracts) -> RedisPins:
        """Return the pins in the same store, over the same connection."""
        return cls(contracts.link, contracts.vault)

    async def all(self, upstream: str) -> list[Pin]:
        """Return an upstream's pins, by type and operation."""
        found = await self._shelf.all(upstream)
        self._marks.update({(upstream, name): shelved.mark for name, shelved in found.items()})
        loaded = [pins.load(shelved.state) for shelved in found.values()]
        return sorted(loaded, key=lambda pin: (pin.type, pin.operation, pin.status))

    async def news(self, upstream: str) -> list[Pin] | None:
        """Return all pins where any was written since they were last asked for here; else None."""
        writings = await self._shelf.writings(upstream)
        if self._read.get(upstream) == writings:
            return None
        found = await self.all(upstream)
        self._read[upstream] = writings
        return found

    async def keep(self, upstream: str, pin: Pin) -> None:
        """Write a pin over whatever is there: a person decided about it."""
        await self._shelf.put(upstream, _name(pin), pin.state())

    async def merge(self, upstream: str, pin: Pin) -> Pin:
        """Write what this process knows of a pin; return what holds now: another's where that was ahead."""
        name = _name(pin)
        while True:
            mark = self._marks.get((upstream, name), b"")
            written, there = await self._shelf.swap(upstream, name, pin.state(), mark)
            self._marks[upstream, name] = there.mark
            if written:
                return pin
            theirs = pins.load(there.state)
            if pins.ahead(pin, theirs) is theirs:
                return theirs

    async def aclose(self) -> None:
        await self.link.aclose()

    @property
    def _shelf(self) -> Shelf:
        return Shelf(self.link, self.vault, "pins")


def _name(pin: Pin) -> str:
    return f"{pin.type} {pin.operation} {pin.status}"

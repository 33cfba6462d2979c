"""What a transition waits for beyond the store's word: that it is on disk, or with replicas (WAITAOF, WAIT).

The store is asked once for all transitions of one write, on the connection they went over: it answers for the
last write of that connection and, since writes are in order, for all before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Confirm:
    """`local`: on the store's own disk. `replicas`: with so many of its replicas, on their disks or in their
    `memory`. `timeout` (seconds) is how long the store has for that."""

    local: bool = True
    replicas: int = 0
    memory: bool = False
    timeout: float = 1.0

    def commands(self) -> list[tuple[str, int, int] | tuple[str, int, int, int]]:
        """Return what to ask the store, in order."""
        milliseconds = max(1, round(self.timeout * 1000))  # 0 would wait for ever
        on_disk = 0 if self.memory else self.replicas
        asked: list[tuple[str, int, int] | tuple[str, int, int, int]] = []
        if self.local or on_disk:
            asked.append(("WAITAOF", int(self.local), on_disk, milliseconds))
        if self.memory and self.replicas:
            asked.append(("WAIT", self.replicas, milliseconds))
        return asked

    def lacks(self, answers: list[Any]) -> str:
        """Return what the store could not confirm, judged by its answers to `commands()`; empty: nothing."""
        lacking = []
        for asked, answer in zip(self.commands(), answers, strict=True):
            match answer:
                case [int() as local, int() as replicas]:
                    if local < asked[1]:
                        lacking.append("its own disk")
                    if replicas < asked[2]:
                        lacking.append(f"{asked[2]} of its replicas (only {replicas})")
                case int() as replicas if replicas < asked[1]:
                    lacking.append(f"{asked[1]} of its replicas (only {replicas})")
                case int():
                    pass
                case refusal:
                    lacking.append(f"anything ({refusal})")
        if not lacking:
            return ""
        return f"the store has it, but did not confirm it on {' and '.join(lacking)} within {self.timeout:g} s"

    @property
    def promise(self) -> str:
        """What a call may count on."""
        places = ["on the store's disk"] if self.local else []
        if self.replicas:
            where = "in the memory" if self.memory else "on the disk"
            places.append(f"{where} of {self.replicas} replica{'s' * (self.replicas > 1)}")
        return f"each transition is waited for until it is {' and '.join(places)}"

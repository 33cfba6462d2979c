"""Every boundary of a call's life at which a gateway may be killed, counted; and death at exactly the n-th.

Planted from outside, in a process made for tests (`tests.hostile.soak.nursery`): no hook lives in the gateway.
The boundaries, each with a label that says which it was:

    life     before and after every action; when the life has ended, and when its reply was delivered
    store    a command before it is sent; after it is sent, its reply lost; after its reply
    wire     before the first byte of a request; after some of its bytes; after all;
             before an answer, after its head, after all of it

Only lives count, and the commands they send: what the gateway does by the clock alone (renewals, sweeps) would
make the numbering differ from run to run.
"""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Generator
from typing import Any, TypeVar

from gateway import ledger
from gateway.gate import Gate
from gateway.link import Link, Script, _Line
from gateway.runner import Runner
from gateway.wire_connection import Connection

COUNTED = ("CLAIM", "CHANGE", "OCCURRENCE", "DELIVERED")
"""The ledger's scripts whose commands are counted."""

R = TypeVar("R")


class Points:
    """Counts boundaries, and signals itself `number` at the `at`-th. What it says on `said` is a label a line,
    the fatal one with a `!`."""

    def __init__(self, at: int, number: int, said: int, trace: bool) -> None:
        self._at = at
        self._number = number
        self._said = said
        self._trace = trace
        self._count = 0

    @property
    def next_is_fatal(self) -> bool:
        """Does it die at the next boundary? (A stop is not fatal.)"""
        return self._number == signal.SIGKILL and self._count + 1 == self._at

    def __call__(self, label: str) -> None:
        self._count += 1
        fatal = self._count == self._at
        if self._trace or fatal:
            os.write(self._said, f"{'!' if fatal else ''}{self._count} {label}\n".encode())
        if fatal:
            os.kill(os.getpid(), self._number)


class Tapped:
    """A transport that can die with what it wrote out: the loop's own would not have sent it yet.

    `all` says what boundary lies behind a write, `some` what lies amid it; nothing: none.
    """

    def __init__(
        self, transport: Any, point: Points, all: Callable[[], str], some: Callable[[], str] = str
    ) -> None:
        self._transport = transport
        self._point = point
        self._all = all
        self._some = some

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        for label, part in ((self._some(), data[: len(data) // 2]), (self._all(), data)):
            if label:
                if self._point.next_is_fatal:
                    os.write(self._transport.get_extra_info("socket").fileno(), part)
                self._point(label)
        self._transport.write(data)


def plant(point: Points) -> None:
    """Put `point` at every boundary of this process's gateway."""
    _plant_in_lives(point)
    _plant_in_store(point)
    _plant_on_wire(point)


def _plant_in_lives(point: Points) -> None:
    perform, answer, delivered = Runner.perform, Gate.perform, Gate.delivered

    def counted(life: Generator[Any, Any, R]) -> Generator[Any, Any, R]:
        result = None
        while True:
            try:
                act = life.send(result)
            except StopIteration as end:
                point("life: ended")
                return end.value  # type: ignore[no-any-return]
            name = type(act).__name__
            point(f"life: before {name}")
            result = yield act
            point(f"life: after {name}")

    async def performed(self: Runner, life: Any, *arguments: Any) -> Any:
        return await perform(self, counted(life), *arguments)

    async def answered(self: Gate, *arguments: Any) -> Any:
        passed = await answer(self, *arguments)
        point("life: reply ready")
        return passed

    async def handed_over(self: Gate, passed: Any) -> None:
        point("life: reply delivered")
        await delivered(self, passed)

    Runner.perform = performed  # type: ignore[method-assign]
    Gate.perform = answered  # type: ignore[method-assign]
    Gate.delivered = handed_over  # type: ignore[method-assign]


def _plant_in_store(point: Points) -> None:
    scripts = {name: script for name, script in vars(ledger).items() if isinstance(script, Script)}
    names = {by: name for name, script in scripts.items() for by in (script.sha, script.text)}
    names[ledger.DELIVERED] = "DELIVERED"
    enqueue, answer, open_line = Link._enqueue, Link._answer, _Line.__init__
    queued: list[str] = []
    waiting: dict[asyncio.Future[Any], str] = {}

    def sent() -> str:
        label = "+".join(queued)
        queued.clear()
        return label and f"store: sent {label}"

    def enqueued(self: Link, command: tuple[Any, ...]) -> asyncio.Future[Any]:
        name = names.get(command[1], "") if len(command) > 1 else ""
        if name not in COUNTED:
            return enqueue(self, command)
        point(f"store: before {name}")
        future = enqueue(self, command)
        queued.append(name)
        waiting[future] = name
        return future

    async def answered(self: Link, future: asyncio.Future[Any], *rest: Any) -> Any:
        name = waiting.pop(future, "")
        told = await answer(self, future, *rest)
        if name:
            point(f"store: after {name}")
        return told

    def opened(self: _Line, *arguments: Any) -> None:
        open_line(self, *arguments)
        self.transport = Tapped(self.transport, point, sent)  # type: ignore[assignment]

    Link._enqueue = enqueued  # type: ignore[method-assign]
    Link._answer = answered  # type: ignore[method-assign]
    _Line.__init__ = opened  # type: ignore[method-assign]


def _plant_on_wire(point: Points) -> None:
    made, start, received = Connection.connection_made, Connection.start, Connection.data_received

    def tapped(self: Connection, transport: Any) -> None:
        halves = "wire: some of the request", "wire: all of the request"
        made(self, Tapped(transport, point, lambda: halves[1], lambda: halves[0]))  # type: ignore[arg-type]

    def started(self: Connection, *arguments: Any, **options: Any) -> Any:
        point("wire: before the request")
        return start(self, *arguments, **options)

    def fed(self: Connection, data: bytes) -> None:
        head, end, body = data.partition(b"\r\n\r\n")
        point("wire: before the answer")
        if not (end and body):
            received(self, data)
        else:
            received(self, head + end)
            point("wire: the answer's head")
            received(self, body)
        point("wire: all of the answer")

    Connection.connection_made = tapped  # type: ignore[method-assign]
    Connection.start = started  # type: ignore[method-assign]
    Connection.data_received = fed  # type: ignore[method-assign]

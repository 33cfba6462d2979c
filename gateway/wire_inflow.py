"""The body of one answer on its way to a reader who may be slower than the upstream."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from typing import Protocol

from discovery.exchange import Fault

HIGH, LOW = 256 * 1024, 64 * 1024
"""Bytes that may lie unread before the upstream is made to wait, and when it goes on."""


class Source(Protocol):
    """Where the parts come from."""

    def hold(self) -> None: ...

    def go_on(self) -> None: ...

    def abort(self) -> None: ...


class Inflow:
    """The parts of one answer's body on their way to a reader who may be slower than the upstream."""

    __slots__ = ("_ended", "_fault", "_parts", "_size", "_source", "_waiter", "full")

    def __init__(self, source: Source) -> None:
        self.full = False  # the source has been told to hold
        self._source = source
        self._parts: deque[bytes] = deque()
        self._size = 0
        self._fault: Fault | None = None
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    # For the source

    def put(self, parts: list[bytes]) -> None:
        self._parts += parts
        self._size += sum(map(len, parts))
        if self._size > HIGH and not self.full:
            self.full = True
            self._source.hold()
        self._wake()

    def end(self, fault: Fault | None) -> None:
        self._ended = True
        self._fault = fault
        self._wake()

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    # For the reader

    def __aiter__(self) -> AsyncIterator[bytes | Fault]:
        return self

    async def __anext__(self) -> bytes | Fault:
        while not self._parts:
            if self._fault is not None:
                fault, self._fault = self._fault, None
                return fault
            if self._ended:
                raise StopAsyncIteration
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        part = self._parts.popleft()
        self._size -= len(part)
        if self.full and self._size < LOW:
            self.full = False
            if not self._ended:
                self._source.go_on()
        return part

    async def aclose(self) -> None:
        self._parts.clear()
        if not self._ended:
            self._ended = True
            self._source.abort()

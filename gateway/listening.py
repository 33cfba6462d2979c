"""Takes connections on one listening socket until told to stop, and ends in good order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import sys
import threading
from collections.abc import Awaitable, Callable, Collection, Iterator

from gateway.asked import Asked
from gateway.caller import Caller, Reception

GRACE = 30.0
"""Seconds calls under way may take to end after SIGTERM: the default patience of a caller."""

PATIENCE = 75.0
"""Seconds an idle connection of a caller is kept, longer than clients keep theirs, so that they close first; also
how long a request may take to come in, as nginx's would (60 to 75)."""

SWEEP = 5.0
"""Seconds between looks for callers that have been silent for too long."""

LOOK = 0.02
"""Seconds between looks, at the end, whether all have gone."""

BACKLOG = 2048
"""Connections that wait to be taken. The system caps it."""


class Listening:
    """`receive` answers one request; `limit` is the most bytes of a request's head. `alone` are lives that go on
    without their callers, and are waited for at the end like those of callers."""

    def __init__(
        self, receive: Callable[[Asked], Awaitable[None]], limit: int, alone: Collection[object] = ()
    ) -> None:
        self._alone = alone
        self._reception = Reception(receive, limit, PATIENCE)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stop = asyncio.Event()
        self._hurry = asyncio.Event()

    def stop(self) -> None:
        """Take no more connections, and end once what is under way has; told twice, at once. From any thread."""
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # it has ended
                self._loop.call_soon_threadsafe(self._told)

    async def run(self, listener: socket.socket, ready: Callable[[], None]) -> None:
        """Serve on `listener` until stopped; `ready` is called once connections are taken."""
        self._loop = loop = asyncio.get_running_loop()
        with self._signals():
            server = await loop.create_server(lambda: Caller(self._reception), sock=listener, backlog=BACKLOG)
            try:
                ready()
                while not self._stop.is_set():
                    self._sweep()
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stop.wait(), SWEEP)
            finally:
                server.close()
                await self._end()

    def _told(self) -> None:
        if self._stop.is_set():
            self._hurry.set()
        self._stop.set()

    def _sweep(self) -> None:
        now = asyncio.get_running_loop().time()
        for caller in list(self._reception.callers):
            caller.look(now)

    async def _end(self) -> None:
        for caller in list(self._reception.callers):
            caller.retire()
        loop, lives, callers = asyncio.get_running_loop(), self._reception.lives, self._reception.callers
        ends = loop.time() + GRACE
        while (lives or callers or self._alone) and loop.time() < ends and not self._hurry.is_set():
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._hurry.wait(), LOOK)
        for life in list(lives):
            life.cancel()
        await asyncio.gather(*lives, return_exceptions=True)
        for caller in list(callers):
            caller.abort()

    @contextlib.contextmanager
    def _signals(self) -> Iterator[None]:
        """Stop on SIGINT and SIGTERM, where they are ours to take."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        numbers = (signal.SIGINT, signal.SIGTERM)
        before = {number: signal.getsignal(number) for number in numbers}
        for number in numbers:
            if sys.platform == "win32":
                signal.signal(number, lambda *_: self.stop())
            else:
                asyncio.get_running_loop().add_signal_handler(number, self._told)
        try:
            yield
        finally:
            for number in numbers:
                if sys.platform != "win32":
                    asyncio.get_running_loop().remove_signal_handler(number)
                signal.signal(number, before[number])

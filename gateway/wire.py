"""HTTP/1.1 to one upstream, knowing how far the bytes got.

Ours, because no client library says whether a request may have left, and because those that come near
cost a hundred times as much. `wire_head` writes heads, `wire_dial` connects, `wire_connection` talks;
here is the pool of keep-alive connections, which decides on which connection a request goes out:

- The connection used last is used next; one that was closed, or idle for `KEEP_ALIVE`, is left alone.
- A connection that turns out closed before a byte was written is replaced in silence. Once a byte
  may have left, nothing is ever sent again from here: that is for `policies` to decide.
- At most `limit` connections; beyond it requests queue, first come first served, for `connect_timeout`.

Times: `connect_timeout` bounds name and connection, TLS, and the queue, each; `timeout` is seconds from the
first byte sent to the complete head of the final answer, and between parts of the body after that.
`not_after` is looked at immediately before the write.

Not done here: HTTP/2, proxies, client certificates (see `gateway.upstream`); trailers are read and dropped.
"""

from __future__ import annotations

import asyncio
import select
from collections import deque
from collections.abc import AsyncIterator
from time import monotonic

from discovery.exchange import Fault, Phase, Request, Response
from gateway.streamed import Streamed
from gateway.wire_connection import Connection
from gateway.wire_dial import Origin, dial
from gateway.wire_head import compose

KEEP_ALIVE = 4.0
"""Seconds an idle connection is used again: below 5, at which Node and uvicorn close theirs. A request that
meets the closing is in doubt, which costs more than a handshake."""

PEEK_AFTER = 0.05
"""Idle seconds after which a connection's socket is asked (one system call) whether the end has come.
After a shorter time the loop has looked itself; after a longer one this process may have been stopped."""

LIMIT = 512
"""Connections to one upstream: more than a gateway process keeps busy, fewer than file descriptors allow."""


class Wire:
    """An `Upstream` (and `StreamingUpstream`) over HTTP/1.1. Bound to the event loop it is first used in."""

    def __init__(
        self,
        origin: Origin,
        *,
        connect_timeout: float = 5.0,
        body_limit: int = 10 * 1024 * 1024,
        limit: int = LIMIT,
        keep_alive: float = KEEP_ALIVE,
    ) -> None:
        self._origin = origin
        self._connect_timeout = connect_timeout
        self._body_limit = body_limit
        self._limit = limit
        self._keep_alive = keep_alive
        self._open = 0  # connections, and those being made
        self._all: set[Connection] = set()
        self._idle: list[Connection] = []
        self._waiters: deque[asyncio.Future[Connection | Fault | None]] = deque()
        self._sweep: asyncio.TimerHandle | None = None
        self._closed = False

    @property
    def idle(self) -> int:
        """Connections that wait for use."""
        return len(self._idle)

    async def send(self, request: Request, *, timeout: float, not_after: float | None = None) -> Response | Fault:
        """Send, and return the whole answer; a body beyond `body_limit` is a fault in phase `body`."""
        answer = await self._ask(request, None, timeout, not_after, self._body_limit, True)
        assert not isinstance(answer, Streamed)
        return answer

    async def open(
        self,
        request: Request,
        body: AsyncIterator[bytes] | None = None,
        *,
        timeout: float,
        not_after: float | None = None,
        whole: int = 0,
    ) -> Response | Streamed | Fault:
        """See `gateway.streamed.StreamingUpstream`."""
        return await self._ask(request, body, timeout, not_after, whole, False)

    async def aclose(self) -> None:
        """Close every connection; exchanges that are going on end in a fault."""
        self._closed = True
        if self._sweep is not None:
            self._sweep.cancel()
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_result(_CLOSING)
        for connection in tuple(self._all):
            connection.fail("the gateway is closing")

    async def _ask(
        self,
        request: Request,
        body: AsyncIterator[bytes] | None,
        timeout: float,
        not_after: float | None,
        whole: int,
        bounded: bool,
    ) -> Response | Streamed | Fault:
        length = len(request.body) if body is None else _promised(request)
        head = compose(request, self._origin.authority, self._origin.prefix, length)
        if isinstance(head, Fault):
            return head
        data = head + request.body if body is None and request.body else head
        while True:
            connection = self._reusable() or await self._made()
            if isinstance(connection, Fault):
                return connection
            new = connection.served == 0
            started = connection.start(
                data,
                head_only=request.method == "HEAD",
                timeout=timeout,
                not_after=not_after,
                whole=whole,
                bounded=bounded,
            )
            if not isinstance(started, Fault):
                break
            if new or connection.open:  # a new one was closed too, or it is not the connection's fault
                return started
        if body is not None:
            connection.pump(body, length)
        try:
            return await started
        except asyncio.CancelledError:
            if started.cancelled():
                connection.abort()
            elif isinstance(
                answer := started.result(), Streamed
            ):  # it came in the very turn; else nothing is open
                await answer.aclose()
            raise

    # The pool

    def released(self, connection: Connection) -> None:
        """Told by a connection that it is clean and free."""
        connection.idle_since = monotonic()
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(connection)
                return
        if self._closed:
            connection.abort()
            return
        self._idle.append(connection)
        if self._sweep is None:
            self._sweep = asyncio.get_running_loop().call_later(self._keep_alive, self._swept)

    def lost(self, connection: Connection) -> None:
        """Told by a connection that it has ended."""
        self._all.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._permit()

    def _permit(self) -> None:
        """A place has become free: hand it to who waits longest."""
        self._open -= 1
        while self._waiters:
            waiter = self._waiters.popleft()
            if not waiter.done():
                self._open += 1
                waiter.set_result(None)
                return

    def _reusable(self) -> Connection | None:
        while self._idle:
            connection = self._idle.pop()
            if self._sound(connection):
                return connection
            connection.abort()
        return None

    def _sound(self, connection: Connection) -> bool:
        idle = monotonic() - connection.idle_since
        return connection.open and idle < self._keep_alive and (idle < PEEK_AFTER or _silent(connection.fileno()))

    async def _made(self) -> Connection | Fault:
        """Return a connection of one's own: a new one, or the next that becomes free."""
        if self._closed:
            return _CLOSING
        if self._open < self._limit:
            self._open += 1
            return await self._dialled()
        loop = asyncio.get_running_loop()
        waiter: asyncio.Future[Connection | Fault | None] = loop.create_future()
        self._waiters.append(waiter)
        timer = loop.call_later(self._connect_timeout, _give_up, waiter)
        try:
            given = await waiter
        except asyncio.CancelledError:
            if not waiter.cancelled():  # something was put in our hands already
                match waiter.result():
                    case Connection() as connection:
                        self.released(connection)
                    case None:
                        self._permit()
            raise
        finally:
            timer.cancel()
        return await self._dialled() if given is None else given

    async def _dialled(self) -> Connection | Fault:
        """Return a new connection, for which a place is taken already."""
        made: Connection | Fault | None = None
        try:
            made = await dial(self._origin, Connection(self, self._origin.tls is not None), self._connect_timeout)
        finally:
            if not isinstance(made, Connection):
                self._permit()
        if isinstance(made, Connection):
            if self._closed or not made.open:
                made.abort()
                self._permit()
                return (
                    _CLOSING if self._closed else Fault(Phase.UNSENT, "the upstream closed the connection at once")
                )
            made.owned = True
            self._all.add(made)
        return made

    def _swept(self) -> None:
        """Close what has been idle too long; come back while anything is idle."""
        self._sweep = None
        now = monotonic()
        for connection in [one for one in self._idle if now - one.idle_since >= self._keep_alive]:
            self._idle.remove(connection)
            connection.abort()
        if self._idle:
            self._sweep = asyncio.get_running_loop().call_later(self._keep_alive, self._swept)


_CLOSING = Fault(Phase.UNSENT, "the gateway is closing")


def _give_up(waiter: asyncio.Future[Connection | Fault | None]) -> None:
    if not waiter.done():
        waiter.set_result(Fault(Phase.POOL, "no connection became free in time", timed_out=True))


def _promised(request: Request) -> int | None:
    """Return the length a streamed body's request says it will have."""
    value = request.header(b"content-length")
    return int(value) if value is not None and value.isdigit() else None


def _silent(fileno: int) -> bool:
    """Whether nothing is to be read from a socket that nobody owes us anything on."""
    if not hasattr(select, "poll"):  # Windows: the loop will notice
        return True
    poll = select.poll()
    poll.register(fileno, select.POLLIN)
    return not poll.poll(0)

"""One connection to the store, shared by all calls of an event loop: commands of one turn leave in one write.

Promises: answers come back in the order of commands; a connection that fails, fails exactly the commands in
flight (their effect is unknown) and none that was not yet sent: those go over the next connection. A store that
does not answer within `timeout` counts as failed. Every failure is `LedgerUnavailable`. Where commands are to be
confirmed, one `Confirm` is asked for all of one write, and no answer is handed out before its own.

Connecting (TLS, AUTH, SELECT, unix sockets) and parsing are redis-py's and hiredis's; redis-py's own pipelines
cost four times the CPU at 32 concurrent callers (docs: why).
"""

from __future__ import annotations

import asyncio
from collections import deque
from hashlib import sha1
from typing import Any, TypeAlias

import hiredis
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import NoScriptError, RedisError, ResponseError

from gateway.confirm import Confirm
from gateway.problems import LedgerUnavailable, Unconfirmed

Argument: TypeAlias = str | bytes | int | float

TIMEOUT = 4.0
"""Seconds a store may take to answer: below a lease (5 s), so that a holder hears of a hung store in time."""

CONNECT_TIMEOUT = 2.0
"""Seconds to connect: a store lies near."""


class Script:
    """A Lua script and its digest, by which the store knows it."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sha = sha1(text.encode(), usedforsecurity=False).hexdigest()


class Link:
    """A pipelined connection, made when first needed and again after a failure. Belongs to one event loop."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
        confirm: Confirm | None = None,
    ) -> None:
        self._confirm = confirm
        self._asks: tuple[asyncio.Future[Any], ...] = ()  # of the write to come: what confirms it
        self._pool = ConnectionPool.from_url(
            url, protocol=2, socket_timeout=None, socket_connect_timeout=connect_timeout
        )
        self._timeout = timeout
        self._connect_timeout = connect_timeout
        self._connection: AbstractConnection | None = None
        self._queue: list[tuple[bytes, asyncio.Future[Any]]] = []
        self._flying: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None
        self._reader: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        return self._connection is not None

    async def do(self, *command: Argument) -> Any:
        """Send one command and return its answer."""
        return await self._answer(self._enqueue(command), self._asks)

    async def run(self, script: Script, key: str, *arguments: Argument) -> Any:
        """Run `script` on `key` and return its answer. A store that does not know it (any more) is told it.

        Raises `Unconfirmed` with the answer where the link confirms and the store did not.
        """
        sent = self._enqueue(("EVALSHA", script.sha, 1, key, *arguments))
        try:
            return await self._answer(sent, self._asks)
        except LedgerUnavailable as error:
            if not isinstance(error.__cause__, NoScriptError):
                raise
        return await self.do("EVAL", script.text, 1, key, *arguments)

    async def aclose(self) -> None:
        """Close the connection; commands in flight fail."""
        if self._writer is not None:
            self._writer.cancel()
            self._writer = None
        self._fail(LedgerUnavailable("the connection to the store was closed"))
        for _, future in self._take_queue():
            _set_error(future, LedgerUnavailable("the connection to the store was closed; nothing was sent"))
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _enqueue(self, command: tuple[Argument, ...]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        if self._writer is None or self._writer.done():
            self._writer = loop.create_task(self._write())
        future: asyncio.Future[Any] = loop.create_future()
        self._queue.append((hiredis.pack_command(command), future))  # type: ignore[arg-type]
        if self._confirm is not None and not self._asks:
            self._asks = tuple(loop.create_future() for _ in self._confirm.commands())
            for ask in self._asks:
                ask.add_done_callback(_heard)
        self._wake.set()
        return future

    async def _answer(self, future: asyncio.Future[Any], asks: tuple[asyncio.Future[Any], ...]) -> Any:
        answer = await future
        if isinstance(answer, ResponseError):
            raise LedgerUnavailable(f"the store refused: {answer}") from answer
        if asks and self._confirm is not None and (lacking := self._confirm.lacks([await ask for ask in asks])):
            raise Unconfirmed(lacking, answer)
        return answer

    def _take_queue(self) -> list[tuple[bytes, asyncio.Future[Any]]]:
        """Return what is to be sent, with what asks for its confirmation behind it."""
        queue, self._queue = self._queue, []
        asks, self._asks = self._asks, ()
        if self._confirm is not None and asks:
            for command, ask in zip(self._confirm.commands(), asks, strict=True):
                queue.append((hiredis.pack_command(command), ask))  # type: ignore[arg-type]
        return queue

    async def _write(self) -> None:
        """Send what was queued since the last turn, connecting first where need be."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                connection = self._connection or await self._connect()
            except (RedisError, OSError, TimeoutError) as error:
                failure = LedgerUnavailable(f"the store cannot be reached ({error}); nothing was sent")
                failure.__cause__ = error
                for _, future in self._take_queue():
                    _set_error(future, failure)
                continue
            queue = self._take_queue()
            if not queue:
                continue
            now = asyncio.get_running_loop().time()
            self._flying.extend((future, now) for _, future in queue)
            if self._watch is None:
                self._guard(now)
            try:
                packed = b"".join([command for command, _ in queue])
                await connection.send_packed_command(packed, check_health=False)
            except (RedisError, OSError, RuntimeError) as error:  # uvloop: RuntimeError on a closed transport
                self._break(connection, error)

    async def _connect(self) -> AbstractConnection:
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        async with asyncio.timeout(self._connect_timeout):
            await connection.connect()  # type: ignore[no-untyped-call]
        self._connection = connection
        self._reader = asyncio.get_running_loop().create_task(self._read(connection))
        return connection

    async def _read(self, connection: AbstractConnection) -> None:
        """Hand each answer to the oldest command in flight, until the connection ends."""
        flying = self._flying
        while True:
            try:
                answer = await connection.read_response(disconnect_on_error=False)
            except ResponseError as error:
                answer = error
            except (RedisError, OSError) as error:
                self._break(connection, error)
                return
            future, _ = flying.popleft()
            if not future.done():
                future.set_result(answer)

    def _guard(self, now: float) -> None:
        """Look again when the oldest command in flight will have waited too long."""
        if not self._flying:
            self._watch = None
            return
        loop = asyncio.get_running_loop()
        late = self._flying[0][1] + self._timeout
        if late <= now and self._connection is not None:
            self._watch = None
            self._break(self._connection, TimeoutError(f"no answer within {self._timeout:g} s"))
        else:
            self._watch = loop.call_later(late - now, lambda: self._guard(loop.time()))

    def _break(self, connection: AbstractConnection, error: Exception) -> None:
        if connection is not self._connection:
            return
        failure = LedgerUnavailable(f"the store went away ({error}); whether it took the command is not known")
        failure.__cause__ = error
        self._fail(failure)
        if self._queue:
            self._wake.set()

    def _fail(self, failure: LedgerUnavailable) -> None:
        """Fail what is in flight and drop the connection."""
        connection, self._connection = self._connection, None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        while self._flying:
            _set_error(self._flying.popleft()[0], failure)
        if connection is None:
            return
        loop = asyncio.get_running_loop()
        if self._reader is not None and self._reader is not asyncio.current_task():
            self._reader.cancel()
        task = loop.create_task(connection.disconnect(nowait=True))
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _heard(future: asyncio.Future[Any]) -> None:
    """An error that several commands share is told by each of them; here it only counts as heard."""
    if not future.cancelled():
        future.exception()


def _set_error(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)

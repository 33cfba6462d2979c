"""One connection to the store, shared by all calls of an event loop: commands of one turn leave in one write.

Promises: answers come back in the order of commands; a connection that fails, fails exactly the commands in
flight (their effect is unknown) and none that was not yet sent: those go over the next connection. A store that
does not answer within `timeout` counts as failed. Every failure is `LedgerUnavailable`. Where commands are to be
confirmed, one `Confirm` is asked for all of one write, and no answer is handed out before its own.

Connecting (TLS, AUTH, SELECT, unix sockets) is redis-py's, parsing hiredis's. What goes and comes after that is
ours: redis-py's pipelines cost four times the CPU at 32 concurrent callers, its reading of answers twice.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from hashlib import sha1
from typing import Any, TypeAlias

import hiredis
from redis._parsers.base import BaseParser
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import NoScriptError, RedisError

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
        self._queue: list[tuple[bytes, asyncio.Future[Any]]] = []
        self._flying: deque[tuple[asyncio.Future[Any], float]] = deque()
        self._flushing = False  # the queue leaves at the end of this turn
        self.connections = 0  # made so far: each may be to a store that was restarted, or to another
        self._line: _Line | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._watch: asyncio.TimerHandle | None = None
        self._closing: set[asyncio.Task[None]] = set()

    @property
    def connected(self) -> bool:
        return self._line is not None

    async def do(self, *command: Argument) -> Any:
        """Send one command and return its answer."""
        return await self._answer(self._enqueue(command), self._asks)

    async def do_all(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Send commands that only read, in one write, and return their answers; no task for each."""
        answers = await asyncio.gather(*(self._enqueue(command) for command in commands))
        for answer in answers:
            if isinstance(answer, RedisError):
                raise LedgerUnavailable(f"the store refused: {answer}") from answer
        return answers

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
        if self._connecting is not None:
            self._connecting.cancel()
        self._fail(LedgerUnavailable("the connection to the store was closed"))
        for _, future in self._take_queue():
            _set_error(future, LedgerUnavailable("the connection to the store was closed; nothing was sent"))
        await asyncio.gather(*self._closing, return_exceptions=True)

    def _enqueue(self, command: tuple[Argument, ...]) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        if not self._flushing:
            self._flushing = True
            loop.call_soon(self._flush)
        future: asyncio.Future[Any] = loop.create_future()
        self._queue.append((hiredis.pack_command(command), future))  # type: ignore[arg-type]
        if self._confirm is not None and not self._asks:
            self._asks = tuple(loop.create_future() for _ in self._confirm.commands())
            for ask in self._asks:
                ask.add_done_callback(_heard)
        return future

    async def _answer(self, future: asyncio.Future[Any], asks: tuple[asyncio.Future[Any], ...]) -> Any:
        answer = await future
        if isinstance(answer, RedisError):  # a store that is loading answers with a ConnectionError
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

    def _flush(self) -> None:
        """Send what was queued in this turn, over a connection that is made first where there is none."""
        self._flushing = False
        line = self._line
        if line is None:
            if self._queue and self._connecting is None:
                self._connecting = asyncio.get_running_loop().create_task(self._connect())
            return
        queue = self._take_queue()
        if not queue:
            return
        now = asyncio.get_running_loop().time()
        self._flying.extend([(future, now) for _, future in queue])
        if self._watch is None:
            self._guard(now)
        try:
            line.transport.write(b"".join([command for command, _ in queue]))
        except (OSError, RuntimeError) as error:  # uvloop: RuntimeError on a closed transport
            self._break(line, error)

    async def _connect(self) -> None:
        connection: AbstractConnection = self._pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            async with asyncio.timeout(self._connect_timeout):
                await connection.connect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError, TimeoutError) as error:
            failure = LedgerUnavailable(f"the store cannot be reached ({error}); nothing was sent")
            failure.__cause__ = error
            for _, future in self._take_queue():
                _set_error(future, failure)
        else:
            self._line = _Line(connection, self._flying, self._break)
            self.connections += 1
            self._flush()
        finally:
            self._connecting = None

    def _guard(self, now: float) -> None:
        """Look again when the oldest command in flight will have waited too long."""
        if not self._flying:
            self._watch = None
            return
        loop = asyncio.get_running_loop()
        late = self._flying[0][1] + self._timeout
        if late <= now and self._line is not None:
            self._watch = None
            self._break(self._line, TimeoutError(f"no answer within {self._timeout:g} s"))
        else:
            self._watch = loop.call_later(late - now, lambda: self._guard(loop.time()))

    def _break(self, line: _Line, error: Exception) -> None:
        if line is not self._line:
            return
        failure = LedgerUnavailable(f"the store went away ({error}); whether it took the command is not known")
        failure.__cause__ = error
        self._fail(failure)
        self._flush()

    def _fail(self, failure: LedgerUnavailable) -> None:
        """Fail what is in flight and drop the connection."""
        line, self._line = self._line, None
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        while self._flying:
            _set_error(self._flying.popleft()[0], failure)
        if line is not None:
            task = asyncio.get_running_loop().create_task(line.connection.disconnect(nowait=True))
            self._closing.add(task)
            task.add_done_callback(self._closing.discard)


class _Line(asyncio.Protocol):
    """A connection that redis-py made, taken over: each answer goes to the oldest command in `flying`."""

    def __init__(
        self,
        connection: AbstractConnection,
        flying: deque[tuple[asyncio.Future[Any], float]],
        broken: Callable[[_Line, Exception], None],
    ) -> None:
        self.connection = connection
        self.transport: asyncio.WriteTransport = connection._writer.transport  # type: ignore[union-attr]
        self._flying = flying
        self._broken = broken
        self._reader = hiredis.Reader(replyError=BaseParser.parse_error, notEnoughData=_MORE)
        self.transport.set_protocol(self)

    def data_received(self, data: bytes) -> None:
        reader, flying = self._reader, self._flying
        try:
            reader.feed(data)
            while (answer := reader.gets()) is not _MORE:
                future, _ = flying.popleft()
                if not future.done():
                    future.set_result(answer)
        except (hiredis.ProtocolError, IndexError) as error:
            self._broken(self, ConnectionError(f"it does not speak as a store does: {error}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self._broken(self, exc or ConnectionError("it closed the connection"))


_MORE = object()
"""What the reader says while an answer is not complete."""


def _heard(future: asyncio.Future[Any]) -> None:
    """An error that several commands share is told by each of them; here it only counts as heard."""
    if not future.cancelled():
        future.exception()


def _set_error(future: asyncio.Future[Any], error: Exception) -> None:
    if not future.done():
        future.set_exception(error)

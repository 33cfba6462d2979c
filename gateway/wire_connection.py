"""One connection to an upstream: a request out, its answer in, and how far each of them got.

What is promised of the phases (`discovery.exchange.Phase`):

- `unsent` only when no byte can have left: nothing was written yet, or the very first write failed at once
  on a plain socket. Under TLS a failed write counts as `write`, for bytes may have left inside a record.
- `write` while any byte of the request is not with the kernel yet (under TLS: with the TLS layer), else `wait`.
- `head` from the first byte of an answer (a 1xx too), `body` from its complete head.

An answer that is complete before its request was wholly written is an answer; the connection then ends.
An idle connection that gets a byte or an end of file leaves the pool at once.

The timer is lazy: an exchange only notes its deadline, and the one timer of the connection, when it fires,
looks whether that has passed. So a request on a busy connection costs no timer of its own.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from time import monotonic
from typing import Protocol, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

from discovery.exchange import Fault, Header, Phase, Response
from gateway.streamed import EVENT_STREAM, Streamed
from gateway.wire_head import forwardable, framing, mend

HEAD_LIMIT = 64 * 1024
"""Bytes of an answer's head, 1xx included: four times what servers commonly send at most."""

HIGH, LOW = 256 * 1024, 64 * 1024
"""Bytes a streamed answer may lie unread before the upstream is made to wait, and when it goes on."""


class Pool(Protocol):
    """What a connection tells its owner."""

    def released(self, connection: Connection) -> None: ...

    def lost(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """See the module. The owner calls `start()`, at most one exchange at a time."""

    __slots__ = (
        "_ambiguous",
        "_answer",
        "_body",
        "_bounded",
        "_complete",
        "_deadline",
        "_framed",
        "_head_only",
        "_headed",
        "_headers",
        "_inflow",
        "_keep",
        "_loop",
        "_parser",
        "_paused",
        "_pool",
        "_pump",
        "_raw",
        "_reason",
        "_refused",
        "_size",
        "_spoiled",
        "_status",
        "_timeout",
        "_timer",
        "_timer_at",
        "_transport",
        "_whole",
        "_writable",
        "idle_since",
        "owned",
        "served",
        "tls",
    )

    def __init__(self, pool: Pool, tls: bool) -> None:
        self.tls = tls
        self.owned = False  # the pool counts it
        self.served = 0
        self.idle_since = 0.0
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = HttpResponseParser(self)
        self._answer: asyncio.Future[Response | Streamed | Fault] | None = None
        self._inflow: Inflow | None = None
        self._pump: asyncio.Task[None] | None = None
        self._writable: asyncio.Future[None] | None = None
        self._paused = False
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = self._deadline = self._timeout = 0.0

    # For the owner

    @property
    def open(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def fileno(self) -> int:
        return cast(int, self._transport.get_extra_info("socket").fileno()) if self._transport else -1

    def start(
        self,
        data: bytes,
        *,
        head_only: bool,
        timeout: float,
        not_after: float | None,
        whole: int,
        bounded: bool,
    ) -> asyncio.Future[Response | Streamed | Fault] | Fault:
        """Write `data`; the future gets the answer. A fault at once is in phase `unsent`.

        Beyond `whole` bytes of body the answer becomes a stream, or a fault if `bounded`.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return Fault(Phase.UNSENT, "the connection was closed before anything was written")
        self.served += 1
        self._head_only = head_only
        self._timeout = timeout
        self._whole = whole
        self._bounded = bounded
        self._raw = b""
        self._status = self._size = 0
        self._reason = b""
        self._headers: list[Header] = []
        self._body: list[bytes] = []
        self._headed = self._complete = self._keep = self._framed = self._spoiled = False
        self._refused: tuple[str, Phase] | None = None
        self._ambiguous = False
        if (
            not_after is not None and monotonic() > not_after
        ):  # not the loop's clock: uvloop's stands still in a turn
            self._pool.released(self)
            return Fault(Phase.UNSENT, "the time in which it might be sent was over")
        transport.write(data)
        if transport.is_closing() and not self.tls:
            return Fault(Phase.UNSENT, "the connection was found closed by the first write")
        self._answer = answer = self._loop.create_future()
        self._arm()
        return answer

    def pump(self, body: AsyncIterator[bytes], length: int | None) -> None:
        """Send `body` after the head that `start()` wrote: `length` bytes, or chunked if that is None."""
        self._pump = self._loop.create_task(self._pumped(body, length))

    def fail(self, detail: str) -> None:
        """End whatever is going on with a fault, and close."""
        if self._answer is not None or self._inflow is not None:
            self._fail(detail)
        self._quit()

    def abort(self) -> None:
        """Close at once; whatever was going on is over."""
        self._answer = self._inflow = None
        self._quit()

    def resumed(self) -> None:
        """The reader has caught up: the upstream's time runs anew."""
        self._arm()

    # What asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Writes go to the kernel at once (uvloop would wait for the end of its turn), and `_paused` tells
        # whether all of them got there. asyncio's TLS transport takes 0 for "always paused".
        self._transport.set_write_buffer_limits(high=1 if self.tls else 0, low=0)

    def data_received(self, data: bytes) -> None:
        if self._answer is None and self._inflow is None:
            self._quit()  # nobody asked
            return
        if not self._headed:
            self._raw = self._raw + data if self._raw else data
        self._feed(data)
        if self._refused is not None:
            self._fail(*self._refused)
        elif self._complete:
            self._finish()
        elif self._headed:
            self._deadline = self._loop.time() + self._timeout
            if self._inflow is not None:
                self._inflow.filled()
        elif len(self._raw) > HEAD_LIMIT:
            self._fail(_TOO_LONG, Phase.HEAD)

    def eof_received(self) -> None:
        if self._headed and not self._framed and not self._complete:
            self._complete = True
            self._finish()
        elif self._answer is not None or self._inflow is not None:
            self._fail("the upstream closed the connection")
        else:
            self._quit()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._answer is not None or self._inflow is not None:
            self._fail(f"the connection was lost: {exc}" if exc else "the upstream closed the connection")
        self._quit()
        self._transport = None
        if self.owned:
            self.owned = False
            self._pool.lost(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        if self._writable is not None and not self._writable.done():
            self._writable.set_result(None)

    # What the parser tells

    def on_message_begin(self) -> None:
        if self._complete:
            raise _Excess

    def on_status(self, reason: bytes) -> None:
        self._reason += reason

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._headed:  # else a trailer: dropped
            self._headers.append((name, value))

    def on_headers_complete(self) -> None:
        status = self._parser.get_status_code()
        if status < 200:
            if status == 101:
                self._refused = "the upstream switched protocols (101), unasked", Phase.HEAD
            self._headers.clear()
            self._reason = b""
            return
        self._status = status
        self._headed = True
        self._keep = self._parser.should_keep_alive()  # true only here, not after the message's end
        self._framed, coding = framing(self._headers)
        if coding is not None:
            detail = f"the answer's transfer coding is {coding.decode('latin-1')!r}: only chunked is understood"
            self._refused = detail, Phase.HEAD
        elif len(self._raw) > HEAD_LIMIT and _size(self._headers) > HEAD_LIMIT:
            self._refused = _TOO_LONG, Phase.HEAD
        elif self._head_only:
            self._complete = True
        elif not self._bounded and status not in (204, 304) and (self._whole == 0 or _events(self._headers)):
            self._stream()

    def on_body(self, data: bytes) -> None:
        if self._complete:
            self._spoiled = True
        elif self._inflow is not None:
            self._inflow.put(data)
        elif self._refused is None:
            self._body.append(data)
            self._size += len(data)
            if self._size > self._whole:
                if self._bounded:
                    self._refused = f"the answer's body is larger than {self._whole} bytes", Phase.BODY
                else:
                    self._stream()

    def on_message_complete(self) -> None:
        if self._headed:
            self._complete = True

    def _feed(self, data: bytes) -> None:
        if self._ambiguous:
            self._feed_mended()
            return
        try:
            self._parser.feed_data(data)
        except HttpParserUpgrade:
            pass  # on_headers_complete() has refused it
        except HttpParserError as error:
            if self._complete:
                self._spoiled = True  # bytes after the answer's end
            elif self._headed:
                self._refused = f"the answer's body is malformed: {error}", Phase.BODY
            elif "Content-Length" in str(error):
                self._ambiguous = True
                self._feed_mended()
            else:
                self._refused = f"the answer's head is malformed: {error}", Phase.HEAD

    def _feed_mended(self) -> None:
        """Read the answer anew with its repeated Content-Length said once, if that is all that ails it."""
        mended = mend(self._raw)
        if mended is None:
            self._refused = (
                "the answer does not say clearly where it ends: lengths or codings disagree",
                Phase.HEAD,
            )
        elif mended:
            self._ambiguous = False
            self._headers.clear()
            self._reason = b""
            self._parser = HttpResponseParser(self)
            try:
                self._parser.feed_data(mended)
            except HttpParserError as error:
                self._spoiled = self._complete
                if not self._complete:
                    self._refused = f"the answer is malformed: {error}", Phase.HEAD

    # Ends

    def _finish(self) -> None:
        """The answer is complete: hand it over, and the connection back if it is clean."""
        pumping = self._pump is not None and not self._pump.done()
        clean = self._keep and not (self._spoiled or self._paused or pumping) and self.open
        answer, inflow = self._answer, self._inflow
        self._answer = self._inflow = None
        if clean:
            self._pump = None
            if self._head_only:
                self._parser = HttpResponseParser(self)  # this one still waits for the body
            self._pool.released(self)
        else:
            self._quit()
        if inflow is not None:
            inflow.end(None)
        elif answer is not None and not answer.done():
            answer.set_result(
                Response(self._status, forwardable(tuple(self._headers)), b"".join(self._body), self._reason)
            )

    def _fail(self, detail: str, phase: Phase | None = None, timed_out: bool = False) -> None:
        """The answer will not come (whole): say how far things got, and close."""
        if phase is None:
            if self._headed:
                phase = Phase.BODY
            elif self._raw:
                phase = Phase.HEAD
            elif self._paused or (self._pump is not None and not self._pump.done()):
                phase = Phase.WRITE
            else:
                phase = Phase.WAIT
        fault = Fault(phase, detail, self._status if phase is Phase.BODY else None, timed_out)
        answer, inflow = self._answer, self._inflow
        self._answer = self._inflow = None
        self._quit()
        if inflow is not None:
            inflow.end(fault)
        elif answer is not None and not answer.done():
            answer.set_result(fault)

    def _quit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
        if self._transport is not None:
            self._transport.abort()

    def _stream(self) -> None:
        """The body is not to be kept whole: hand over the head, and the parts as they come."""
        answer = self._answer
        if answer is None or self._transport is None:
            return
        self._inflow = inflow = Inflow(self, self._transport, self._body)
        self._answer = None
        if not answer.done():
            headers = forwardable(tuple(self._headers))
            answer.set_result(Streamed(self._status, headers, self._reason, inflow, inflow.aclose))

    # Time, and bodies that are sent in parts

    def _arm(self) -> None:
        self._deadline = deadline = self._loop.time() + self._timeout
        if self._timer is None or self._timer_at > deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self._loop.call_at(deadline, self._tick)

    def _tick(self) -> None:
        self._timer = None
        if self._answer is None and self._inflow is None:
            return
        waits_for_us = (self._inflow is not None and self._inflow.full) or (
            self._pump is not None and not self._pump.done() and not self._paused
        )
        if waits_for_us:
            self._arm()
        elif self._loop.time() + 0.001 < self._deadline:  # a loop's timers may be a millisecond early
            self._timer_at = self._deadline
            self._timer = self._loop.call_at(self._deadline, self._tick)
        else:
            self._fail(f"nothing came for {self._timeout:g} s", timed_out=True)

    async def _pumped(self, body: AsyncIterator[bytes], length: int | None) -> None:
        left = length
        try:
            async for part in body:
                if left is not None:
                    left -= len(part)
                    if left < 0:
                        break
                if part and self._transport is not None:
                    self._transport.write(part if length is not None else b"%x\r\n%b\r\n" % (len(part), part))
                    self._arm()
                if self._paused:
                    self._writable = self._loop.create_future()
                    await self._writable
        except Exception as error:
            self._fail(f"the request's body broke off: {error or type(error).__name__}", Phase.WRITE)
            return
        if left:
            self._fail(f"the request's body is not the {length} bytes it promised", Phase.WRITE)
        elif length is None and self._transport is not None:
            self._transport.write(b"0\r\n\r\n")
        self._arm()


class Inflow:
    """The parts of one answer's body on their way to a reader who may be slower than the upstream."""

    __slots__ = ("_connection", "_ended", "_fault", "_parts", "_size", "_transport", "_waiter", "full")

    def __init__(self, connection: Connection, transport: asyncio.Transport, parts: list[bytes]) -> None:
        self.full = False  # the upstream has been made to wait
        self._connection = connection
        self._transport = transport
        self._parts = deque(parts)
        self._size = sum(map(len, parts))
        self._fault: Fault | None = None
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None

    # For the connection

    def put(self, part: bytes) -> None:
        self._parts.append(part)
        self._size += len(part)

    def filled(self) -> None:
        if self._size > HIGH and not self.full:
            self.full = True
            self._transport.pause_reading()
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
                self._connection.resumed()
                self._transport.resume_reading()
        return part

    async def aclose(self) -> None:
        self._parts.clear()
        if not self._ended:
            self._ended = True
            self._connection.abort()


class _Excess(Exception):
    """A second answer began behind the first: stop the parser."""


_TOO_LONG = f"the answer's head is larger than {HEAD_LIMIT} bytes"


def _size(headers: list[Header]) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)


def _events(headers: list[Header]) -> bool:
    return any(
        len(name) == 12 and name.lower() == b"content-type" and value[:17].lower() == EVENT_STREAM
        for name, value in headers
    )

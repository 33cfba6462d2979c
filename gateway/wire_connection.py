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
from collections.abc import AsyncIterator
from time import monotonic
from typing import Protocol, TypeAlias, cast

from discovery.exchange import Fault, Phase, Response
from gateway.streamed import Streamed
from gateway.wire_answer import Answer
from gateway.wire_inflow import Inflow

Ending: TypeAlias = "asyncio.Future[Response | Streamed | Fault]"


class Pool(Protocol):
    """What a connection tells its owner."""

    def released(self, connection: Connection) -> None: ...

    def lost(self, connection: Connection) -> None: ...


class Connection(asyncio.Protocol):
    """See the module. The owner calls `start()`, one exchange at a time."""

    def __init__(self, pool: Pool, tls: bool) -> None:
        self.tls = tls
        self.owned = False  # the pool counts it
        self.served = 0
        self.idle_since = 0.0
        self._pool = pool
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._answer: Answer | None = None  # None: idle
        self._ending: Ending | None = None
        self._inflow: Inflow | None = None  # set from when the answer became a stream
        self._whole = 0
        self._bounded = True
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
    ) -> Ending | Fault:
        """Write `data`; the future gets the answer. A fault at once is in phase `unsent`.

        Beyond `whole` bytes of body the answer becomes a stream, or a fault if `bounded`.
        """
        transport = self._transport
        if transport is None or transport.is_closing():
            return Fault(Phase.UNSENT, "the connection was closed before anything was written")
        answer = Answer(head_only)
        ending: Ending = self._loop.create_future()
        self.served += 1
        self._timeout = timeout
        self._whole = whole
        self._bounded = bounded
        if not_after is not None and monotonic() > not_after:  # last, for a stopped process may wake anywhere
            self._pool.released(self)
            return Fault(Phase.UNSENT, "the time in which it might be sent was over")
        transport.write(data)
        if transport.is_closing() and not self.tls:
            return Fault(Phase.UNSENT, "the connection was found closed by the first write")
        self._answer = answer
        self._ending = ending
        self._arm()
        return ending

    def pump(self, body: AsyncIterator[bytes], length: int | None) -> None:
        """Send `body` after the head that `start()` wrote: `length` bytes, or chunked if that is None."""
        self._pump = self._loop.create_task(self._pumped(body, length))

    def abort(self) -> None:
        """Close at once; nobody waits for what was going on."""
        self._answer = self._ending = self._inflow = None
        self._quit()

    # For the reader of a streamed answer

    def hold(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()

    def go_on(self) -> None:
        self._arm()  # the upstream's time runs anew
        if self._transport is not None:
            self._transport.resume_reading()

    # What asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # So that `_paused` tells whether every byte got to the kernel. asyncio's TLS takes 0 for "always paused".
        self._transport.set_write_buffer_limits(high=1 if self.tls else 0, low=0)

    def data_received(self, data: bytes) -> None:
        answer = self._answer
        if answer is None:
            self._quit()  # nobody asked
            return
        if self._ending is not None and self._ending.cancelled():
            self.abort()  # nobody waits: so a connection is never handed on behind its last user's back
            return
        answer.feed(data)
        if answer.headed and not self._bounded:
            self._passed_on(answer)
        if answer.refused is not None:
            self.fail(*answer.refused)
        elif self._bounded and answer.size > self._whole:
            self.fail(f"the answer's body is larger than {self._whole} bytes")
        elif answer.complete:
            self._finish(answer)
        elif answer.headed:
            self._deadline = self._loop.time() + self._timeout

    def eof_received(self) -> None:
        if self._answer is not None and self._answer.end():
            self._finish(self._answer)
        else:
            self.fail("the upstream closed the connection")

    def connection_lost(self, exc: Exception | None) -> None:
        self.fail(f"the connection was lost: {exc}" if exc else "the upstream closed the connection")
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

    # Ends

    def _passed_on(self, answer: Answer) -> None:
        """Make a stream of an answer that is not to be kept whole, and pass on the parts that came."""
        if self._inflow is None:
            if not (answer.size > self._whole or answer.events or (self._whole == 0 and not answer.complete)):
                return
            self._inflow = inflow = Inflow(self)
            self._settle(Streamed(answer.status, answer.headers, answer.reason, inflow, inflow.aclose))
        self._inflow.put(answer.parts)
        answer.parts.clear()

    def _settle(self, result: Response | Streamed | Fault) -> None:
        ending, self._ending = self._ending, None
        if ending is not None and not ending.done():
            ending.set_result(result)

    def _finish(self, answer: Answer) -> None:
        """The answer is complete: hand it over, and the connection back if it is clean."""
        inflow = self._inflow
        self._answer = self._inflow = None
        if inflow is None:
            self._settle(answer.whole())
        else:
            inflow.end(None)
            if inflow.full and self._transport is not None:
                self._transport.resume_reading()
        if answer.keep and not self._paused and not self._pumping and self.open:
            self._pump = None
            self._pool.released(self)
        else:
            self._quit()

    def fail(self, detail: str, phase: Phase | None = None, timed_out: bool = False) -> None:
        """The answer, if one is awaited, will not come (whole): say how far things got, and close."""
        answer, inflow = self._answer, self._inflow
        if answer is not None:
            phase = phase or self._phase(answer)
            fault = Fault(phase, detail, answer.status if phase is Phase.BODY else None, timed_out)
            self._answer = self._inflow = None
            if inflow is not None:
                inflow.end(fault)
            self._settle(fault)
        self._quit()

    def _phase(self, answer: Answer) -> Phase:
        if answer.headed:
            return Phase.BODY
        if answer.begun:
            return Phase.HEAD
        return Phase.WRITE if self._paused or self._pumping else Phase.WAIT

    def _quit(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._pump is not None:
            self._pump.cancel()
            self._pump = None
        if self._transport is not None:
            self._transport.abort()

    # Time, and bodies that are sent in parts

    def _arm(self) -> None:
        self._deadline = deadline = self._loop.time() + self._timeout
        if self._timer is None or self._timer_at > deadline:
            if self._timer is not None:
                self._timer.cancel()
            self._timer_at = deadline
            self._timer = self._loop.call_at(deadline, self._tick)

    @property
    def _pumping(self) -> bool:
        return self._pump is not None and not self._pump.done()

    def _tick(self) -> None:
        self._timer = None
        if self._answer is None:
            return
        if (self._inflow is not None and self._inflow.full) or (self._pumping and not self._paused):
            self._arm()  # it is the upstream that waits, for our caller
        elif self._loop.time() + 0.001 < self._deadline:  # a loop's timers may be a millisecond early
            self._timer_at = self._deadline
            self._timer = self._loop.call_at(self._deadline, self._tick)
        else:
            self.fail(f"nothing came for {self._timeout:g} s", timed_out=True)

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
            self.fail(f"the request's body broke off: {error or type(error).__name__}", Phase.WRITE)
            return
        if left:
            self.fail(f"the request's body is not the {length} bytes it promised", Phase.WRITE)
        elif length is None and self._transport is not None:
            self._transport.write(b"0\r\n\r\n")
        self._arm()

"""One caller's connection: HTTP/1.1 in, requests to the door, answers back in their order.

An ASGI server in this place cost 70 us more a call, and hid what a proxy needs: the target byte for byte.
httptools (llhttp, strict) parses: a message with two framings is refused. What is ours:

- One request is answered at a time. Others may have been sent behind it: they wait, and no more is read meanwhile.
- What could be read in two ways, or is too large a head, is answered with a problem, behind the answers that are
  still owed; then the connection ends. Nothing behind it is read.
- A body is read while somebody takes it. What of it nobody took is dropped up to `DROPPED` bytes, so that the
  connection can go on.
- A caller that waits to be told to continue (RFC 9110 10.1.1) is told when its body is wanted.
- A wish to upgrade is ignored (RFC 9110 7.8). The parser stops at one, before the body: a new parser is told the
  message's framing and goes on there.
- Trailers are dropped.
- A caller that ends its half of the connection behind a whole request still gets its answer.
- A head, the next part of a body, and the next request are waited for `patience` seconds.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import cast

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from discovery.exchange import Header
from gateway.answer_head import problem_headers
from gateway.asked import Asked
from gateway.door import HungUp
from gateway.problems import document
from policies.reply import Problem

DROPPED = 1024 * 1024
"""Bytes of a refused body that are read to keep the connection."""

LINGER = 2.0
"""Seconds a caller that still sends is given to read why it was refused. A reset would take the answer from it."""

ONE_READ = 256 * 1024
"""Bytes the event loop hands over at once, at most (uvloop's buffer): a head comes with what follows it."""

_log = logging.getLogger("gimbal.door")


@dataclass(slots=True)
class Reception:
    """What the connections of one server have in common. `limit` is the most bytes of a head, `patience` the
    seconds a caller may be silent inside a request or between two."""

    receive: Callable[[Asked], Awaitable[None]]
    limit: int
    patience: float
    callers: set[Caller] = field(default_factory=set)
    lives: set[asyncio.Task[None]] = field(default_factory=set)  # answering, or ending after their answer


class Caller(asyncio.Protocol):
    """See the module."""

    def __init__(self, reception: Reception) -> None:
        self._reception = reception
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._parser = HttpRequestParser(self)
        self._answering: Asked | None = None
        self._waiting: deque[Asked] = deque()
        self._coming: Asked | None = None  # its head has come, its body not yet all
        self._target = b""
        self._headers: list[Header] = []
        self._head = -1  # bytes of the head so far, by the read; -1: none is under way
        self._reading = 0  # bytes of this read
        self._since = 0.0  # when the head under way began
        self._moved = 0.0  # when anything last came or went
        self._resuming = False
        self._deaf = False  # nothing that comes is read any more
        self._sends = False  # its caller may be sending, though nothing is read any more
        self._last = False  # the connection ends behind the answers that are owed
        self._refusal: Problem | None = None  # told behind the answers that are owed
        self._held = False  # reading is paused
        self._room: asyncio.Future[None] | None = None  # to write, waited for

    # For the server

    def retire(self) -> None:
        """Answer what was asked, then close."""
        self._last = True
        if self._answering is None:
            self._close()
        else:
            self._answering.keeps = False

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def look(self, now: float) -> None:
        """End the connection of a caller that has been silent for too long."""
        asked, patience = self._answering, self._reception.patience
        if self._held or (asked is not None and (asked.whole or asked.begun)):
            return  # it is we who are awaited
        slow = self._head >= 0 and now - self._since > patience
        if slow or now - self._moved > patience:
            self.abort()

    # For the request that is being answered

    def write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    async def drained(self) -> None:
        """Wait until the caller takes more. Raises `HungUp`."""
        if self._room is not None:
            await self._room
        if self._transport is None:
            raise HungUp("the caller hung up inside its answer")

    def flow(self) -> None:
        """Read on, or hold, by what waits to be taken."""
        asked = self._answering
        hold = bool(self._waiting) or self._room is not None or (asked is not None and asked.full)
        if hold != self._held and self._transport is not None and not self._transport.is_closing():
            self._held = hold
            if hold:
                self._transport.pause_reading()
            else:
                self._transport.resume_reading()

    def answered(self, asked: Asked) -> None:
        """The answer is written: go on with the next request, or end."""
        if asked is not self._answering:
            return
        self._answering = None
        self._moved = self._loop.time()
        if not asked.keeps:
            self._refusal = None
            self._close()
        elif self._waiting:
            self._start(self._waiting.popleft())
            self.flow()
        elif self._last:
            self._refuse()
        elif self._held:
            self.flow()

    # What asyncio tells

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._reception.callers.add(self)
        self._moved = self._loop.time()

    def data_received(self, data: bytes) -> None:
        self._moved = self._loop.time()
        self._reading = len(data)
        self._feed(data)
        if self._head >= 0 and not self._deaf:
            self._head += len(data)
            if self._head > self._reception.limit + ONE_READ:
                self._stop(TOO_LARGE)

    def eof_received(self) -> bool:
        """Keep our half of the connection while a whole request is being answered in one piece."""
        owed = self._answering
        self._last = True
        if self._coming is not None:
            self._coming.cut_off()
        return owed is not None and owed.whole and not owed.begun

    def connection_lost(self, exc: Exception | None) -> None:
        self._reception.callers.discard(self)
        self._transport = None
        self._deaf = True
        for asked in (self._answering, self._coming, *self._waiting):
            if asked is not None:
                asked.cut_off()
        self._waiting.clear()
        self.resume_writing()
        del self._parser  # it refers to us

    def pause_writing(self) -> None:
        self._room = self._loop.create_future()
        self.flow()

    def resume_writing(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)
        self.flow()

    # What the parser tells

    def on_message_begin(self) -> None:
        if not self._resuming:
            self._target = b""
            self._headers = []
            self._head = 0
            self._since = self._moved

    def on_url(self, url: bytes) -> None:
        if not self._resuming:
            self._target += url

    def on_header(self, name: bytes, value: bytes) -> None:
        if self._head >= 0 and not self._resuming:  # else a trailer, or told before
            self._headers.append((name.lower(), value.strip(b" \t")))

    def on_headers_complete(self) -> None:
        if self._resuming:
            self._resuming = False
            return
        if self._deaf:
            return
        if self._head + self._reading > self._reception.limit and self._size() > self._reception.limit:
            raise _Refused(TOO_LARGE)
        parser = self._parser
        version = parser.get_http_version()
        problem = objection(version, self._headers)
        if problem is not None:
            raise _Refused(problem)
        self._head = -1
        method = parser.get_method().decode("ascii")
        new = version == "1.1"
        keeps = new and not self._last and method != "CONNECT" and parser.should_keep_alive()
        asked = Asked(self, method, self._target, tuple(self._headers), keeps=keeps, chunks=new)
        self._coming = asked
        if self._answering is None:
            self._start(asked)
        else:
            self._waiting.append(asked)
            self.flow()

    def on_body(self, data: bytes) -> None:
        asked = self._coming
        if asked is not None:
            asked.feed(data)
            if asked.full and asked is self._answering:
                self.flow()
            elif asked.dropped > DROPPED:
                self._stop(None)

    def on_message_complete(self) -> None:
        asked = self._coming
        if asked is not None and not self._parser.should_upgrade():
            self._coming = None
            asked.complete()
            if not asked.keeps:
                self._deaf = True

    # How

    def _feed(self, data: bytes) -> None:
        while not self._deaf:
            try:
                self._parser.feed_data(data)
                return
            except HttpParserUpgrade as stopped:
                asked = self._coming
                if asked is None:
                    return
                if asked.method == "CONNECT":  # what follows is for a tunnel nobody makes
                    asked.complete()
                    self._deaf = True
                    return
                data = asked.framing() + data[stopped.args[0] :]
                self._parser = HttpRequestParser(self)
                self._resuming = True
            except HttpParserError as error:
                if not self._deaf:  # else it is about bytes behind the last request
                    refused = error.__context__
                    self._stop(refused.problem if isinstance(refused, _Refused) else malformed(str(error)))

    def _start(self, asked: Asked) -> None:
        self._answering = asked
        asked.life = self._loop.create_task(self._live(asked))
        self._reception.lives.add(asked.life)

    async def _live(self, asked: Asked) -> None:
        try:
            await self._reception.receive(asked)
        except HungUp:
            pass
        except ConnectionError as error:
            _log.info("%s", error)
        except Exception:
            _log.exception("a request was not answered")
            if not asked.begun:
                asked.keeps = False
                asked.tell(FAILED.status, problem_headers(FAILED), document(FAILED))
        finally:
            if asked.life is not None:
                self._reception.lives.discard(asked.life)
                asked.life = None
            if asked is self._answering:  # it got no answer, or no whole one
                self._answering = None
                if self._refusal is not None and not asked.begun:
                    self._refuse()
                else:
                    self.abort()

    def _stop(self, problem: Problem | None) -> None:
        """Read no more; tell `problem` behind what is owed, then end."""
        self._deaf = self._last = self._sends = True
        self._head = -1
        self._refusal = problem
        coming, self._coming = self._coming, None
        if coming is not None:
            if coming in self._waiting:
                self._waiting.remove(coming)
            coming.cut_off()
        if self._answering is None:
            self._refuse()

    def _refuse(self) -> None:
        problem, self._refusal = self._refusal, None
        if problem is not None:
            asked = Asked(self, "GET", b"", (), keeps=False, chunks=True)
            asked.tell(problem.status, problem_headers(problem), document(problem))
        self._close()

    def _close(self) -> None:
        """End the connection once all is written, and, where the caller may still be sending, read."""
        self._deaf = True
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if (self._sends or self._coming is not None) and transport.can_write_eof():
            transport.write_eof()
            self._loop.call_later(LINGER, self.abort)
        else:
            transport.close()

    def _size(self) -> int:
        return len(self._target) + sum(len(name) + len(value) + 4 for name, value in self._headers)


class _Refused(Exception):
    """Stops the parser at a head that is not taken."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem


TOO_LARGE = Problem("bad-request", 431, "The head is too large", "Send fewer headers, or raise limits.headers.")
FAILED = Problem(
    "internal", 500, "The gateway failed", "Its log says why; the ledger says whether anything was sent."
)


def malformed(why: str, status: int = 400) -> Problem:
    return Problem("bad-request", status, "The request cannot be read", f"{why}. Nothing of it was sent.")


def objection(version: str, headers: list[Header]) -> Problem | None:
    """Return what the parser lets pass and the standard does not, or None."""
    names = [name for name, _ in headers]
    if version == "1.1" and names.count(b"host") != 1:  # RFC 9112 3.2
        return malformed("A request of HTTP/1.1 has one Host header")
    if version not in ("1.1", "1.0"):  # RFC 9110 15.6.6
        return malformed(f"HTTP/{version} is not spoken here, HTTP/1.1 is", 505)
    if b"transfer-encoding" in names:  # RFC 9112 6.1; where chunked is not the last one, the parser refuses
        codings = b",".join([value for name, value in headers if name == b"transfer-encoding"]).lower().split(b",")
        if len(codings) > 1 and codings[-1].strip() == b"chunked":
            return malformed("Of transfer codings, only chunked is understood", 501)
    return None

"""One request on a caller's connection, and the bytes of its answer (`gateway.door.Incoming`)."""

from __future__ import annotations

import asyncio
from http import HTTPStatus
from typing import Protocol

from discovery.exchange import Headers, find
from gateway.door import HungUp

HIGH = 64 * 1024
"""Bytes of a body that may lie untaken before no more is read."""

FRAMING = (b"content-length", b"transfer-encoding")

_STATUS = {status: b"HTTP/1.1 %d \r\n" % status for status in range(1000)}
_STATUS.update({status: f"HTTP/1.1 {status} {status.phrase}\r\n".encode() for status in HTTPStatus})
_TEXT = bytes(byte for byte in range(256) if (byte >= 0x20 and byte != 0x7F) or byte == 0x09)
_BODILESS = (204, 304)
_FRAMED = frozenset({b"content-length", b"transfer-encoding", b"connection"})


class Connection(Protocol):
    """What a request wants of the connection it came by."""

    def write(self, data: bytes) -> None: ...

    async def drained(self) -> None: ...

    def flow(self) -> None: ...

    def answered(self, asked: Asked) -> None: ...


class Asked:
    """See the module. `keeps`: the connection may go on behind it; `chunks`: its caller understands chunks."""

    __slots__ = (
        "_chunked",
        "_chunks",
        "_connection",
        "_cut",
        "_left",
        "_parts",
        "_size",
        "_told",
        "_waiter",
        "begun",
        "dropped",
        "headers",
        "keeps",
        "life",
        "method",
        "target",
        "whole",
    )

    def __init__(
        self, connection: Connection, method: str, target: bytes, headers: Headers, keeps: bool, chunks: bool
    ) -> None:
        self.method = method
        self.target = target
        self.headers = headers
        self.keeps = keeps
        self.begun = False  # the head of its answer is written
        self.whole = False  # all of its body has come
        self.dropped = 0  # bytes of its body that came behind the answer
        self.life: asyncio.Task[None] | None = None
        self._connection = connection
        self._chunks = chunks
        self._chunked = False
        self._left: int | None = None  # bytes of the answer's body still to come, where that is known
        self._parts: list[bytes] = []
        self._size = 0
        self._cut = False  # the rest of its body will not come
        self._told = False  # to continue
        self._waiter: asyncio.Future[None] | None = None

    # For its connection

    @property
    def full(self) -> bool:
        """Is there enough of its body, for now?"""
        return self._size > HIGH and not self.begun

    def feed(self, data: bytes) -> None:
        if self.begun:
            self.dropped += len(data)
            return
        self._parts.append(data)
        self._size += len(data)
        self._wake()

    def complete(self) -> None:
        self.whole = True
        self._wake()

    def cut_off(self) -> None:
        self._cut = True
        self._wake()

    def framing(self) -> bytes:
        """Return the head of a message framed as this one."""
        lines = [b"%s: %s\r\n" % header for header in self.headers if header[0] in FRAMING]
        return b"POST / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n"

    def tell(self, status: int, headers: Headers, body: bytes) -> None:
        """Write the whole answer, in one piece. Raises `ValueError` where a header would break out of its line."""
        bodiless = status in _BODILESS
        stated = None if self.method == "HEAD" else len(body)
        out, length = self._head(status, headers, stated, bodiless)
        if length is None and not bodiless and (body or self.method != "HEAD"):
            out += (b"content-length", b": ", b"%d" % len(body), b"\r\n")
        head = self._closed(out)
        self._connection.write(head if bodiless or self.method == "HEAD" else head + body)
        self._connection.answered(self)

    # For the door

    @property
    def body(self) -> bytes | None:
        if not self.whole:
            return None
        return self._parts[0] if len(self._parts) == 1 else b"".join(self._parts)

    async def part(self) -> bytes:
        while not self._parts:
            if self.whole:
                return b""
            if self._cut:
                raise HungUp("the caller hung up inside its body")
            if not self._told and self._expects():
                self._connection.write(b"HTTP/1.1 100 Continue\r\n\r\n")
            self._told = True
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        taken = b"".join(self._parts)
        self._parts.clear()
        self._size = 0
        self._connection.flow()
        return taken

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        self.tell(status, headers, body)

    async def begin(self, status: int, headers: Headers) -> None:
        bodiless = status in _BODILESS
        out, self._left = self._head(status, headers, None, bodiless)
        if bodiless or self.method == "HEAD":
            self._left = 0
        elif self._left is None and self._chunks:
            self._chunked = True
            out += (b"transfer-encoding", b": ", b"chunked", b"\r\n")
        elif self._left is None:
            self.keeps = False  # the end of the connection is the end of the body
        self._connection.write(self._closed(out))

    async def pass_on(self, part: bytes) -> None:
        if not part:
            return
        if self._left is not None:
            self._left -= len(part)
            if self._left < 0:
                raise ConnectionError("the upstream's body is longer than it said")
        self._connection.write(b"%x\r\n%b\r\n" % (len(part), part) if self._chunked else part)
        await self._connection.drained()

    async def end(self) -> None:
        if self._left:
            raise ConnectionError("the upstream's body is shorter than it said")
        if self._chunked:
            self._connection.write(b"0\r\n\r\n")
        self._connection.answered(self)

    # How

    def _head(
        self, status: int, headers: Headers, length: int | None, bodiless: bool
    ) -> tuple[list[bytes], int | None]:
        """Return the lines of a head in pieces, and the length they state: `length`, else what `headers` say."""
        out = [_STATUS[status]]
        stated = None
        for name, value in headers:
            lower = name.lower()
            if lower in _FRAMED:
                if lower == b"connection":
                    self.keeps = False  # only the gateway itself says that
                if lower != b"content-length" or stated is not None or not value.isdigit() or bodiless:
                    continue
                stated = int(value) if length is None else length
                out += (name, b": ", b"%d" % stated, b"\r\n")
            else:
                out += (name, b": ", value, b"\r\n")
        return out, stated

    def _closed(self, out: list[bytes]) -> bytes:
        """Return the whole head. Raises `ValueError` where a header would break out of its line."""
        if not self.whole and not self._told and self._expects():
            self.keeps = False  # whether its body will come, nobody knows
        if not self.keeps:
            out += (b"connection", b": ", b"close", b"\r\n")
        out.append(b"\r\n")
        head = b"".join(out)
        lines = (len(out) - 2) // 4 + 2  # four pieces each, the first and the empty last one in one
        if head.translate(None, _TEXT) != b"\r\n" * lines:
            raise ValueError("a header of the answer cannot be written")
        self.begun = True
        return head

    def _expects(self) -> bool:
        return self._chunks and (find(self.headers, b"expect") or b"").lower() == b"100-continue"

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

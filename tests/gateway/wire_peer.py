"""An upstream that does byte for byte what its script says, on 127.0.0.1, for tests of the wire."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable

Script = Callable[["Peer"], Awaitable[None]]


class Peer:
    """One accepted connection, as its script sees it."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def head(self) -> bytes:
        """Read a request's head."""
        return await self.reader.readuntil(b"\r\n\r\n")

    async def request(self) -> bytes:
        """Read a whole request that is framed by Content-Length or chunked."""
        head = await self.head()
        lower = head.lower()
        if b"transfer-encoding: chunked" in lower:
            return head + await self.reader.readuntil(b"0\r\n\r\n")
        if b"\r\ncontent-length:" not in lower:
            return head
        length = int(lower.split(b"\r\ncontent-length:")[1].split(b"\r\n")[0])
        return head + await self.reader.readexactly(length)

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def drip(self, data: bytes) -> None:
        """Send byte by byte, each in a segment of its own."""
        for at in range(len(data)):
            await self.send(data[at : at + 1])
            await asyncio.sleep(0)

    def reset(self) -> None:
        """Close with RST."""
        self.linger(self.writer.get_extra_info("socket"))
        self.writer.transport.abort()

    @staticmethod
    def linger(sock: socket.socket) -> None:
        """Make closing `sock` send RST."""
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async def gone(self) -> bytes:
        """Wait until the client has closed; return what it sent until then."""
        try:
            return await self.reader.read()
        except ConnectionError:
            return b""


class FakeUpstream:
    """Runs one script for every accepted connection: the last of `scripts` for all that come later."""

    def __init__(self, *scripts: Script, tls: ssl.SSLContext | None = None) -> None:
        self._scripts = scripts
        self._tls = tls
        self._tasks: set[asyncio.Task[None]] = set()
        self.accepted = 0
        self.errors: list[BaseException] = []

    async def __aenter__(self) -> FakeUpstream:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0, ssl=self._tls, limit=2**20)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def url(self, path: str = "", host: str = "127.0.0.1") -> str:
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        script = self._scripts[min(self.accepted, len(self._scripts) - 1)]
        self.accepted += 1
        try:
            await script(Peer(reader, writer))
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()


def answering(answer: bytes, seen: list[bytes] | None = None) -> Script:
    """Return a script that answers every request with `answer`, keeping what came in `seen`."""

    async def script(peer: Peer) -> None:
        while True:
            request = await peer.request()
            if seen is not None:
                seen.append(request)
            await peer.send(answer)

    return script


def answering_once(answer: bytes, dripping: bool = False) -> Script:
    """Return a script that answers one request with `answer`, then closes."""

    async def script(peer: Peer) -> None:
        await peer.request()
        await (peer.drip(answer) if dripping else peer.send(answer))

    return script


async def never(peer: Peer) -> None:
    """A script that answers nothing."""
    await peer.gone()

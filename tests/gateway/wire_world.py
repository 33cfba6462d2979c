"""What the tests of the wire share: requests, an answer, and a client for an upstream of the test's own."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

from discovery.exchange import Fault, Request, Response
from gateway.wire import Wire
from gateway.wire_dial import origin_of
from tests.gateway.wire_peer import FakeUpstream

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = Request("GET", b"/")
POST = Request("POST", b"/", (), b"x")
HUGE = Request("POST", b"/", (), b"x" * 40_000_000)
"""More than the sockets' buffers of both sides take."""


def wire(peer: FakeUpstream, **options: Any) -> Wire:
    return Wire(origin_of(peer.url()), **options)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def sent(script: Any, request: Request = GET, timeout: float = 5.0) -> Response | Fault:
    async with FakeUpstream(script) as peer:
        client = wire(peer)
        answer = await client.send(request, timeout=timeout)
        await client.aclose()
        return answer


class RawUpstream:
    """An upstream of bare sockets, with a client: what a test does to them happens within its turn of the loop."""

    async def __aenter__(self) -> RawUpstream:
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.listener.setblocking(False)
        self.client = Wire(origin_of(f"http://127.0.0.1:{self.listener.getsockname()[1]}"))
        self.seen: list[bytes] = []
        self._accepted: list[socket.socket] = []
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.client.aclose()
        for sock in (*self._accepted, self.listener):
            sock.close()

    async def exchange(self, request: Request) -> tuple[socket.socket, Response | Fault]:
        """Let the client send `request` on a new connection and answer it; return our end, and what came of it."""
        loop = asyncio.get_running_loop()
        sending = asyncio.ensure_future(self.client.send(request, timeout=5))
        accepted, _ = await loop.sock_accept(self.listener)
        self._accepted.append(accepted)
        self.seen.append(await loop.sock_recv(accepted, 1000))
        await loop.sock_sendall(accepted, OK)
        return accepted, await sending

"""The door as an ASGI application, for a server of the user's own. `gimbal serve` has one that is told more
(`gateway.caller`): an ASGI server's word on the target and on framing is taken as it is."""

from __future__ import annotations

import contextlib
from collections.abc import Awaitable, Callable
from typing import Any

from discovery.exchange import Headers
from gateway.door import Door, HungUp

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]


class Application:
    """The ASGI application over `door`."""

    def __init__(self, door: Door) -> None:
        self.door = door

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            with contextlib.suppress(HungUp):
                await self.door.receive(_Request(scope, receive, send))
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})


class _Request:
    """One request of an ASGI server (`gateway.door.Incoming`)."""

    body = None

    def __init__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.method: str = scope["method"]
        query: bytes = scope["query_string"]
        self.target: bytes = scope["raw_path"] + (b"?" + query if query else b"")
        self.headers: Headers = tuple([(name, value.strip(b" \t")) for name, value in scope["headers"]])
        self._receive = receive
        self._send = send
        self._ended = False

    async def part(self) -> bytes:
        while not self._ended:
            message = await self._receive()
            if message["type"] == "http.disconnect":
                raise HungUp("the caller hung up inside its body")
            self._ended = not message.get("more_body")
            if part := message.get("body"):
                return bytes(part)
        return b""

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        if body and not any(name.lower() == b"content-length" for name, _ in headers):
            headers = (*headers, (b"content-length", b"%d" % len(body)))
        await self.begin(status, headers)
        await self._send({"type": "http.response.body", "body": body})

    async def begin(self, status: int, headers: Headers) -> None:
        await self._send({"type": "http.response.start", "status": status, "headers": headers})

    async def pass_on(self, part: bytes) -> None:
        await self._send({"type": "http.response.body", "body": part, "more_body": True})

    async def end(self) -> None:
        await self._send({"type": "http.response.body", "body": b""})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return

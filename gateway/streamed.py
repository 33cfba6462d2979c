"""An answer whose body is still on its way, and the port of upstreams that can hand one over.

Whether an answer can be kept whole shows only after its head (an event stream) or after the first
megabytes of its body. So there is one way to ask with three endings, and no second request or mode:
`open()` returns the whole `Response` while it stays within `whole` bytes, else a `Streamed` that begins
with what was read already. `send()` is `open()` for those who want it whole or not at all.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from discovery.exchange import Fault, Headers, Request, Response
from gateway.ports import Upstream

EVENT_STREAM = b"text/event-stream"


@dataclass(frozen=True, slots=True)
class Streamed:
    """Status and headers, and the raw parts of the body as they come, with back-pressure.

    The parts end with a `Fault` when the body broke off: the type makes it hard to take a truncated
    body for a whole one. Use it under `async with`; leaving early closes the connection.
    """

    status: int
    headers: Headers
    reason: bytes
    parts: AsyncIterator[bytes | Fault]
    aclose: Callable[[], Awaitable[None]]

    def __aiter__(self) -> AsyncIterator[bytes | Fault]:
        return self.parts

    async def __aenter__(self) -> Streamed:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()


class StreamingUpstream(Upstream, Protocol):
    """An upstream that can pass bodies through: what both transports are."""

    async def open(
        self,
        request: Request,
        body: AsyncIterator[bytes] | None = None,
        *,
        timeout: float,
        not_after: float | None = None,
        whole: int = 0,
    ) -> Response | Streamed | Fault:
        """Send, and return the answer: whole if it is no event stream and has at most `whole` bytes.

        `body` takes the place of `request.body`: sent as it comes, under the request's Content-Length
        or else chunked. If it raises or breaks its promised length, that is a fault in phase `write`.
        """
        ...

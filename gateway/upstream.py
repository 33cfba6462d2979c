"""Upstreams as the runner sees them: the wire, or httpx where an upstream needs what the wire has not.

`open_upstream()` chooses by `UpstreamRules.transport`. The pace of an upstream (its `rate`) belongs around
what it returns: a `StreamingUpstream` that waits before it passes `send()` and `open()` on.
"""

from __future__ import annotations

import asyncio
import importlib.util
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from time import monotonic
from typing import Any

import httpx

from discovery.exchange import Fault, Phase, Request, Response, find
from gateway.streamed import EVENT_STREAM, Streamed, StreamingUpstream
from gateway.wire import Wire
from gateway.wire_dial import Origin, origin_of
from gateway.wire_head import compose, forwardable
from policies.rules import UpstreamRules


def open_upstream(rules: UpstreamRules, transport: httpx.AsyncBaseTransport | None = None) -> StreamingUpstream:
    """Return the upstream `rules` describe, over `transport` if the user brings one of their own.

    Nothing is connected yet. Raises `ConfigError` for a base URL or CA bundle that cannot be used.
    """
    origin = origin_of(rules.base_url, rules.verify)
    if transport is None and rules.transport == "wire":
        return Wire(origin, connect_timeout=rules.connect_timeout, body_limit=rules.body_limit)
    if transport is None:
        http2 = importlib.util.find_spec("h2") is not None
        transport = httpx.AsyncHTTPTransport(verify=_verification(rules.verify), http2=http2, trust_env=False)
    return HttpxUpstream(transport, origin, connect_timeout=rules.connect_timeout, body_limit=rules.body_limit)


def _verification(verify: bool | str) -> ssl.SSLContext | bool:
    return ssl.create_default_context(cafile=verify) if isinstance(verify, str) else verify


class HttpxUpstream:
    """An upstream over an httpx transport: HTTP/2, proxies, client certificates, or anything of the user's own.

    The same port as `gateway.wire.Wire` and the same bytes (no decoding, no redirects, no environment),
    but it knows less. What differs:

    - Phases come from httpx's exceptions and httpcore's trace. With httpx's own transport nothing is called
      unsent unless no head was begun, and `not_after` holds until just before that; `wait` may mean `head`.
      Another transport's `ConnectError` and the like are believed; `not_after` is looked at before it is called.
    - A transport of another kind sees httpx's normalised URL (dot segments resolved); httpx's own gets the target
      byte for byte.
    - Over HTTP/2 header names arrive in lower case.
    - It costs some fifty times as much processor time a request.
    """

    def __init__(
        self,
        transport: httpx.AsyncBaseTransport,
        origin: Origin,
        *,
        connect_timeout: float = 5.0,
        body_limit: int = 10 * 1024 * 1024,
    ) -> None:
        self._transport = transport
        self._origin = origin
        self._connect_timeout = connect_timeout
        self._body_limit = body_limit

    async def send(self, request: Request, *, timeout: float, not_after: float | None = None) -> Response | Fault:
        answer = await self.open(request, timeout=timeout, not_after=not_after)
        if not isinstance(answer, Streamed):
            return answer
        async with answer:
            read, fault = await _read(answer.parts, self._body_limit)
        if fault is not None:
            return fault
        body = b"".join(read)
        if len(body) > self._body_limit:
            detail = f"the answer's body is larger than {self._body_limit} bytes"
            return Fault(Phase.BODY, detail, answer.status)
        return Response(answer.status, answer.headers, body, answer.reason)

    async def open(
        self,
        request: Request,
        body: AsyncIterator[bytes] | None = None,
        *,
        timeout: float,
        not_after: float | None = None,
        whole: int = 0,
    ) -> Response | Streamed | Fault:
        """See `gateway.streamed.StreamingUpstream`."""
        progress = _Progress(not_after)
        sent = self._request(request, body, timeout, progress)
        if isinstance(sent, Fault):
            return sent
        if not_after is not None and monotonic() > not_after:
            return _LAPSED
        try:
            # httpx bounds each read; the whole head is bounded here.
            async with asyncio.timeout(timeout + 2 * self._connect_timeout):
                got = await self._transport.handle_async_request(sent)
        except Exception as error:
            return progress.fault(error)
        answer = _streamed(got)
        if whole == 0 or _is_event_stream(answer):
            return answer
        read, fault = await _read(answer.parts, whole)
        if sum(map(len, read)) > whole:
            return Streamed(
                answer.status, answer.headers, answer.reason, _chained(read, answer.parts), answer.aclose
            )
        await answer.aclose()
        return fault or Response(answer.status, answer.headers, b"".join(read), answer.reason)

    async def aclose(self) -> None:
        await self._transport.aclose()

    def _request(
        self, request: Request, body: AsyncIterator[bytes] | None, timeout: float, progress: _Progress
    ) -> httpx.Request | Fault:
        origin = self._origin
        head = compose(request, origin.authority, origin.prefix, len(request.body) if body is None else None)
        if isinstance(head, Fault):
            return head
        lines = head.split(b"\r\n")[1:-2]
        headers = [(name, value) for name, _, value in (line.partition(b": ") for line in lines)]
        if body is not None and (length := request.header(b"content-length")) is not None:
            headers = [header for header in headers if header[0] != b"Transfer-Encoding"]
            headers.append((b"Content-Length", length))
        target = origin.prefix + request.target
        scheme = "https" if origin.tls is not None else "http"
        return httpx.Request(
            request.method,
            httpx.URL(f"{scheme}://{origin.authority.decode()}").copy_with(raw_path=target),
            headers=headers,
            stream=_Body(request.body if body is None else body),
            extensions={
                "timeout": {
                    "connect": self._connect_timeout,
                    "pool": self._connect_timeout,
                    "read": timeout,
                    "write": timeout,
                },
                "target": target,
                "trace": progress,
            },
        )


class _Progress:
    """httpcore's trace of one request: whether it was begun and whether it was sent."""

    def __init__(self, not_after: float | None) -> None:
        self._not_after = not_after
        self._traced = self._begun = self._sent = False

    async def __call__(self, event: str, info: dict[str, Any]) -> None:
        self._traced = True
        if event.endswith("send_request_headers.started"):
            if self._not_after is not None and monotonic() > self._not_after:
                raise _Lapsed
            self._begun = True
        elif event.endswith("send_request_body.complete"):
            self._sent = True

    def fault(self, error: Exception) -> Fault:
        """Name the phase in which `error` ended the request: unsent only if that is sure."""
        detail = f"{type(error).__name__}: {error}".rstrip(": ")
        timed_out = isinstance(error, TimeoutError | httpx.TimeoutException)
        match error:
            case _Lapsed():
                return _LAPSED
            case httpx.PoolTimeout():
                phase = Phase.POOL
            case httpx.ConnectError() | httpx.ConnectTimeout() if not self._begun:
                phase = _connect_phase(error)
            case httpx.UnsupportedProtocol():
                phase = Phase.UNSENT
            case _ if self._traced and not self._begun:
                phase = Phase.UNSENT
            case httpx.WriteError() | httpx.WriteTimeout():
                phase = Phase.WRITE
            case _ if self._begun and not self._sent:
                phase = Phase.WRITE
            case _:
                phase = Phase.WAIT
        return Fault(phase, detail, None, timed_out)


class _Lapsed(Exception):
    """The time in which the request might be sent was over."""


_LAPSED = Fault(Phase.UNSENT, "the time in which it might be sent was over")


def _connect_phase(error: BaseException) -> Phase:
    for cause in _causes(error):
        if isinstance(cause, socket.gaierror):
            return Phase.NAME
        if isinstance(cause, ssl.SSLError):
            return Phase.TLS
    return Phase.CONNECT


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class _Body(httpx.AsyncByteStream):
    def __init__(self, body: bytes | AsyncIterator[bytes]) -> None:
        self._body = body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if isinstance(self._body, bytes):
            yield self._body
        else:
            async for part in self._body:
                yield part


def _streamed(got: httpx.Response) -> Streamed:
    stream = got.stream  # not `aiter_raw()`: that refuses the answers of mock transports
    assert isinstance(stream, httpx.AsyncByteStream)

    async def parts() -> AsyncIterator[bytes | Fault]:
        try:
            async for part in stream:
                yield part
        except Exception as error:
            timed_out = isinstance(error, httpx.TimeoutException)
            yield Fault(Phase.BODY, f"{type(error).__name__}: {error}".rstrip(": "), got.status_code, timed_out)

    reason = got.extensions.get("reason_phrase", b"")
    return Streamed(got.status_code, forwardable(tuple(got.headers.raw)), reason, parts(), stream.aclose)


def _is_event_stream(answer: Streamed) -> bool:
    kind = find(answer.headers, b"content-type")
    return kind is not None and kind.lower().startswith(EVENT_STREAM)


async def _read(parts: AsyncIterator[bytes | Fault], limit: int) -> tuple[list[bytes], Fault | None]:
    """Read parts up to their end, their fault, or the first byte beyond `limit`."""
    read: list[bytes] = []
    size = 0
    async for part in parts:
        if isinstance(part, Fault):
            return read, part
        read.append(part)
        size += len(part)
        if size > limit:
            break
    return read, None


async def _chained(first: list[bytes], rest: AsyncIterator[bytes | Fault]) -> AsyncIterator[bytes | Fault]:
    for part in first:
        yield part
    async for later in rest:
        yield later

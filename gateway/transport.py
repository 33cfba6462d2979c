"""The door in process: httpx transports with the same engine behind them as the server, and no server.

    async with httpx.AsyncClient(transport=gateway.AsyncTransport(upstreams={"billing": "https://billing.example.com"},
                                                                  workflow_id="order-1138")) as client:
        await client.post("https://billing.example.com/charges", json={...}, headers={"Workflow-Step": "charge"})

An upstream is found by the base URL a request's URL lies under, or by its name as the host
(`http://billing/charges`). Calls without identity get the transport's `workflow_id`; each transport is
one run of the workflow's code. Clients of httpx2 (as the SDKs of OpenAI and Anthropic bring them) take the same
transports: what they are answered is of their own library's classes.
"""

from __future__ import annotations

import asyncio
import functools
import os
import sys
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import httpx

from discovery.exchange import Header, Headers
from gateway.answer_head import answer_headers, outcome_headers, too_large
from gateway.compose import Gateway, open_gateway
from gateway.gate import Arrival, Passed
from gateway.problems import document
from gateway.settings import Settings, load
from gateway.streamed import Streamed
from policies.reply import Problem

T = TypeVar("T")

FAREWELL = 5.0
"""Seconds answers that are on their way are waited for at the end: most come in one, and an end must be one."""


class AsyncTransport(httpx.AsyncBaseTransport):
    """An httpx transport that remembers. Belongs to one event loop, as its client does.

    `upstreams` maps names to base URLs (beside those of `config`); `store`, `data` and `config` are as for
    `gimbal serve`. Raises `gateway.problems.GimbalError` where the gateway itself cannot work; what happens to a
    call is an answer, as it is over HTTP.
    """

    def __init__(
        self,
        upstreams: Mapping[str, str] | None = None,
        *,
        workflow_id: str | None = None,
        workflow_type: str = "default",
        run: str | None = None,
        store: str | None = None,
        data: str | Path | None = None,
        config: str | Path | None = None,
        transports: Mapping[str, httpx.AsyncBaseTransport] | None = None,
    ) -> None:
        self._settings = _settings(upstreams, store, data, config)
        self._identity = _identity(workflow_id, workflow_type, run)
        self._transports = transports
        self._gateway: Gateway | None = None
        self._stack = AsyncExitStack()
        self._opening = asyncio.Lock()
        self._living: set[asyncio.Task[Passed | Problem]] = set()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        return await self._handle(request, await request.aread())

    async def _handle(self, request: httpx.Request, body: bytes) -> httpx.Response:
        gateway = await self._open()
        library = _library(request)
        arrival = _arrival(gateway, request, self._identity)
        # A caller that is cancelled must not lose the answer: the call is lived to its end.
        living = asyncio.create_task(_live(gateway, arrival, body))
        self._living.add(living)
        living.add_done_callback(self._living.discard)
        passed = await asyncio.shield(living)
        if isinstance(passed, Problem):
            said = _of(library, _Bytes)(document(passed))
            return _response(library, passed.status, [(b"content-type", b"application/problem+json")], said)
        response = _told(library, passed)
        await gateway.gate.delivered(passed)
        return response

    async def aclose(self) -> None:
        """Close, after a little while for calls whose callers were cancelled: a lost answer would be a doubt."""
        if self._living:
            await asyncio.wait(self._living, timeout=FAREWELL)
        await self._stack.aclose()
        self._gateway = None

    async def _open(self) -> Gateway:
        if self._gateway is None:
            async with self._opening:
                if self._gateway is None:
                    self._gateway = await self._stack.enter_async_context(
                        open_gateway(self._settings, self._transports)
                    )
        return self._gateway


class Transport(httpx.BaseTransport):
    """The same for `httpx.Client`. The engine runs on an event loop in a thread of its own; bodies come whole."""

    def __init__(self, upstreams: Mapping[str, str] | None = None, **options: Any) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="gimbal", daemon=True)
        self._thread.start()
        self._inner = self._do(_make(upstreams, options))

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        return self._do(self._whole(request, request.read()))

    def close(self) -> None:
        if self._thread.is_alive():
            self._do(self._inner.aclose())
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()

    async def _whole(self, request: httpx.Request, content: bytes) -> httpx.Response:
        library = _library(request)
        response = await self._inner._handle(request, content)
        body = b"".join([part async for part in response.stream])  # type: ignore[union-attr]
        await response.aclose()
        return _response(library, response.status_code, response.headers.raw, _of(library, _Bytes)(body))

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result()


def _library(request: httpx.Request) -> Any:
    """Return httpx, or the descendant of it whose client made the request."""
    return sys.modules[type(request).__module__.partition(".")[0]]


@functools.cache
def _of(library: Any, stream: type[T]) -> type[T]:
    """Return `stream` as a class of the library's byte streams: its clients take no others."""
    return type(stream.__name__, (stream, library.SyncByteStream, library.AsyncByteStream), {"library": library})


class _Bytes:
    """A body as it was received: the client decodes it, we do not."""

    def __init__(self, body: bytes) -> None:
        self._body = body

    def __iter__(self) -> Iterator[bytes]:
        yield self._body

    async def __aiter__(self) -> AsyncIterator[bytes]:
        yield self._body


class _Rest:
    """A body that is still on its way. One that breaks off raises, as from the library's own transports."""

    library: Any = httpx

    def __init__(self, stream: Streamed) -> None:
        self._stream = stream

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._stream:
            if not isinstance(part, bytes):
                raise self.library.RemoteProtocolError(part.detail)
            yield part

    async def aclose(self) -> None:
        await self._stream.aclose()


async def _make(upstreams: Mapping[str, str] | None, options: dict[str, Any]) -> AsyncTransport:
    return AsyncTransport(upstreams, **options)


async def _live(gateway: Gateway, arrival: Arrival | Problem, body: bytes) -> Passed | Problem:
    who = arrival if isinstance(arrival, Problem) else gateway.gate.identify(arrival)
    if isinstance(who, Problem):
        return who
    if who.step and len(body) > who.known.rules.body_limit:
        return too_large(who)
    return await gateway.gate.perform(who, body)


def _arrival(gateway: Gateway, request: httpx.Request, identity: Headers) -> Arrival | Problem:
    brought = tuple((name.lower(), value) for name, value in request.headers.raw)
    headers = brought + tuple(header for header in identity if not _names(brought, header[0]))
    if _names(brought, b"workflow-id"):  # another workflow's call is no part of our run
        headers = brought
    target = request.url.raw_path
    if request.url.host in gateway.gate.upstreams and request.url.port is None:
        return Arrival(request.url.host, request.method, target, headers)
    origin = str(request.url.copy_with(raw_path=b"/")).rstrip("/").encode()
    return gateway.gate.by_host(request.method, origin + target, headers, "")


def _names(headers: Headers, name: bytes) -> bool:
    return any(key == name for key, _ in headers)


def _told(library: Any, passed: Passed) -> httpx.Response:
    answer = passed.reply.answer
    headers = [*answer_headers(answer), *outcome_headers(passed, "")]
    if passed.stream is not None:
        stream: Any = _of(library, _Rest)(passed.stream)
    else:
        stream = _of(library, _Bytes)(document(answer) if isinstance(answer, Problem) else answer.body)
    return _response(library, answer.status, headers, stream)


def _response(library: Any, status: int, headers: list[Header], stream: Any) -> httpx.Response:
    response: httpx.Response = library.Response(status, headers=headers, stream=stream)
    return response


def _settings(
    upstreams: Mapping[str, str] | None, store: str | None, data: str | Path | None, config: str | Path | None
) -> Settings:
    flags: dict[tuple[str | int, ...], tuple[str, Any]] = {
        ("upstreams", name, "base_url"): ("upstreams=", url) for name, url in (upstreams or {}).items()
    }
    if store is not None:
        flags["store", "url"] = ("store=", store)
    if data is not None:
        flags["data",] = ("data=", str(data))
    return replace(load(Path(config) if config else None, flags), workers=1)


def _identity(id: str | None, type: str, run: str | None) -> tuple[Header, ...]:
    if id is None:
        return ()
    run = run or os.urandom(6).hex()
    return (b"workflow-id", id.encode()), (b"workflow-type", type.encode()), (b"workflow-run", run.encode())

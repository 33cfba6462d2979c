"""The door over HTTP: a raw ASGI application, and the protocol that keeps requests as they were written.

A framework would cost more than the rest of the call. uvicorn parses HTTP (httptools, llhttp strict: a message
with two framings is refused); `Protocol` adds what a proxy needs and uvicorn drops: the target byte for byte,
and a bound on the head.
"""

from __future__ import annotations

import math
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter
from typing import Any
from typing import Protocol as Typing

from httptools import HttpParserUpgrade, HttpRequestParser
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from discovery.exchange import Headers, Response
from gateway.at_once import answer_at_once
from gateway.gate import Arrival, Gate, Identified, Passed
from gateway.journal import Journal
from gateway.problems import document
from gateway.streamed import Streamed
from gateway.tokens import bearer, caller_of
from gateway.wire_head import forwardable
from policies.reply import Problem, Reply

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

HEAD_LIMIT = 64 * 1024
"""Bytes of a request's head. Twice what common servers take: credentials and traces grow."""

ONE_READ = 256 * 1024
"""Bytes the event loop hands over at once, at most (uvloop's buffer): a head comes with what follows it."""

FRAMING = (b"content-length", b"transfer-encoding")

TARGET = "gimbal.target"
"""Where `Protocol` leaves the request's target as it was written."""

CYCLE = "gimbal.cycle"
"""Where `Protocol` leaves uvicorn's state of the exchange, for `gateway.at_once`."""

PROXY_ERRORS = {
    "unknown-upstream": "destination_not_found",
    "refused-target": "destination_ip_prohibited",
    "upstream-unreachable": "destination_unavailable",
    "in-doubt": "http_response_incomplete",
    "exhausted": "http_response_incomplete",
    "too-large": "http_request_error",
    "bad-request": "http_request_error",
    "key-required": "http_request_error",
    "key-reused": "http_request_denied",
    "unauthorized": "http_request_denied",
}
"""Problem -> proxy error type (RFC 9209 2.3); what has none is the gateway's own answer."""

STATUS_LINE.update({status: b"HTTP/1.1 %d \r\n" % status for status in range(600, 1000)})


class Console(Typing):
    """What answers under `/-/`."""

    async def answer(self, request: Any) -> Any: ...


class Protocol(HttpToolsProtocol):
    """uvicorn's protocol, keeping the target verbatim, bounding the head, and dropping trailers.

    A wish to upgrade is ignored (RFC 9110 7.8). The parser stops at one, before the body: a new parser is told
    the message's framing and goes on there.
    """

    limit = HEAD_LIMIT
    _head = -1  # bytes of the head so far, by the read; -1: none is under way
    _too_large = False
    _resuming = False
    _stopped_at: int | None = None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        while (at := self._stopped_at) is not None and not self.transport.is_closing():
            self._stopped_at = None
            data = self._framing() + data[at:]
            self.parser = HttpRequestParser(self)
            self._resuming = True
            super().data_received(data)
        if self._head >= 0 and not self.transport.is_closing():
            self._head += len(data)
            if self._head > self.limit + ONE_READ:
                self._too_large = True
                self.send_400_response("")

    def on_message_begin(self) -> None:
        if not self._resuming:
            self._head = 0
            super().on_message_begin()

    def on_headers_complete(self) -> None:
        if self._resuming:
            self._resuming = False
            return
        self._head = -1
        self.scope[TARGET] = self.url  # type: ignore[literal-required]
        if sum(len(name) + len(value) + 4 for name, value in self.headers) > self.limit:
            self._too_large = True
            raise ValueError("the head is too large")
        super().on_headers_complete()
        self.scope[CYCLE] = self.cycle  # type: ignore[literal-required]
        self.headers = []  # trailers come in as headers do; the scope's list is as it shall be

    def on_message_complete(self) -> None:
        if not self.parser.should_upgrade():
            super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        if not self._too_large:
            return super().send_400_response(msg)
        self.transport.write(
            b"HTTP/1.1 431 Request Header Fields Too Large\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"
        )
        self.transport.close()
        return None

    def _unsupported_upgrade_warning(self) -> None:
        stopped = sys.exc_info()[1]
        assert isinstance(stopped, HttpParserUpgrade)
        self._stopped_at = stopped.args[0]

    def _framing(self) -> bytes:
        lines = [b"%s: %s\r\n" % header for header in self.scope["headers"] if header[0] in FRAMING]
        return b"POST / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n"


class Application:
    """The ASGI application. `callers` maps names to tokens; empty: anyone who can connect may call."""

    def __init__(
        self,
        gate: Gate,
        journal: Journal,
        *,
        console: Console | None = None,
        callers: dict[str, str] | None = None,
        capability: Callable[[str], str] | None = None,
    ) -> None:
        self.gate = gate
        self.journal = journal
        self.console = console
        self._callers = callers or {}
        self._capability = capability or (lambda call: "")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await _lifespan(receive, send)
        else:
            await send({"type": "websocket.close", "code": 1000})

    async def _http(self, scope: Scope, receive: Receive, send: Send) -> None:
        started = perf_counter()
        target: bytes = scope.get(TARGET) or scope["raw_path"] + (
            b"?" + scope["query_string"] if scope["query_string"] else b""
        )
        headers: Headers = tuple([(name, value.strip(b" \t")) for name, value in scope["headers"]])
        if target[:3] == b"/-/" or target == b"/-":
            await self._inspect(scope, target, headers, receive, send)
            return
        arrival = self._arrival(scope["method"], target, headers)
        who = arrival if isinstance(arrival, Problem) else self.gate.identify(arrival)
        if isinstance(who, Problem):
            await _respond(send, who.status, _problem_headers(who), document(who))
            return
        try:
            body, rest = await _body(receive, headers, who)
        except _HungUp:
            return
        if body is None:
            problem = too_large(who)
            await _respond(send, 413, (*_problem_headers(problem), (b"connection", b"close")), document(problem))
            return
        passed = await self.gate.perform(who, body, rest)
        answer = passed.reply.answer
        head = (
            *answer_headers(answer),
            *outcome_headers(passed, self._capability(passed.call) if passed.reply.location else ""),
        )
        if passed.stream is not None:
            await _stream(send, answer.status, head, passed.stream)
        else:
            whole = answer.body if isinstance(answer, Response) else document(answer)
            cycle = scope.get(CYCLE)
            if cycle is None or not answer_at_once(cycle, answer.status, head, whole):
                await _respond(send, answer.status, head, whole)
        await self.gate.delivered(passed)
        self.journal.called(
            who.arrival.upstream, scope["method"], passed.call, passed.reply, perf_counter() - started
        )

    def _arrival(self, method: str, target: bytes, headers: Headers) -> Arrival | Problem:
        """Return whom the request is for: the first segment, or the host of an absolute target."""
        caller = ""
        if self._callers:
            token = next((value for name, value in headers if name == b"proxy-authorization"), None)
            known = caller_of(bearer(token), self._callers)
            if known is None:
                return Problem(
                    "unauthorized",
                    407,
                    "This gateway wants to know its callers",
                    "Send Proxy-Authorization: Bearer with a token from [callers] of the configuration.",
                )
            caller = known
        if target[:1] != b"/":
            return self.gate.by_host(method, target, forwardable(headers), caller)
        path, question, query = target.partition(b"?")
        name, _, rest = path[1:].partition(b"/")
        return Arrival(
            name.decode("latin-1"), method, b"/" + rest + question + query, forwardable(headers), caller
        )

    async def _inspect(self, scope: Scope, target: bytes, headers: Headers, receive: Receive, send: Send) -> None:
        if self.console is None:
            await _respond(send, 404, (), b"")
            return
        from gateway.console import ConsoleRequest

        path, _, query = target.partition(b"?")
        body = await _whole(receive, CONSOLE_LIMIT)
        if body is None:
            await _respond(send, 413, ((b"connection", b"close"),), b"")
            return
        answer = await self.console.answer(ConsoleRequest(scope["method"], path, query, headers, body))
        await _respond(send, answer.status, answer.headers, b"" if scope["method"] == "HEAD" else answer.body)


CONSOLE_LIMIT = 16 * 1024 * 1024
"""Bytes of a body sent to the gateway itself: a response given with `resolve`."""


def outcome_headers(passed: Passed, token: str) -> Headers:
    """Return the headers in which the gateway says what became of the call; `token` opens its page."""
    reply = passed.reply
    said = [(b"gimbal-call", passed.call.encode()), (b"gimbal-outcome", outcome_item(reply).encode())]
    if reply.replayed:
        said.append((b"idempotent-replayed", b"true"))
    if reply.retry_after is not None:
        said.append((b"retry-after", b"%d" % max(1, math.ceil(reply.retry_after))))
    if reply.location and token:
        said.append((b"location", f"/-/calls/{passed.call}?token={token}".encode()))
    return tuple(said)


def outcome_item(reply: Reply) -> str:
    """Return `Gimbal-Outcome`: an RFC 9651 Item, the call's fate with parameters."""
    item = f"{reply.outcome.value};attempts={reply.attempts}"
    if reply.replayed:
        item += ";replayed"
    if reply.adapted:
        item += f";adapted={reply.adapted}"
    if reply.degraded:
        item += f";degraded={reply.degraded}"
    if reply.contract is not None:
        item += f";contract={reply.contract}"
    return item


def too_large(who: Identified) -> Problem:
    return Problem(
        "too-large",
        413,
        "Too large to remember",
        f"A step's body is kept until it is settled; this one is beyond {who.known.rules.body_limit} bytes "
        "(limits.body, or body_limit of the upstream). Nothing was sent. "
        "Raise the limit, or send it without identity.",
        {"limit": who.known.rules.body_limit},
    )


def answer_headers(answer: Response | Problem) -> Headers:
    if isinstance(answer, Problem):
        return _problem_headers(answer)
    headers = forwardable(answer.headers)
    if answer.status in (204, 304):  # uvicorn counts a body that a 304's Content-Length only describes
        return tuple(header for header in headers if header[0].lower() != b"content-length")
    return headers


def _problem_headers(problem: Problem) -> Headers:
    error = PROXY_ERRORS.get(problem.slug, "proxy_internal_response")
    honoured = ((b"preference-applied", b"respond-async"),) if problem.status == 202 else ()
    return (
        *honoured,
        (b"content-type", b"application/problem+json"),
        (b"cache-control", b"no-store"),
        (b"proxy-status", f"gimbal; error={error}".encode()),
    )


class _HungUp(Exception):
    """The caller left inside its request: nobody waits, and what came of the body is not what was meant."""


async def _body(
    receive: Receive, headers: Headers, who: Identified
) -> tuple[bytes | None, AsyncIterator[bytes] | None]:
    """Return the body whole while it is within the limit, else what came so far as the start of a stream.

    None: it has to be whole (a step's), and is too large. Raises `_HungUp`.
    """
    limit = who.known.rules.body_limit
    declared = next((value for name, value in headers if name == b"content-length"), b"0")
    if declared.isdigit() and int(declared) > limit:
        return (None, None) if who.step else (b"", _parts(receive, []))
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise _HungUp
        part: bytes = message.get("body", b"")
        more = message.get("more_body")
        if not (parts or more):
            return part, None
        parts.append(part)
        size += len(part)
        if size > limit:
            if who.step:
                return None, None
            return b"", _parts(receive, parts if more else [*parts, b""])
        if not more:
            return b"".join(parts), None


async def _parts(receive: Receive, parts: list[bytes]) -> AsyncIterator[bytes]:
    ended = bool(parts) and not parts[-1]
    for part in parts:
        if part:
            yield part
    while not ended:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ConnectionError("the caller hung up inside its body")
        if message.get("body"):
            yield message["body"]
        ended = not message.get("more_body")


async def _whole(receive: Receive, limit: int) -> bytes | None:
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > limit or message["type"] == "http.disconnect":
            return None
        if not message.get("more_body"):
            return b"".join(parts)


async def _respond(send: Send, status: int, headers: Headers, body: bytes) -> None:
    if body and not any(name.lower() == b"content-length" for name, _ in headers):
        headers = (*headers, (b"content-length", b"%d" % len(body)))
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def _stream(send: Send, status: int, headers: Headers, stream: Streamed) -> None:
    """Pass a body through. One that breaks off breaks off for the caller as well, never ends in good order."""
    await send({"type": "http.response.start", "status": status, "headers": headers})
    async with stream:
        async for part in stream:
            if not isinstance(part, bytes):
                raise ConnectionError(f"the upstream's body broke off: {part.detail}")
            await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _lifespan(receive: Receive, send: Send) -> None:
    while True:
        message = await receive()
        await send({"type": f"{message['type']}.complete"})
        if message["type"] == "lifespan.shutdown":
            return

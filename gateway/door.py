"""The door over HTTP: what is done with one request, whoever holds its connection.

A connection (`gateway.caller`, or an ASGI server by `gateway.asgi`) hands over an `Incoming`; the call itself is
lived in `gateway.gate`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from time import perf_counter
from typing import Any, Protocol

from discovery.exchange import Headers, Response
from gateway.answer_head import answer_headers, outcome_headers, problem_headers, too_large
from gateway.gate import Arrival, Gate, Identified
from gateway.journal import Journal
from gateway.problems import document
from gateway.streamed import Streamed
from gateway.tokens import bearer, caller_of
from gateway.wire_head import forwardable
from policies.reply import Problem

CONSOLE_LIMIT = 16 * 1024 * 1024
"""Bytes of a body sent to the gateway itself: a response given with `resolve`."""

CLOSING = (b"connection", b"close")

_ENDS = (b"", b"/", b"?")
"""What may stand behind a name in a target."""


class HungUp(ConnectionError):
    """The caller left: inside its request, so that what came of the body is not what was meant, or inside the
    answer it was streamed."""


class Incoming(Protocol):
    """One request whose head has come, and the way back to its caller.

    `target` is as it was written; `headers` have names in lower case and values without blanks around them.
    `body` is the whole body where it has come already, else None: then `part()` tells it.
    """

    method: str
    target: bytes
    headers: Headers

    @property
    def body(self) -> bytes | None: ...

    async def part(self) -> bytes:
        """Return the next part of the body; empty: it has ended. Raises `HungUp`."""
        ...

    async def answer(self, status: int, headers: Headers, body: bytes) -> None:
        """Give the whole answer. Its Content-Length is added where it is missing."""
        ...

    async def begin(self, status: int, headers: Headers) -> None:
        """Give the head of an answer whose body follows by `pass_on()`, up to `end()`."""
        ...

    async def pass_on(self, part: bytes) -> None: ...

    async def end(self) -> None: ...


class Console(Protocol):
    """What answers under `/-/`."""

    async def answer(self, request: Any) -> Any: ...


class Door:
    """`callers` maps names to tokens; empty: anyone who can connect may call."""

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

    async def receive(self, request: Incoming) -> None:
        """Answer `request`. Raises `HungUp`, or what broke off a streamed answer, whose end is then not told."""
        started = perf_counter()
        target = request.target
        if target[:2] == b"/-" and target[2:3] in _ENDS:
            await self._inspect(request)
            return
        if target == b"*" and request.method == "OPTIONS":  # of the gateway itself (RFC 9110 9.3.7): it is there
            await request.answer(204, (), b"")
            return
        arrival = self._arrival(request)
        who = arrival if isinstance(arrival, Problem) else self.gate.identify(arrival)
        if isinstance(who, Problem):
            await request.answer(who.status, problem_headers(who), document(who))
            return
        body, rest = await _body(request, who)
        if body is None:
            problem = too_large(who)
            await request.answer(413, (*problem_headers(problem), CLOSING), document(problem))
            return
        passed = await self.gate.perform(who, body, rest)
        reply = passed.reply
        answer = reply.answer
        told = outcome_headers(passed, self._capability(passed.call) if reply.location else "")
        head = answer_headers(answer) + told
        if passed.stream is not None:
            await _stream(request, answer.status, head, passed.stream)
        else:
            whole = answer.body if isinstance(answer, Response) else document(answer)
            await request.answer(answer.status, head, whole)
        if passed.counted is not None:
            await self.gate.delivered(passed)
        self.journal.called(who.arrival.upstream, request.method, passed.call, reply, perf_counter() - started)

    def _arrival(self, request: Incoming) -> Arrival | Problem:
        """Return whom the request is for: the first segment, or the host of an absolute target."""
        target, headers = request.target, request.headers
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
            return self.gate.by_host(request.method, target, forwardable(headers), caller)
        path, question, query = target.partition(b"?")
        name, _, rest = path[1:].partition(b"/")
        return Arrival(
            name.decode("latin-1"), request.method, b"/" + rest + question + query, forwardable(headers), caller
        )

    async def _inspect(self, request: Incoming) -> None:
        if self.console is None:
            await request.answer(404, (), b"")
            return
        from gateway.console import ConsoleRequest

        path, _, query = request.target.partition(b"?")
        body = await _whole(request, CONSOLE_LIMIT)
        if body is None:
            await request.answer(413, (CLOSING,), b"")
            return
        answer = await self.console.answer(ConsoleRequest(request.method, path, query, request.headers, body))
        await request.answer(answer.status, answer.headers, b"" if request.method == "HEAD" else answer.body)


async def _body(request: Incoming, who: Identified) -> tuple[bytes | None, AsyncIterator[bytes] | None]:
    """Return the body whole while it is within the limit, else what came so far as the start of a stream.

    None: it has to be whole (a step's), and is too large. Raises `HungUp`.
    """
    limit = who.known.rules.body_limit
    body = request.body
    if body is not None and len(body) <= limit:
        return body, None
    if body is not None:
        whole, parts = False, [body, b""]
    else:
        declared = next((value for name, value in request.headers if name == b"content-length"), b"0")
        if declared.isdigit() and int(declared) > limit:
            whole, parts = False, []
        else:
            whole, parts = await _read(request, limit)
    if whole:
        return b"".join(parts), None
    return (None, None) if who.step else (b"", _parts(request, parts))


async def _read(request: Incoming, limit: int) -> tuple[bool, list[bytes]]:
    """Read the body up to its end (the last part is empty), or the first part beyond `limit`: False."""
    parts: list[bytes] = []
    size = 0
    while size <= limit:
        parts.append(await request.part())
        size += len(parts[-1])
        if not parts[-1]:
            return True, parts
    return False, parts


async def _parts(request: Incoming, parts: list[bytes]) -> AsyncIterator[bytes]:
    for part in parts:
        if not part:
            return
        yield part
    while part := await request.part():
        yield part


async def _whole(request: Incoming, limit: int) -> bytes | None:
    if request.body is not None:
        return request.body if len(request.body) <= limit else None
    whole, parts = await _read(request, limit)
    return b"".join(parts) if whole else None


async def _stream(request: Incoming, status: int, headers: Headers, stream: Streamed) -> None:
    """Pass a body through. One that breaks off breaks off for the caller as well, never ends in good order."""
    async with stream:
        await request.begin(status, headers)
        async for part in stream:
            if not isinstance(part, bytes):
                raise ConnectionError(f"the upstream's body broke off: {part.detail}")
            await request.pass_on(part)
    await request.end()

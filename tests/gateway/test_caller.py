"""A caller's connection, by itself: what it owes to whom it answers, and how it ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable

import httpx
import pytest
import uvloop

from gateway import listening
from gateway.asgi import Application
from gateway.asked import HIGH, Asked
from gateway.caller import DROPPED
from gateway.door import HungUp
from gateway.listening import Listening

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


def alive(test):
    """Run a test on the event loop that `gimbal serve` runs on, bounded."""

    @functools.wraps(test)
    def run(*arguments, **named):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(asyncio.wait_for(test(*arguments, **named), 20))

    return run


class Server:
    """A server on a port of its own that answers by `receive`."""

    def __init__(self, receive: Callable[[Asked], Awaitable[None]]) -> None:
        self.listening = Listening(receive, 4096)
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Server:
        ready = asyncio.Event()
        self.task = asyncio.create_task(self.listening.run(self.listener, ready.set))
        await ready.wait()
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self.task is not None
        self.task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self.task

    async def connected(self) -> Streams:
        return await asyncio.open_connection(*self.listener.getsockname()[:2])

    @contextlib.asynccontextmanager
    async def caller(self, said: bytes = b"") -> AsyncIterator[Streams]:
        reader, writer = await self.connected()
        writer.write(said)
        try:
            yield reader, writer
        finally:
            writer.close()

    async def asked(self, said: bytes) -> bytes:
        """Say something; return all that comes until the server closes."""
        async with self.caller(said) as (reader, _), asyncio.timeout(5):
            return await reader.read()


@alive
async def test_lives_whose_callers_were_let_go_are_waited_for_at_the_end():
    alone = {"a life"}
    server = Listening(echo, 4096, alone)
    ready = asyncio.Event()
    ending = asyncio.create_task(server.run(socket.create_server(("127.0.0.1", 0)), ready.set))
    await ready.wait()

    server.stop()
    done, _ = await asyncio.wait({ending}, timeout=5 * listening.LOOK)
    assert not done

    alone.clear()
    await ending


async def echo(request: Asked) -> None:
    body = request.body
    if body is None:
        parts = []
        while part := await request.part():
            parts.append(part)
        body = b"".join(parts)
    await request.answer(200, ((b"x-target", request.target),), body)


def post(body: bytes, *headers: bytes) -> bytes:
    lines = b"".join(line + b"\r\n" for line in headers)
    return b"POST / HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n%s\r\n%s" % (len(body), lines, body)


CLOSE = b"Connection: close"


@alive
async def test_what_is_malformed_is_answered_with_a_problem_behind_the_answers_that_are_owed():
    async with Server(echo) as server:
        answer = await server.asked(
            post(b"one") + post(b"two") + b"GET / HTTP/1.1\r\nX Y: z\r\n\r\n" + post(b"hid")
        )

    *owed, refusal = answer.split(b"HTTP/1.1 ")[1:]
    assert [each.rpartition(b"\r\n\r\n")[2] for each in owed] == [b"one", b"two"]
    head, _, body = refusal.partition(b"\r\n\r\n")
    assert head.startswith(b"400 ") and b"connection: close" in head
    assert json.loads(body)["type"] == "/-/problems/bad-request"


@pytest.mark.parametrize(
    ("head", "status", "says"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", 400, "one Host"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nhost: a\r\n\r\n", 400, "one Host"),
        (b"GET / HTTP/2.0\r\nHost: a\r\n\r\n", 505, "HTTP/2.0 is not spoken"),
        (b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501, "chunked"),
        (b"FROB / HTTP/1.1\r\nHost: a\r\n\r\n", 400, "method"),
    ],
)
def test_a_head_that_the_standard_forbids_is_refused_with_the_reason(head, status, says):
    @alive
    async def asked() -> bytes:
        async with Server(echo) as server:
            return await server.asked(head)

    said, _, body = asked().partition(b"\r\n\r\n")

    assert said.startswith(b"HTTP/1.1 %d " % status) and b"connection: close" in said
    assert says in json.loads(body)["detail"]


@alive
async def test_http_1_0_needs_no_host():
    async with Server(echo) as server:
        assert (await server.asked(b"GET / HTTP/1.0\r\n\r\n")).startswith(b"HTTP/1.1 200 ")


@alive
async def test_nothing_behind_the_last_request_is_answered():
    async with Server(echo) as server:
        answer = await server.asked(post(b"last", CLOSE) + post(b"behind"))

    assert answer.count(b"HTTP/1.1 ") == 1
    assert b"connection: close\r\n" in answer


@alive
async def test_who_ends_its_half_behind_a_whole_request_is_answered():
    go_on = asyncio.Event()

    async def late(request: Asked) -> None:
        await go_on.wait()
        await echo(request)

    async with Server(late) as server, server.caller(post(b"late")) as (reader, writer), asyncio.timeout(5):
        writer.write_eof()
        await asyncio.sleep(0)
        go_on.set()
        assert (await reader.read()).endswith(b"\r\n\r\nlate")


@alive
async def test_who_ends_inside_its_body_has_hung_up():
    seen = asyncio.Event()

    async def read(request: Asked) -> None:
        try:
            await echo(request)
        except HungUp:
            seen.set()
            raise

    async with Server(read) as server, server.caller(post(b"whole")[:-2]) as (reader, writer), asyncio.timeout(5):
        writer.write_eof()
        assert await reader.read() == b""
        await seen.wait()


@alive
async def test_a_stream_ends_when_its_caller_does():
    ended = asyncio.Event()

    async def endless(request: Asked) -> None:
        await request.begin(200, ())
        try:
            while True:
                await request.pass_on(b"x" * 1000)
                await asyncio.sleep(0)
        finally:
            ended.set()

    async with Server(endless) as server, asyncio.timeout(5):
        async with server.caller(b"GET / HTTP/1.1\r\nHost: g\r\n\r\n") as (reader, _):
            await reader.readexactly(5000)
        await ended.wait()


@alive
async def test_a_reader_that_is_slow_is_waited_for():
    passed = 0
    stuck = asyncio.Event()

    async def large(request: Asked) -> None:
        nonlocal passed
        await request.begin(200, ())
        for _ in range(400):
            asyncio.get_running_loop().call_later(0.2, stuck.set)
            await request.pass_on(b"x" * 100_000)
            passed += 1
        await request.end()

    async with (
        Server(large) as server,
        server.caller(b"GET / HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n") as (reader, _),
    ):
        async with asyncio.timeout(20):
            await stuck.wait()
            assert passed < 400
            assert len(await reader.read()) > 40_000_000


@alive
async def test_a_streams_length_is_kept_or_its_connection_broken():
    async def short(request: Asked) -> None:
        await request.begin(200, ((b"content-length", b"10"),))
        await request.pass_on(b"short")
        await request.end()

    async with (
        Server(short) as server,
        server.caller(b"GET / HTTP/1.1\r\nHost: g\r\n\r\n") as (reader, _),
        asyncio.timeout(5),
    ):
        assert (await reader.read()).endswith(b"content-length: 10\r\n\r\nshort")


@alive
async def test_an_old_caller_is_streamed_to_without_chunks():
    async def stream(request: Asked) -> None:
        await request.begin(200, ())
        await request.pass_on(b"part")
        await request.end()

    async with Server(stream) as server:
        assert (await server.asked(b"GET / HTTP/1.0\r\n\r\n")).endswith(b"\r\n\r\npart")


@alive
async def test_a_refused_body_is_dropped_and_the_connection_goes_on():
    async def refuse(request: Asked) -> None:
        await request.answer(403, (), b"no")

    body = b"x" * 200_000
    async with (
        Server(refuse) as server,
        server.caller(post(body)[:-100_000]) as (reader, writer),
        asyncio.timeout(5),
    ):
        assert (await reader.readuntil(b"no")).startswith(b"HTTP/1.1 403")
        writer.write(body[:100_000] + post(b"again"))
        assert (await reader.readuntil(b"no")).startswith(b"HTTP/1.1 403")


@alive
async def test_a_refused_body_without_end_is_read_no_further_and_its_caller_reads_why():
    async def refuse(request: Asked) -> None:
        await request.answer(403, (), b"no")

    said = b"POST / HTTP/1.1\r\nHost: g\r\nContent-Length: %d\r\n\r\n" % (100 * DROPPED)
    async with Server(refuse) as server, server.caller(said) as (reader, writer), asyncio.timeout(5):
        with contextlib.suppress(ConnectionError):
            for _ in range(3):
                writer.write(b"x" * DROPPED)
                await writer.drain()
        assert (await reader.read()).endswith(b"no")


@alive
async def test_who_was_not_told_to_continue_is_answered_and_the_connection_ends():
    async def refuse(request: Asked) -> None:
        await request.answer(403, (), b"no")

    async with Server(refuse) as server:
        answer = await server.asked(
            b"POST / HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        )

    assert answer.startswith(b"HTTP/1.1 403") and b"connection: close" in answer


@alive
async def test_a_body_is_read_no_faster_than_it_is_taken():
    held: list[Asked] = []
    taken = asyncio.Event()

    async def wait(request: Asked) -> None:
        held.append(request)
        await taken.wait()
        await echo(request)

    body = b"x" * 16_000_000
    async with Server(wait) as server, server.caller(post(body, CLOSE)) as (reader, writer):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await writer.drain()
        assert held[0].full and held[0]._size < HIGH + 1024 * 1024
        taken.set()
        assert len(await reader.read()) > len(body)


@alive
async def test_what_cannot_be_written_in_a_header_is_our_failure():
    async def split(request: Asked) -> None:
        await request.answer(200, ((b"x", b"a\r\ninjected: b"),), b"")

    async with Server(split) as server:
        answer = await server.asked(b"GET / HTTP/1.1\r\nHost: g\r\n\r\n")

    assert answer.startswith(b"HTTP/1.1 500") and b"injected" not in answer


@pytest.mark.parametrize("said", [b"", b"GET / HTTP/1.1\r\nHost: g\r\nX: ", post(b"body")[:-1], post(b"done")])
@alive
async def test_who_is_silent_for_too_long_is_let_go(said, monkeypatch):
    monkeypatch.setattr(listening, "PATIENCE", 0.05)
    monkeypatch.setattr(listening, "SWEEP", 0.01)
    async with Server(echo) as server, server.caller(said) as (reader, _), asyncio.timeout(5):
        with contextlib.suppress(ConnectionResetError):
            await reader.read()


@alive
async def test_a_head_that_drips_is_let_go(monkeypatch):
    monkeypatch.setattr(listening, "PATIENCE", 0.1)
    monkeypatch.setattr(listening, "SWEEP", 0.01)
    async with Server(echo) as server, server.caller(b"GET / HTTP/1.1\r\nHost: g\r\nX: ") as (reader, writer):
        with pytest.raises(ConnectionError):
            async with asyncio.timeout(5):
                while True:
                    writer.write(b"x")
                    await writer.drain()
                    with contextlib.suppress(TimeoutError):
                        assert await asyncio.wait_for(reader.read(1), 0.01) == b"", "it is not answered"


@alive
async def test_the_end_waits_for_what_is_under_way_and_closes_what_is_idle():
    go_on = asyncio.Event()
    began = asyncio.Event()

    async def late(request: Asked) -> None:
        began.set()
        await go_on.wait()
        await echo(request)

    async with Server(late) as server, server.caller() as (idle, _), server.caller(post(b"late")) as (busy, _):
        await began.wait()
        server.listening.stop()
        assert await idle.read() == b""
        with pytest.raises(OSError):
            await server.connected()
        go_on.set()
        answer = await busy.read()
        assert answer.endswith(b"late") and b"connection: close" in answer
        assert server.task is not None
        await server.task


@alive
async def test_told_twice_it_ends_at_once():
    async def never(request: Asked) -> None:
        await asyncio.Event().wait()

    async with Server(never) as server, server.caller(post(b"x")) as (reader, _), asyncio.timeout(5):
        await asyncio.sleep(0.02)
        server.listening.stop()
        server.listening.stop()
        assert server.task is not None
        await server.task
        with contextlib.suppress(ConnectionResetError):
            assert await reader.read() == b""


@alive
async def test_the_same_door_is_an_asgi_application():
    class Door:
        async def receive(self, request: Asked) -> None:
            await echo(request)

    application = Application(Door())  # type: ignore[arg-type]
    async with httpx.AsyncClient(transport=httpx.ASGITransport(application), base_url="http://g") as client:
        answer = await client.post("/up/x%20y?a=b", content=b"hello")

    assert (answer.status_code, answer.content) == (200, b"hello")
    assert answer.headers["x-target"] == "/up/x%20y?a=b"

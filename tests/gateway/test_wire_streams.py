"""Bodies that pass through the wire as they come, in both directions."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from discovery.exchange import Phase, Request
from gateway.streamed import Streamed
from tests.gateway.wire_peer import FakeUpstream, Peer, answering, never
from tests.gateway.wire_world import GET, OK, wire


def test_a_slow_reader_makes_the_upstream_wait(run):
    size = 40_000_000
    written = 0

    async def flooding(peer: Peer) -> None:
        nonlocal written
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while written < size:
            await peer.send(b"x" * 100_000)
            written += 100_000
        await peer.gone()

    async def main():
        async with FakeUpstream(flooding) as peer:
            client = wire(peer)
            answer = await client.open(GET, timeout=0.3)
            assert isinstance(answer, Streamed)
            before = -1
            while before != written:  # until the upstream stands still
                before = written
                await asyncio.sleep(0.1)
            await asyncio.sleep(0.5)  # longer than the timeout: it is we who are slow
            stood = written
            got = sum([len(part) async for part in answer if isinstance(part, bytes)])
            await client.aclose()
            return stood, got

    stood, got = run(main())

    assert stood < size
    assert got == size


def test_a_stream_that_was_read_to_its_end_gives_its_connection_back(run):
    async def main():
        async with FakeUpstream(
            answering(b"HTTP/1.1 200 OK\r\nContent-Length: 300000\r\n\r\n" + b"x" * 300_000)
        ) as peer:
            client = wire(peer)
            sizes = []
            for _ in range(3):
                answer = await client.open(GET, timeout=5)
                assert isinstance(answer, Streamed)
                async with answer:
                    sizes.append(sum([len(part) async for part in answer if isinstance(part, bytes)]))
            await client.aclose()
            return sizes, peer.accepted

    assert run(main()) == ([300_000] * 3, 1)


def test_leaving_a_stream_early_closes_its_connection(run):
    closed = asyncio.Event()

    async def events(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata: 1\n\n")
        await peer.gone()
        closed.set()

    async def main():
        async with FakeUpstream(events) as peer:
            client = wire(peer)
            answer = await client.open(GET, timeout=5, whole=1000)
            assert isinstance(answer, Streamed)
            async with answer:
                first = await anext(answer.parts)
            await closed.wait()
            await client.aclose()
            return first

    assert run(main()) == b"data: 1\n\n"


async def _slowly(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        await asyncio.sleep(0.15)
        yield part


def test_a_slow_caller_is_waited_for_and_not_held_against_the_upstream(run):
    seen: list[bytes] = []

    async def main():
        async with FakeUpstream(answering(OK, seen)) as peer:
            client = wire(peer)
            answer = await client.open(Request("POST", b"/"), _slowly(b"a", b"b"), timeout=0.1, whole=10)
            again = await client.send(GET, timeout=5)
            await client.aclose()
            return answer.status, again.status, peer.accepted

    assert run(main()) == (200, 200, 1)


@pytest.mark.parametrize("parts", [(b"abc",), (b"abcdef",)], ids=["less", "more"])
def test_a_streamed_request_must_keep_its_promised_length(run, parts):
    async def main():
        async with FakeUpstream(never) as peer:
            client = wire(peer)
            request = Request("POST", b"/", ((b"Content-Length", b"5"),))
            answer = await client.open(request, _slowly(*parts), timeout=1, whole=10)
            await client.aclose()
            return answer

    answer = run(main())

    assert answer.phase is Phase.WRITE
    assert "5 bytes" in answer.detail

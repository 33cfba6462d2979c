"""Kept connections: none is used again that could be dead, or that an answer left in doubt."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from discovery.exchange import Phase, Request
from gateway.wire import PEEK_AFTER
from tests.gateway.wire_peer import FakeUpstream, Peer, answering
from tests.gateway.wire_world import GET, OK, POST, RawUpstream, until, wire


def test_a_kept_connection_that_was_reset_takes_no_byte_and_is_replaced_in_silence(run):
    seen: list[bytes] = []
    peers: dict[str, Peer] = {}

    async def script(peer: Peer) -> None:
        peers.setdefault("first", peer)
        while True:
            seen.append(await peer.request())
            await peer.send(OK)

    async def main():
        async with FakeUpstream(script) as peer:
            client = wire(peer)
            await client.send(POST, timeout=5)
            peers["first"].reset()
            sock = peers["first"].writer.get_extra_info("socket")
            await until(lambda: sock.fileno() == -1)  # closed: the reset is in the client's socket
            answer = await client.send(POST, timeout=5)
            await client.aclose()
            return answer.status, peer.accepted

    assert run(main()) == (200, 2)
    assert len(seen) == 2


def test_a_reset_that_only_the_first_write_finds_is_still_unsent(run):
    async def main():
        async with RawUpstream() as raw:
            first, _ = await raw.exchange(POST)
            Peer.linger(first)
            first.close()  # in this very turn of the loop, so that nobody but the write can notice

            _, answer = await raw.exchange(POST)
            return answer.status, len(raw.seen)

    assert run(main()) == (200, 2)


def test_what_was_written_on_a_connection_that_was_being_closed_is_never_sent_again(run):
    async def main():
        async with RawUpstream() as raw:
            first, _ = await raw.exchange(POST)
            first.close()  # an end of file, which leaves room to write

            answer = await raw.client.send(POST, timeout=5)
            with pytest.raises(BlockingIOError):
                raw.listener.accept()
            return answer

    answer = run(main())

    assert (answer.phase, answer.unsent) == (Phase.WAIT, False)


def test_an_end_that_came_while_the_process_was_stopped_is_seen_before_anything_is_written(run):
    async def main():
        async with RawUpstream() as raw:
            first, _ = await raw.exchange(POST)
            first.close()
            time.sleep(PEEK_AFTER + 0.01)  # stopped: the loop cannot have looked

            _, answer = await raw.exchange(POST)
            return answer.status

    assert run(main()) == 200


@pytest.mark.parametrize("farewell", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n"])
def test_an_idle_connection_that_is_closed_or_spoken_on_is_not_used_again(run, farewell):
    async def once(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await leave.wait()
        await peer.send(farewell)

    leave = asyncio.Event()

    async def main():
        async with FakeUpstream(once, answering(OK)) as peer:
            client = wire(peer)
            await client.send(GET, timeout=5)
            leave.set()
            await until(lambda: client.idle == 0)
            answer = await client.send(POST, timeout=5)
            await client.aclose()
            return answer.status, peer.accepted

    assert run(main()) == (200, 2)


@pytest.mark.parametrize(
    "answer",
    [
        OK + b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison",
        OK + b"x",
        b"HTTP/1.1 204 No Content\r\n\r\nx",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
    ],
)
def test_a_connection_is_not_used_again_after_an_answer_that_leaves_doubt(run, answer):
    async def main():
        async with FakeUpstream(answering(answer), answering(OK)) as peer:
            client = wire(peer)
            answers = [await client.send(GET, timeout=5) for _ in range(2)]
            await client.aclose()
            return [one.status for one in answers], answers[1].body, peer.accepted

    statuses, body, accepted = run(main())

    assert statuses[0] in (200, 204)
    assert (statuses[1], body, accepted) == (200, b"ok", 2)


def test_a_body_in_the_answer_to_head_is_not_taken_for_the_next_answer(run):
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 44\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

    async def main():
        async with FakeUpstream(answering(poison), answering(OK)) as peer:
            client = wire(peer)
            await client.send(Request("HEAD", b"/"), timeout=5)
            answer = await client.send(GET, timeout=5)
            await client.aclose()
            return answer.body

    assert run(main()) == b"ok"


def test_a_cancelled_exchange_closes_its_connection(run):
    closed = asyncio.Event()
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.gone()
        closed.set()

    async def main():
        async with FakeUpstream(script, answering(OK)) as peer:
            client = wire(peer)
            task = asyncio.ensure_future(client.send(GET, timeout=100))
            await asked.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await closed.wait()
            answer = await client.send(GET, timeout=5)
            await client.aclose()
            return answer.status, peer.accepted

    assert run(main()) == (200, 2)


def test_who_is_cancelled_after_the_answer_does_not_take_the_connection_from_the_next(run):
    async def main():
        async with FakeUpstream(answering(OK)) as peer:
            client = wire(peer, limit=1)
            first = asyncio.ensure_future(client.send(GET, timeout=5))
            second = asyncio.ensure_future(client.send(GET, timeout=5))
            original = client.released

            def and_cancel(connection: Any) -> None:
                original(connection)  # to the second, who goes on before the first is told
                asyncio.get_running_loop().call_soon(first.cancel)
                client.released = original

            client.released = and_cancel
            await asyncio.gather(first, return_exceptions=True)
            answer = await second
            await client.aclose()
            return answer.status, peer.accepted

    assert run(main()) == (200, 1)


def test_an_idle_connection_is_closed_after_its_time(run):
    gone = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(OK)
        await peer.gone()
        gone.set()

    async def main():
        async with FakeUpstream(script) as peer:
            client = wire(peer, keep_alive=0.05)
            await client.send(GET, timeout=5)
            await gone.wait()

    run(main())

"""The wire's own promises: the exact phase of every fault, and its clock; on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from discovery.exchange import Fault, Phase, Response
from gateway.wire import Wire
from gateway.wire_dial import _race, origin_of
from tests.gateway.wire_peer import FakeUpstream, Peer, answering, answering_once
from tests.gateway.wire_world import GET, HUGE, OK, POST, RawUpstream, sent, wire


@pytest.mark.parametrize("dripping", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize(
    ("data", "detail"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Le", "closed"),
        (b"HTTP/1.1 100 Continue\r\n\r\n", "closed"),
        (b"garbage\r\n\r\n", "malformed"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nabc", "101"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!", "where it ends"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2, 3\r\n\r\nok!", "where it ends"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -2\r\n\r\nok!", "where it ends"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "where it ends"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n0\r\n\r\n", "where it ends"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", "gzip"),
        (b"HTTP/1.1 200 OK\r\nX : 1\r\n\r\n", "malformed"),
    ],
)
def test_what_is_no_clear_head_is_a_fault_of_the_head(run, data, detail, dripping):
    answer = run(sent(answering_once(data, dripping)))

    assert isinstance(answer, Fault)
    assert (answer.phase, answer.status) == (Phase.HEAD, None)
    assert detail in answer.detail


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2, 2\r\nX: 1\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX: 1\r\ncontent-length:  2 \r\n\r\nok",
    ],
)
@pytest.mark.parametrize("dripping", [False, True], ids=["at once", "byte by byte"])
def test_lengths_that_agree_are_one(run, data, dripping):
    answer = run(sent(answering_once(data, dripping)))

    assert answer == Response(200, ((b"X", b"1"), (b"Content-Length", b"2")), b"ok", b"OK")


@pytest.mark.parametrize("end", [b"", b"\r\nContent-Length: 0\r\n\r\n"], ids=["endless", "complete"])
def test_a_head_beyond_its_limit_is_a_fault_of_the_head(run, end):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + end)
        await peer.gone()

    answer = run(sent(script))

    assert answer.phase is Phase.HEAD
    assert "larger than 65536" in answer.detail


def test_the_timeout_runs_to_the_complete_head_however_it_drips(run):
    async def script(peer: Peer) -> None:
        await peer.request()
        while True:
            await peer.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            await asyncio.sleep(0.01)

    answer = run(sent(script, timeout=0.2))

    assert (answer.phase, answer.timed_out) == (Phase.HEAD, True)


def test_the_timeout_runs_anew_with_each_part_of_the_body(run):
    async def script(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n")
        for _ in range(8):
            await asyncio.sleep(0.05)
            await peer.send(b"x")

    assert run(sent(script, timeout=0.25)).body == b"x" * 8


@pytest.mark.parametrize("how", ["reset", "silence"])
def test_a_request_that_did_not_leave_whole_is_a_fault_of_writing(run, how):
    async def script(peer: Peer) -> None:
        await peer.head()
        if how == "reset":
            peer.reset()
        else:
            peer.writer.transport.pause_reading()
            await asyncio.Event().wait()

    answer = run(sent(script, HUGE, timeout=0.5))

    assert answer.phase is Phase.WRITE
    assert answer.timed_out == (how == "silence")


def test_an_answer_before_the_request_has_left_whole_is_an_answer_and_ends_the_connection(run):
    async def early(peer: Peer) -> None:
        await peer.head()
        peer.writer.transport.pause_reading()
        await peer.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await asyncio.Event().wait()

    async def main():
        async with FakeUpstream(early, answering(OK)) as peer:
            client = wire(peer)
            answers = [await client.send(HUGE, timeout=5), await client.send(GET, timeout=5)]
            await client.aclose()
            return [answer.status for answer in answers], peer.accepted

    assert run(main()) == ([413, 200], 2)


def test_a_connection_that_is_not_answered_is_a_fault_of_connecting(run):
    with socket.socket() as full, socket.socket() as filling:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filling.connect(full.getsockname())

        async def main():
            client = Wire(origin_of(f"http://127.0.0.1:{full.getsockname()[1]}"), connect_timeout=0.2)
            return await client.send(GET, timeout=5)

        answer = run(main())

    assert (answer.phase, answer.timed_out) == (Phase.CONNECT, True)


def test_a_silent_address_does_not_hold_up_the_next(run):
    async def main(full: socket.socket):
        async with FakeUpstream(answering(OK)) as peer:
            infos = [
                (socket.AF_INET, socket.SOCK_STREAM, 0, "", address)
                for address in (full.getsockname(), ("127.0.0.1", peer.port))
            ]
            won = await _race(infos)
            with won:
                return won.getpeername()[1] == peer.port

    with socket.socket() as full, socket.socket() as filling:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        filling.connect(full.getsockname())

        assert run(main(full))


def test_the_time_for_sending_is_looked_at_by_a_process_that_wakes_from_a_stop(run):
    async def main():
        async with FakeUpstream(answering(OK)) as peer:
            client = wire(peer)
            await client.send(GET, timeout=5)
            not_after = asyncio.get_running_loop().time() + 0.05
            time.sleep(0.06)  # what a stopped process sees when it wakes, still in the same turn
            answer = await client.send(GET, timeout=5, not_after=not_after)
            await client.aclose()
            return answer

    assert run(main()).phase is Phase.UNSENT


def test_bytes_leave_with_the_write_and_not_at_the_end_of_the_turn(run):
    async def main():
        async with RawUpstream() as raw:
            kept, _ = await raw.exchange(GET)

            second = raw.client.send(POST, timeout=5)
            waited_for = second.send(None)  # runs it to its first wait, all within this turn
            arrived = kept.recv(1000)
            second.close()
            assert asyncio.isfuture(waited_for)
            return arrived

    assert run(main()).endswith(b"\r\n\r\nx")

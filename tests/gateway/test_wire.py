"""The wire's own promises: exact phases, its pool, its clock, TLS; on asyncio and on uvloop."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

from discovery.exchange import Fault, Phase, Request, Response
from gateway.streamed import Streamed
from gateway.wire import PEEK_AFTER, Wire
from gateway.wire_dial import _race, origin_of
from gateway.wire_head import compose, forwardable, mend
from tests.gateway.wire_certificates import Authority, authority
from tests.gateway.wire_peer import FakeUpstream, Peer, answering, answering_once

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = Request("GET", b"/")
POST = Request("POST", b"/", (), b"x")
HUGE = Request("POST", b"/", (), b"x" * 40_000_000)
"""More than the sockets' buffers of both sides take."""

Run = Callable[[Coroutine[Any, Any, Any]], Any]


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Run:
    factory = uvloop.new_event_loop if request.param == "uvloop" else asyncio.new_event_loop

    def running(coroutine: Coroutine[Any, Any, Any]) -> Any:
        async def bounded() -> Any:
            async with asyncio.timeout(20):
                return await coroutine

        with asyncio.Runner(loop_factory=factory) as runner:
            return runner.run(bounded())

    return running


def wire(peer: FakeUpstream, **options: Any) -> Wire:
    return Wire(origin_of(peer.url()), **options)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


async def sent(script: Any, request: Request = GET, timeout: float = 5.0) -> Response | Fault:
    async with FakeUpstream(script) as peer:
        client = wire(peer)
        answer = await client.send(request, timeout=timeout)
        await client.aclose()
        return answer


# Phases


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


# Kept connections


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
    seen: list[bytes] = []

    async def main():
        raw = socket.create_server(("127.0.0.1", 0))
        client = Wire(origin_of(f"http://127.0.0.1:{raw.getsockname()[1]}"))
        loop = asyncio.get_running_loop()
        first = asyncio.ensure_future(client.send(POST, timeout=5))
        raw.setblocking(False)
        accepted, _ = await loop.sock_accept(raw)
        seen.append(await loop.sock_recv(accepted, 1000))
        await loop.sock_sendall(accepted, OK)
        await first
        Peer.linger(accepted)
        accepted.close()  # in this very turn of the loop, so that nobody but the write can notice

        second = asyncio.ensure_future(client.send(POST, timeout=5))
        again, _ = await loop.sock_accept(raw)
        seen.append(await loop.sock_recv(again, 1000))
        await loop.sock_sendall(again, OK)
        answer = await second
        await client.aclose()
        again.close()
        raw.close()
        return answer.status

    assert run(main()) == 200
    assert len(seen) == 2


def test_what_was_written_on_a_connection_that_was_being_closed_is_never_sent_again(run):
    async def main():
        raw = socket.create_server(("127.0.0.1", 0))
        client = Wire(origin_of(f"http://127.0.0.1:{raw.getsockname()[1]}"))
        loop = asyncio.get_running_loop()
        first = asyncio.ensure_future(client.send(POST, timeout=5))
        raw.setblocking(False)
        accepted, _ = await loop.sock_accept(raw)
        await loop.sock_recv(accepted, 1000)
        await loop.sock_sendall(accepted, OK)
        await first
        accepted.close()  # an end of file, which leaves room to write

        answer = await client.send(POST, timeout=5)
        await client.aclose()
        raw.setblocking(False)
        with pytest.raises(BlockingIOError):
            raw.accept()
        raw.close()
        return answer

    answer = run(main())

    assert (answer.phase, answer.unsent) == (Phase.WAIT, False)


def test_an_end_that_came_while_the_process_was_stopped_is_seen_before_anything_is_written(run):
    async def main():
        raw = socket.create_server(("127.0.0.1", 0))
        raw.setblocking(False)
        client = Wire(origin_of(f"http://127.0.0.1:{raw.getsockname()[1]}"))
        loop = asyncio.get_running_loop()
        first = asyncio.ensure_future(client.send(POST, timeout=5))
        accepted, _ = await loop.sock_accept(raw)
        await loop.sock_recv(accepted, 1000)
        await loop.sock_sendall(accepted, OK)
        await first
        accepted.close()
        time.sleep(PEEK_AFTER + 0.01)  # stopped: the loop cannot have looked

        second = asyncio.ensure_future(client.send(POST, timeout=5))
        again, _ = await loop.sock_accept(raw)
        await loop.sock_recv(again, 1000)
        await loop.sock_sendall(again, OK)
        answer = await second
        await client.aclose()
        again.close()
        raw.close()
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


# The pool


def test_many_requests_share_a_few_connections(run):
    async def main():
        async with FakeUpstream(answering(OK)) as peer:
            client = wire(peer, limit=4)
            answers = await asyncio.gather(*(client.send(GET, timeout=5) for _ in range(200)))
            await client.aclose()
            return {answer.status for answer in answers}, peer.accepted

    assert run(main()) == ({200}, 4)


def test_who_gets_no_connection_in_time_is_told_so(run):
    async def main():
        async with FakeUpstream(_never) as peer:
            client = wire(peer, limit=1, connect_timeout=0.1)
            first = asyncio.ensure_future(client.send(GET, timeout=5))
            await until(lambda: peer.accepted == 1)
            answer = await client.send(GET, timeout=5)
            first.cancel()
            return answer

    answer = run(main())

    assert (answer.phase, answer.unsent, answer.timed_out) == (Phase.POOL, True, True)


async def _never(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


@pytest.mark.parametrize("ending", ["cancel", "answer", "refused"])
def test_whoever_leaves_the_queue_or_a_connection_leaves_its_place_to_the_next(run, ending):
    go = asyncio.Event()

    async def held(peer: Peer) -> None:
        await peer.request()
        await go.wait()
        if ending == "answer":
            await peer.send(OK)
            await answering(OK)(peer)
        peer.reset()

    async def main():
        async with FakeUpstream(held, answering(OK)) as peer:
            client = wire(peer, limit=1)
            first = asyncio.ensure_future(client.send(GET, timeout=5))
            await until(lambda: peer.accepted == 1)
            impatient = asyncio.ensure_future(client.send(GET, timeout=5))
            patient = asyncio.ensure_future(client.send(GET, timeout=5))
            await asyncio.sleep(0)
            impatient.cancel()
            if ending == "cancel":
                first.cancel()
            go.set()
            answer = await patient
            await asyncio.gather(first, impatient, return_exceptions=True)
            last = await client.send(GET, timeout=5)
            await client.aclose()
            return answer.status, last.status

    assert run(main()) == (200, 200)


@pytest.mark.parametrize("told", ["released", "lost"])
def test_who_is_cancelled_with_a_place_in_hand_passes_it_on(run, told):
    async def script(peer: Peer) -> None:
        await peer.request()
        await go.wait()
        await peer.send(OK if told == "released" else b"")
        if told == "released":
            await answering(OK)(peer)

    go = asyncio.Event()

    async def main():
        async with FakeUpstream(script, answering(OK)) as peer:
            client = wire(peer, limit=1)
            first = asyncio.ensure_future(client.send(GET, timeout=5))
            await until(lambda: peer.accepted == 1)
            impatient = asyncio.ensure_future(client.send(GET, timeout=5))
            await asyncio.sleep(0)
            original = getattr(client, told)

            def and_cancel(connection: Any) -> None:
                original(connection)
                impatient.cancel()

            setattr(client, told, and_cancel)
            go.set()
            await asyncio.gather(first, impatient, return_exceptions=True)
            answer = await client.send(GET, timeout=5)
            await client.aclose()
            return impatient.cancelled(), answer

    cancelled, answer = run(main())

    assert cancelled
    assert isinstance(answer, Response), answer


def test_closing_ends_what_is_going_on_and_refuses_what_comes(run):
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.request()
        asked.set()
        await peer.gone()

    async def main():
        async with FakeUpstream(script) as peer:
            client = wire(peer)
            task = asyncio.ensure_future(client.send(GET, timeout=5))
            await asked.wait()
            await client.aclose()
            return await task, await client.send(GET, timeout=5)

    ended, refused = run(main())

    assert ended.phase is Phase.WAIT
    assert refused.phase is Phase.UNSENT


# Time


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
        raw = socket.create_server(("127.0.0.1", 0))
        raw.setblocking(False)
        client = Wire(origin_of(f"http://127.0.0.1:{raw.getsockname()[1]}"))
        loop = asyncio.get_running_loop()
        first = asyncio.ensure_future(client.send(GET, timeout=5))
        accepted, _ = await loop.sock_accept(raw)
        await loop.sock_recv(accepted, 1000)
        await loop.sock_sendall(accepted, OK)
        await first

        second = client.send(POST, timeout=5)
        waited_for = second.send(None)  # runs it to its first wait, all within this turn
        arrived = accepted.recv(1000)
        second.close()
        assert asyncio.isfuture(waited_for)
        await client.aclose()
        accepted.close()
        raw.close()
        return arrived

    assert run(main()).endswith(b"\r\n\r\nx")


# TLS


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


async def _over_tls(ca: Authority, names: tuple[str, ...], verify: bool | str, host: str = "localhost") -> Any:
    async with FakeUpstream(answering(OK), tls=ca.server(*names)) as peer:
        client = Wire(origin_of(peer.url(host=host), verify))
        answers = [await client.send(POST, timeout=5) for _ in range(3)]
        await client.aclose()
        return answers[-1], peer.accepted


def test_tls_is_verified_against_the_given_ca_and_the_connection_kept(run, ca):
    assert run(_over_tls(ca, ("localhost",), ca.bundle)) == (
        Response(200, ((b"Content-Length", b"2"),), b"ok", b"OK"),
        1,
    )
    assert run(_over_tls(ca, ("127.0.0.1",), ca.bundle, "127.0.0.1"))[0].status == 200


def test_a_certificate_for_another_host_or_of_an_unknown_ca_is_a_fault_of_tls(run, ca):
    wrong_host, _ = run(_over_tls(ca, ("elsewhere.example",), ca.bundle))
    unknown_ca, _ = run(_over_tls(ca, ("localhost",), True))

    assert (wrong_host.phase, unknown_ca.phase) == (Phase.TLS, Phase.TLS)
    assert "localhost" in wrong_host.detail
    assert "self-signed" in unknown_ca.detail or "unable to get local issuer" in unknown_ca.detail


def test_verification_can_be_given_up(run, ca):
    answer, _ = run(_over_tls(ca, ("elsewhere.example",), False))

    assert answer.status == 200


def test_a_handshake_that_is_not_answered_is_a_fault_of_tls(run):
    async def script(peer: Peer) -> None:
        await peer.gone()

    async def main():
        async with FakeUpstream(script) as peer:
            url = peer.url().replace("http:", "https:")
            return await Wire(origin_of(url), connect_timeout=0.2).send(GET, timeout=5)

    answer = run(main())

    assert (answer.phase, answer.timed_out) == (Phase.TLS, True)


def test_a_reset_under_tls_after_writing_is_never_called_unsent(run, ca):
    async def script(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    async def main():
        async with FakeUpstream(script, tls=ca.server("localhost")) as peer:
            client = Wire(origin_of(peer.url(host="localhost"), ca.bundle))
            answer = await client.send(HUGE, timeout=5), await client.send(POST, timeout=5)
            await client.aclose()
            return answer

    huge, small = run(main())

    assert (huge.unsent, small.unsent) == (False, False)
    assert small.phase is Phase.WAIT


# Streams


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
        async with FakeUpstream(_never) as peer:
            client = wire(peer)
            request = Request("POST", b"/", ((b"Content-Length", b"5"),))
            answer = await client.open(request, _slowly(*parts), timeout=1, whole=10)
            await client.aclose()
            return answer

    answer = run(main())

    assert answer.phase is Phase.WRITE
    assert "5 bytes" in answer.detail


# Heads


def test_only_end_to_end_headers_are_forwardable_and_those_unchanged():
    kept = ((b"B", b"1"), (b"a", b"\xe9"), (b"b", b"2"), (b"Proxy-Status", b"x"))
    hop = (
        (b"CONNECTION", b"close, X-One"),
        (b"Connection", b" x-two"),
        (b"x-one", b"1"),
        (b"X-Two", b"1"),
        (b"Keep-Alive", b"timeout=5"),
        (b"TE", b"trailers"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"h2c"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"Proxy-Authorization", b"Bearer x"),
    )

    assert forwardable(kept[:2] + hop + kept[2:]) == kept


@given(
    st.text(st.characters(max_codepoint=255), max_size=8),
    st.binary(max_size=8),
    st.lists(st.tuples(st.binary(max_size=8), st.binary(max_size=8)), max_size=3).map(tuple),
)
def test_a_composed_head_is_one_message_whatever_goes_in(method, target, headers):
    head = compose(Request(method, b"/" + target, headers), b"h", b"", 0)

    if isinstance(head, bytes):
        assert head.endswith(b"\r\n\r\n")
        assert head.count(b"\r\n\r\n") == 1
        assert len(head.split(b"\r\n", 1)[0].split(b" ")) == 3


@pytest.mark.parametrize(
    ("raw", "mended"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n", b""),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n", None),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", None),
        (
            b"HTTP/1.1 200 OK\r\nContent-Length: 2,2\r\n\r\nContent-Length: 9\r\n",
            b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nContent-Length: 9\r\n",
        ),
    ],
)
def test_only_agreeing_lengths_are_mended(raw, mended):
    assert mend(raw) == mended

"""What every upstream promises, whatever carries it: one suite over the wire and over httpx."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from discovery.exchange import Fault, Phase, Request, Response
from gateway.problems import ConfigError
from gateway.streamed import Streamed, StreamingUpstream
from gateway.upstream import open_upstream
from policies.rules import UpstreamRules
from tests.gateway.wire_peer import FakeUpstream, Peer, answering, answering_once

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
GET = Request("GET", b"/")


@pytest.fixture(params=["wire", "httpx"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def upstream(transport: Any, base_url: str, **rules: Any) -> StreamingUpstream:
    return open_upstream(UpstreamRules("peer", base_url, transport=transport, **rules))


def run(coroutine: Any) -> Any:
    async def bounded() -> Any:
        async with asyncio.timeout(20):
            return await coroutine

    return asyncio.run(bounded())


async def exchanged(transport: str, script: Any, request: Request = GET, timeout: float = 5.0) -> Response | Fault:
    async with FakeUpstream(script) as peer:
        client = upstream(transport, peer.url())
        answer = await client.send(request, timeout=timeout)
        await client.aclose()
        return answer


@pytest.mark.parametrize(
    "target",
    [
        b"/a%2Fb//c/../d/./e",
        b"/x?q=%20a+b&z=%7E%e2%82%ac&empty=&&k",
        b"/x?",
        b"/p;v=1/~u/(x)/'q'/[1]?a[]=1|2",
        b"/caf%C3%A9%zz?",
        b"/?next=http://other/%2e%2e/",
        b"//double",
    ],
)
def test_a_target_arrives_behind_the_base_path_byte_for_byte(transport, target):
    seen: list[bytes] = []

    async def main():
        async with FakeUpstream(answering(OK, seen)) as peer:
            client = upstream(transport, peer.url("/v2/"))
            await client.send(Request("GET", target), timeout=5)
            await client.aclose()
            return peer.port

    port = run(main())

    assert seen[0].startswith(b"GET /v2" + target + b" HTTP/1.1\r\nHost: 127.0.0.1:%d\r\n" % port)


def test_headers_arrive_in_order_and_in_case_repeated_and_in_latin_1(transport):
    seen: list[bytes] = []
    headers = (
        (b"Host", b"elsewhere"),
        (b"X-Dup", b"1"),
        (b"accept", b"*/*"),
        (b"x-dup", b"2"),
        (b"X-Name", b"caf\xe9"),
        (b"Connection", b"keep-alive, X-Hop"),
        (b"X-Hop", b"gone"),
        (b"Expect", b"100-continue"),
        (b"Content-Length", b"999"),
        (b"Proxy-Authorization", b"Bearer ours"),
        (b"Transfer-Encoding", b"chunked"),
        (b"X-Long", b"y" * 16000),
    )

    run(exchanged(transport, answering(OK, seen), Request("POST", b"/", headers, b"body")))

    head, _, body = seen[0].partition(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert body == b"body"
    assert lines[2:] == [
        b"X-Dup: 1",
        b"accept: */*",
        b"x-dup: 2",
        b"X-Name: caf\xe9",
        b"Content-Length: 4",
        b"X-Long: " + b"y" * 16000,
    ]


@pytest.mark.parametrize(
    ("method", "body", "length"),
    [
        ("GET", b"", None),
        ("DELETE", b"", None),
        ("POST", b"", b"0"),
        ("PUT", b"", b"0"),
        ("PATCH", b"", b"0"),
        ("GET", b"{}", b"2"),
        ("PROPFIND", b"<x/>", b"4"),
    ],
)
def test_a_length_is_said_once_where_a_body_is_or_is_expected(transport, method, body, length):
    seen: list[bytes] = []

    run(exchanged(transport, answering(OK, seen), Request(method, b"/", (), body)))

    said = [line[16:] for line in seen[0].split(b"\r\n") if line.lower().startswith(b"content-length:")]
    assert said == ([] if length is None else [length])
    assert b"transfer-encoding" not in seen[0].lower()


ANSWERS = {
    "a body with a length": (OK, 200, b"ok"),
    "no reason phrase": (b"HTTP/1.1 200 \r\nContent-Length: 0\r\n\r\n", 200, b""),
    "100 and 103 before it": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + OK,
        200,
        b"ok",
    ),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "304 with a length": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", 304, b""),
    "chunks, extensions and trailers": (
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
        b"3;a=b\r\nabc\r\n2\r\nde\r\n0\r\nX-T: 1\r\n\r\n",
        200,
        b"abcde",
    ),
    "a body until the end": (b"HTTP/1.1 200 OK\r\n\r\nuntil the end", 200, b"until the end"),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nold", 200, b"old"),
    "gzip left as it is": (
        b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00",
        200,
        b"\x1f\x8b\x08\x00",
    ),
    "agreeing lengths": (b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 2\r\n\r\nok", 200, b"ok"),
    "a redirect": (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", 302, b""),
    "an early refusal": (b"HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx", 413, b"x"),
}


@pytest.mark.parametrize("dripping", [False, True], ids=["at once", "byte by byte"])
@pytest.mark.parametrize("name", ANSWERS)
def test_an_answer_is_understood_however_it_is_cut(transport, name, dripping):
    data, status, body = ANSWERS[name]

    answer = run(exchanged(transport, answering_once(data, dripping)))

    assert isinstance(answer, Response), answer
    assert (answer.status, answer.body) == (status, body)


def test_an_answers_headers_are_kept_but_for_those_of_the_hop(transport):
    data = (
        b"HTTP/1.1 200 Fine\r\nSet-Cookie: a=1\r\nX-Name: caf\xe9\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\n"
        b"Keep-Alive: timeout=5\r\nSet-Cookie: b=2\r\nContent-Length: 0\r\n\r\n"
    )

    answer = run(exchanged(transport, answering(data)))

    assert answer == Response(
        200,
        ((b"Set-Cookie", b"a=1"), (b"X-Name", b"caf\xe9"), (b"Set-Cookie", b"b=2"), (b"Content-Length", b"0")),
        b"",
        b"Fine",
    )


def test_the_answer_to_head_has_a_length_and_no_body_and_leaves_the_connection_usable(transport):
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"

    async def main():
        async with FakeUpstream(answering(data)) as peer:
            client = upstream(transport, peer.url())
            answers = [await client.send(Request("HEAD", b"/"), timeout=5) for _ in range(2)]
            await client.aclose()
            return answers, peer.accepted

    answers, accepted = run(main())

    assert answers == [Response(200, ((b"Content-Length", b"1000"),), b"", b"OK")] * 2
    assert accepted == 1


def test_an_answer_of_16_kb_of_headers_is_taken(transport):
    answer = run(
        exchanged(
            transport, answering(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 16384 + b"\r\nContent-Length: 0\r\n\r\n")
        )
    )

    assert isinstance(answer, Response), answer
    assert len(answer.header(b"x") or b"") == 16384


def test_connections_are_kept_and_used_again(transport):
    async def main():
        async with FakeUpstream(answering(OK)) as peer:
            client = upstream(transport, peer.url())
            for _ in range(5):
                assert isinstance(await client.send(GET, timeout=5), Response)
            await client.aclose()
            return peer.accepted

    assert run(main()) == 1


# Faults


def test_a_name_that_does_not_resolve_is_a_fault_of_the_name(transport):
    async def main():
        client = upstream(transport, "http://nowhere.invalid/", connect_timeout=15.0)
        answer = await client.send(GET, timeout=5)
        await client.aclose()
        return answer

    answer = run(main())

    assert isinstance(answer, Fault)
    assert (answer.phase, answer.unsent) == (Phase.NAME, True)


def test_a_refused_connection_is_a_fault_of_connecting(transport):
    async def main():
        async with FakeUpstream(answering(OK)) as peer:
            url = peer.url()
        client = upstream(transport, url)
        answer = await client.send(GET, timeout=5)
        await client.aclose()
        return answer

    assert run(main()).phase is Phase.CONNECT


def test_an_upstream_that_speaks_no_tls_is_a_fault_of_tls(transport):
    async def shouting(peer: Peer) -> None:
        await peer.reader.read(10)
        await peer.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    async def main():
        async with FakeUpstream(shouting) as peer:
            client = upstream(transport, peer.url().replace("http:", "https:"))
            return await client.send(GET, timeout=5)

    assert run(main()).phase is Phase.TLS


async def _silent(peer: Peer) -> None:
    await peer.request()
    await peer.gone()


def test_an_upstream_that_says_nothing_is_waited_for_and_then_a_fault(transport):
    answer = run(exchanged(transport, _silent, timeout=0.2))

    assert (answer.phase, answer.timed_out) == (Phase.WAIT, True)


def test_a_reset_before_the_answer_is_a_fault_of_waiting(transport):
    async def resetting(peer: Peer) -> None:
        await peer.request()
        peer.reset()

    answer = run(exchanged(transport, resetting, Request("POST", b"/", (), b"x")))

    assert (answer.phase, answer.unsent) == (Phase.WAIT, False)


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_a_body_that_breaks_off_is_a_fault_of_the_body_with_its_status(transport, data):
    answer = run(exchanged(transport, answering_once(data)))

    assert isinstance(answer, Fault)
    assert (answer.phase, answer.status) == (Phase.BODY, 200)


@pytest.mark.parametrize(
    "data",
    [
        b"garbage\r\n\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\nok!",
        b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
    ],
)
def test_a_malformed_head_is_no_answer_and_the_effect_unknown(transport, data):
    answer = run(exchanged(transport, answering_once(data)))

    assert isinstance(answer, Fault)
    assert answer.phase in (Phase.WAIT, Phase.HEAD)


def test_a_body_that_stalls_is_a_fault_of_the_body(transport):
    async def stalling(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc")
        await peer.gone()

    answer = run(exchanged(transport, stalling, timeout=0.2))

    assert (answer.phase, answer.status, answer.timed_out) == (Phase.BODY, 200, True)


def test_a_body_beyond_the_limit_is_a_fault_of_the_body(transport):
    async def main():
        async with FakeUpstream(answering(OK)) as peer:
            client = upstream(transport, peer.url(), body_limit=1)
            answer = await client.send(GET, timeout=5)
            await client.aclose()
            return answer

    answer = run(main())

    assert (answer.phase, answer.status) == (Phase.BODY, 200)
    assert "larger than 1 bytes" in answer.detail


def test_no_byte_leaves_after_its_time(transport):
    seen: list[bytes] = []

    async def main():
        async with FakeUpstream(answering(OK, seen)) as peer:
            client = upstream(transport, peer.url())
            await client.send(GET, timeout=5)  # so that a kept connection is there
            late = await client.send(GET, timeout=5, not_after=asyncio.get_running_loop().time() - 0.01)
            again = await client.send(GET, timeout=5, not_after=asyncio.get_running_loop().time() + 5)
            await client.aclose()
            return late, again

    late, again = run(main())

    assert (late.phase, late.unsent) == (Phase.UNSENT, True)
    assert again.status == 200
    assert len(seen) == 2


@pytest.mark.parametrize(
    "request_",
    [
        Request("GET", b"/a b"),
        Request("GET", b"/a\r\nX: 1"),
        Request("GET", b"http://elsewhere/"),
        Request("GET", b"*"),
        Request("GET", b"/", ((b"X", b"1\r\nY: 2"),)),
        Request("GET", b"/", ((b"X", b"1\nY: 2"),)),
        Request("GET", b"/", ((b"X\r\nY", b"1"),)),
        Request("GET", b"/", ((b"X", b"\0"),)),
        Request("GE T", b"/"),
        Request("", b"/"),
    ],
)
def test_a_request_that_would_become_another_message_is_not_sent(transport, request_):
    seen: list[bytes] = []

    answer = run(exchanged(transport, answering(OK, seen), request_))

    assert answer.phase is Phase.UNSENT
    assert seen == []


# Streams


async def _parts(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def _all(answer: Streamed) -> tuple[bytes, Fault | None]:
    body, fault = b"", None
    async with answer:
        async for part in answer:
            if isinstance(part, Fault):
                fault = part
            else:
                body += part
    return body, fault


def test_a_small_answer_comes_whole_and_a_larger_one_as_a_stream_that_lacks_nothing(transport):
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nabcdef"

    async def main(whole: int):
        async with FakeUpstream(answering(data)) as peer:
            client = upstream(transport, peer.url())
            answer = await client.open(GET, timeout=5, whole=whole)
            got = await _all(answer) if isinstance(answer, Streamed) else answer.body
            await client.aclose()
            return got

    assert run(main(whole=6)) == b"abcdef"
    assert run(main(whole=5)) == (b"abcdef", None)
    assert run(main(whole=0)) == (b"abcdef", None)


def test_an_event_stream_is_handed_over_at_its_head_and_its_parts_as_they_come(transport):
    asked = asyncio.Event()

    async def events(peer: Peer) -> None:
        await peer.request()
        await peer.send(b"HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n\r\n")
        await asked.wait()
        await peer.send(b"data: 1\n\n")

    async def main():
        async with FakeUpstream(events) as peer:
            client = upstream(transport, peer.url())
            answer = await client.open(GET, timeout=5, whole=10**6)
            assert isinstance(answer, Streamed)
            asked.set()
            got = await _all(answer)
            await client.aclose()
            return answer.status, got

    assert run(main()) == (200, (b"data: 1\n\n", None))


def test_a_stream_that_breaks_off_ends_in_a_fault(transport):
    data = b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc"

    async def main():
        async with FakeUpstream(answering_once(data)) as peer:
            client = upstream(transport, peer.url())
            answer = await client.open(GET, timeout=5)
            assert isinstance(answer, Streamed)
            got = await _all(answer)
            await client.aclose()
            return got

    body, fault = run(main())

    assert body == b"abc"
    assert fault is not None
    assert (fault.phase, fault.status) == (Phase.BODY, 200)


@pytest.mark.parametrize(
    ("headers", "framing", "body"),
    [
        ((), b"Transfer-Encoding: chunked", b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"),
        (((b"Content-Length", b"5"),), b"Content-Length: 5", b"abcde"),
    ],
)
def test_a_streamed_request_keeps_its_length_or_goes_in_chunks(transport, headers, framing, body):
    seen: list[bytes] = []

    async def main():
        async with FakeUpstream(answering(OK, seen)) as peer:
            client = upstream(transport, peer.url())
            answer = await client.open(
                Request("POST", b"/", headers), _parts(b"abc", b"", b"de"), timeout=5, whole=100
            )
            await client.aclose()
            return answer

    assert run(main()).body == b"ok"
    head, _, sent = seen[0].partition(b"\r\n\r\n")
    assert head.split(b"\r\n")[2:] == [framing]
    assert sent == body


def test_a_streamed_request_whose_source_fails_is_a_fault_of_writing(transport):
    async def failing() -> AsyncIterator[bytes]:
        yield b"abc"
        raise ValueError("the caller went away")

    async def main():
        async with FakeUpstream(_silent) as peer:
            client = upstream(transport, peer.url())
            answer = await client.open(Request("POST", b"/"), failing(), timeout=5, whole=100)
            await client.aclose()
            return answer

    answer = run(main())

    assert answer.phase is Phase.WRITE
    assert "the caller went away" in answer.detail


# Choosing


@pytest.mark.parametrize(
    "base_url",
    [
        "ftp://h/",
        "h:80",
        "http://",
        "http:///x",
        "http://user:secret@h/",
        "http://h/?q",
        "http://h/#f",
        "http://h:x/",
        "http://h/é",
        "http://h/a b",
        "",
    ],
)
def test_a_base_url_that_is_none_is_a_config_error(transport, base_url):
    with pytest.raises(ConfigError):
        upstream(transport, base_url)


def test_a_missing_ca_bundle_is_a_config_error(transport):
    with pytest.raises(ConfigError):
        upstream(transport, "https://h/", verify="/nowhere/ca.pem")


def test_a_transport_of_the_users_own_is_asked_and_its_errors_are_named():
    async def handle(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/v1/refused":
            raise httpx.ConnectError("no")
        if request.url.path == "/v1/odd":
            raise ValueError("odd")
        return httpx.Response(201, headers=[("A", "1"), ("a", "2")], content=await request.aread())

    async def main():
        rules = UpstreamRules("own", "http://own/v1")
        client = open_upstream(rules, httpx.MockTransport(handle))
        return [
            await client.send(Request("POST", target, (), b"echo"), timeout=5)
            for target in (b"/x", b"/refused", b"/odd")
        ]

    answer, refused, odd = run(main())

    assert (answer.status, answer.body) == (201, b"echo")
    assert answer.headers[:2] == ((b"A", b"1"), (b"a", b"2"))
    assert (refused.phase, refused.unsent) == (Phase.CONNECT, True)
    assert (odd.phase, odd.unsent) == (Phase.WAIT, False)

"""HTTP/2 upstreams, by `transport = "httpx"`, against a server that speaks nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest

from discovery.exchange import Fault, Phase, Request, Response
from gateway.upstream import open_upstream
from policies.rules import UpstreamRules
from tests.gateway.h2_upstream import H2Session, H2Upstream, Stream
from tests.gateway.wire_certificates import Authority, authority

POST = Request("POST", b"/x", (), b"{}")


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return authority(tmp_path_factory.mktemp("ca"))


async def sent(
    ca: Authority, answer: Callable[[H2Session, Stream], None], *requests: Request
) -> tuple[list[Any], list[H2Session]]:
    """Send all requests at once; return their answers, and the connections they took."""
    async with H2Upstream(ca.server("localhost"), answer) as server:
        rules = UpstreamRules("up", f"{server.url}/v2", transport="httpx", verify=ca.bundle)
        upstream = open_upstream(rules)
        answers = await asyncio.gather(*(upstream.send(request, timeout=5) for request in requests))
        await upstream.aclose()
        return answers, server.sessions


def test_a_request_and_its_answer_keep_their_bytes(run, ca):
    headers = ((b"X-A", b"1"), (b"Connection", b"close, x-hop"), (b"x-hop", b"1"), (b"x-a", b"2"))
    asked = Request("PUT", b"/a%2Fb//c;d?q=%20+", headers, b"\x00body")

    def answer(session: H2Session, stream: Stream) -> None:
        session.reply(stream, 299, [(b"x-b", b"1"), (b"set-cookie", b"a"), (b"x-b", b"2")], b"\xffdone")

    [answered], [session] = run(sent(ca, answer, asked))
    [arrived] = session.streams.values()

    assert answered == Response(299, ((b"x-b", b"1"), (b"set-cookie", b"a"), (b"x-b", b"2")), b"\xffdone")
    pseudo = {name: value for name, value in arrived.headers if name.startswith(b":")}
    assert (pseudo[b":method"], pseudo[b":path"]) == (b"PUT", b"/v2/a%2Fb//c;d?q=%20+")
    assert [(n, v) for n, v in arrived.headers if n not in pseudo] == [
        (b"x-a", b"1"),
        (b"x-a", b"2"),
        (b"content-length", b"5"),
    ]
    assert arrived.body == b"\x00body"


def test_bodies_beyond_every_window_pass_in_both_directions(run, ca):
    large = bytes(range(256)) * 2000

    def answer(session: H2Session, stream: Stream) -> None:
        session.reply(stream, 200, [], bytes(stream.body)[::-1])

    [answered], _ = run(sent(ca, answer, Request("POST", b"/", (), large)))

    assert answered.body == large[::-1]


def test_many_requests_share_a_connection_and_get_their_own_answers(run, ca):
    def answer(session: H2Session, stream: Stream) -> None:
        session.reply(stream, 200, [], bytes(stream.body))

    requests = [Request("POST", b"/", (), b"%d" % n) for n in range(20)]

    answers, sessions = run(sent(ca, answer, *requests))

    assert [answer.body for answer in answers] == [request.body for request in requests]
    assert len(sessions) == 1


def reset(session: H2Session, stream: Stream) -> None:
    session.h2.reset_stream(stream.id)


def go_away(session: H2Session, stream: Stream) -> None:
    session.h2.close_connection(last_stream_id=stream.id)


def hang_up(session: H2Session, stream: Stream) -> None:
    session.transport.abort()


def break_off(session: H2Session, stream: Stream) -> None:
    session.h2.send_headers(stream.id, [(b":status", b"200"), (b"content-length", b"9")])
    session.h2.send_data(stream.id, b"part")
    session.h2.reset_stream(stream.id)


@pytest.mark.parametrize(
    ("how", "phase"), [(reset, Phase.WAIT), (go_away, Phase.WAIT), (hang_up, Phase.WAIT), (break_off, Phase.BODY)]
)
def test_a_request_that_got_no_whole_answer_is_sent_once_and_never_called_unsent(run, ca, how, phase):
    [fault], sessions = run(sent(ca, how, POST))

    assert isinstance(fault, Fault)
    assert (fault.phase, fault.unsent) == (phase, False)
    assert sum(len(session.streams) for session in sessions) == 1

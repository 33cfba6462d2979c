"""The door over HTTP, byte by byte: what a caller writes reaches the upstream, what it answers comes back."""

from __future__ import annotations

import contextlib
import gzip
import json
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import pytest

from gateway.server import background
from gateway.settings import load
from tests.gateway.raw import OK, RawUpstream, connected, read_answer, read_to_end, read_until
from tests.hostile.serving import until

CONFIG = """
listen = "127.0.0.1:0"
data = "{data}"
store.url = "{store}"
upstreams.up.base_url = "{url}/base"
upstreams.small = {{ base_url = "{url}/small", body_limit = 1000 }}
upstreams.strict = {{ base_url = "{url}/strict", require_key = true }}
upstreams.nobody.base_url = "http://127.0.0.1:1"
"""

numbers = count()


@dataclass(frozen=True)
class Door:
    """A gateway on a port, with a raw upstream behind it."""

    port: int
    upstream: RawUpstream

    def ask(self, request: bytes) -> bytes:
        """Send bytes on a connection of their own; return all that comes until the gateway closes it."""
        with connected(self.port) as caller:
            caller.sendall(request)
            return read_to_end(caller)

    def asked(self, target: bytes = b"/up/x", *headers: bytes, method: bytes = b"GET", body: bytes = b"") -> bytes:
        """Ask in good form, once; return the whole answer."""
        if body or method == b"POST":
            headers += (b"Content-Length: %d" % len(body),)
        head = b"\r\n".join([method + b" " + target + b" HTTP/1.1", b"Host: g", *headers, b"Connection: close"])
        return self.ask(head + b"\r\n\r\n" + body)

    def arrived(self) -> tuple[bytes, list[bytes], bytes]:
        """Return request line, header lines and body of the only request the upstream has seen."""
        [request] = self.upstream.seen
        head, _, body = request.partition(b"\r\n\r\n")
        line, *headers = head.split(b"\r\n")
        return line, headers, body


@pytest.fixture(scope="module")
def gateway(engine_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    home = tmp_path_factory.mktemp("door")
    upstream = RawUpstream()
    (home / "gimbal.toml").write_text(CONFIG.format(data=home, store=engine_url, url=upstream.url))
    with background(load(Path(home / "gimbal.toml"))) as url:
        yield Door(int(url.rpartition(":")[2]), upstream)
    upstream.close()


@pytest.fixture
def door(gateway: Door) -> Door:
    gateway.upstream.answering(OK)
    return gateway


def a_step(name: str = "s") -> tuple[bytes, ...]:
    """Headers of a step nobody else has."""
    return b"Workflow-Id: w-%d" % next(numbers), b"Workflow-Step: " + name.encode()


def status_of(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


def head_of(answer: bytes) -> list[bytes]:
    """Return the lines of an answer's head, names in lower case."""
    lines = [line.partition(b":") for line in answer.partition(b"\r\n\r\n")[0].split(b"\r\n")[1:]]
    return [name.lower() + colon + value for name, colon, value in lines]


def body_of(answer: bytes) -> bytes:
    return answer.partition(b"\r\n\r\n")[2]


def ours_left_out(headers: list[bytes]) -> list[bytes]:
    return [line for line in headers if not line.startswith((b"gimbal-", b"connection:"))]


# What a caller writes


@pytest.mark.parametrize(
    "target",
    [
        b"/",
        b"/?",
        b"/x?",
        b"/x??",
        b"/a%2Fb//c/../d/./e",
        b"//double//slash/",
        b"/x?q=%20a+b&z=%7E%e2%82%ac&empty=&&k",
        b"/p;v=1/~u/(x)/'q'/[1]?a[]=1|2",
        b"/caf%C3%A9%zz?",
        b"/%2e%2e/%00/%",
        b'/x?json={"a":[1,2]}',
        b"/up/up/-/health",
        b"/x?next=http://elsewhere/",
    ],
)
def test_a_target_arrives_as_it_was_written(door, target):
    answer = door.asked(b"/up" + target)

    assert status_of(answer) == 200
    assert door.arrived()[0] == b"GET /base" + target + b" HTTP/1.1"


@pytest.mark.parametrize(("target", "arrives"), [(b"/up", b"/base/"), (b"/up?a=1", b"/base/?a=1")])
def test_an_upstream_without_a_path_is_its_root(door, target, arrives):
    door.asked(target)

    assert door.arrived()[0] == b"GET " + arrives + b" HTTP/1.1"


def test_headers_arrive_in_order_repeated_and_as_bytes(door):
    door.asked(
        b"/up/x",
        b"X-One: 1",
        b"x-dup: a",
        b"X-Two: caf\xe9",
        b"X-DUP: b",
        b"Accept: a/b, c/d;q=0.5",
        b"X-Empty:",
        b"x-dup: a",
        b"Cookie: a=1; b=2",
    )

    assert door.arrived()[1][1:] == [
        b"x-one: 1",
        b"x-dup: a",
        b"x-two: caf\xe9",
        b"x-dup: b",
        b"accept: a/b, c/d;q=0.5",
        b"x-empty: ",
        b"x-dup: a",
        b"cookie: a=1; b=2",
    ]


def test_the_host_is_the_upstreams_and_nothing_else_is_added(door):
    door.asked()

    _, headers, _ = door.arrived()
    assert headers == [b"Host: " + door.upstream.url.removeprefix("http://").encode()]


EVERY_BYTE = bytes(range(256)) * 3


@pytest.mark.parametrize("step", [(), None], ids=["unidentified", "a step"])
def test_a_body_arrives_byte_for_byte(door, step):
    door.asked(b"/up/x", *(a_step() if step is None else step), method=b"POST", body=EVERY_BYTE)

    assert door.arrived()[2] == EVERY_BYTE


def test_a_chunked_body_arrives_whole_without_extensions_or_trailers(door):
    door.ask(
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        b"5;a=b\r\nhello\r\n1\r\n,\r\n6\r\n world\r\n0\r\nX-T: 1\r\n\r\n"
    )

    _, headers, body = door.arrived()
    assert body == b"hello, world"
    assert [line for line in headers if not line.startswith(b"Host")] == [b"Content-Length: 12"]


def test_sixteen_kilobytes_of_headers_pass(door):
    lines = [b"X-%d: " % number + b"v" * 1000 for number in range(16)]

    door.asked(b"/up/x", *lines)

    assert door.arrived()[1][1:] == [line.replace(b"X-", b"x-") for line in lines]


@pytest.mark.parametrize("shape", ["one", "many", "endless"])
def test_a_head_beyond_its_limit_is_refused(door, shape):
    with connected(door.port) as caller:
        match shape:
            case "one":
                caller.sendall(b"GET /up/x HTTP/1.1\r\nHost: g\r\nX: " + b"v" * 70_000 + b"\r\n\r\n")
            case "many":
                caller.sendall(b"GET /up/x HTTP/1.1\r\nHost: g\r\n" + b"X: v\r\n" * 20_000 + b"\r\n")
            case "endless":
                with contextlib.suppress(ConnectionError):  # it need not listen to the end
                    caller.sendall(b"GET /up/x HTTP/1.1\r\nHost: g\r\nX: " + b"v" * 1_000_000)
        with contextlib.suppress(ConnectionError):
            assert status_of(caller.recv(65536)) == 431

    assert door.upstream.seen == []


@pytest.mark.parametrize(
    "request_",
    [
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nContent-Length: 1, 2\r\n\r\nab",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nContent-Length: -1\r\n\r\n",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nContent-Length: +1\r\n\r\na",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nContent-Length: 0x1\r\n\r\na",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nContent-Length: 1_0\r\n\r\naaaaaaaaaa",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nContent-Length: 99999999999999999999\r\n\r\na",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: identity\r\n\r\n",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n",
        b"GET /up/x HTTP/1.1\r\nHost: g\r\nX: a\r\n b\r\n\r\n",
        b"GET /up/x HTTP/1.1\nHost: g\n\n",
        b"GET /up/x HTTP/1.1\r\nHost: g\r\nX: a\nY: b\r\n\r\n",
        b"GET /up/x HTTP/1.1\r\nHost: g\r\nX: a\rY: b\r\n\r\n",
        b"GET /up/x HTTP/1.1\r\nHost: g\r\nX: a\0b\r\n\r\n",
        b"GET /up/x HTTP/1.1\r\nHost: g\r\nX Y: a\r\n\r\n",
        b"GET /up/x y HTTP/1.1\r\nHost: g\r\n\r\n",
        b"GET /up/x\x01 HTTP/1.1\r\nHost: g\r\n\r\n",
        b"GET /up/x HTTP/2.7\r\nHost: g\r\n\r\n",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n\r\n",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n\r\n",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n1\nab\r\n0\r\n\r\n",
        b"POST /up/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nab\r\n0\r\n\r\n",
        b"CONNECT elsewhere:443 HTTP/1.1\r\nHost: elsewhere:443\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    ],
)
def test_what_could_be_read_in_two_ways_is_refused_and_nothing_is_sent(door, request_):
    hidden = b"GET /up/hidden HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n"

    answer = door.ask(request_ + hidden)

    assert 400 <= status_of(answer) < 500
    assert answer.count(b"HTTP/1.1 ") == 1
    assert door.upstream.seen == []


def test_headers_that_end_at_this_hop_go_no_further(door):
    door.asked(
        b"/up/x",
        b"TE: trailers",
        b"Keep-Alive: timeout=5",
        b"Upgrade: h2c",
        b"Proxy-Connection: keep-alive",
        b"Proxy-Authorization: Bearer x",
        b"X-Kept: 1",
        b"Connection: X-Named, upgrade",
        b"X-Named: 1",
    )

    assert door.arrived()[1][1:] == [b"x-kept: 1"]


def test_control_headers_never_reach_the_upstream_and_what_is_not_ours_of_prefer_does(door):
    door.asked(
        b"/up/x",
        b"Workflow-Id: w",
        b"Workflow-Type: t",
        b"Workflow-Step: s",
        b"Workflow-Run: r",
        b"Workflow-Progress: 1/2",
        b"Prefer: wait=7, return=minimal",
        b"Prefer: respond-async",
        b"Idempotency-Key: mine",
        b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    )

    assert door.arrived()[1][1:] == [
        b"prefer: return=minimal",
        b"idempotency-key: mine",
        b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    ]


# What the upstream answers


@pytest.mark.parametrize("step", [False, True], ids=["unidentified", "a step"])
def test_an_answer_comes_back_in_order_repeated_and_as_bytes(door, step):
    body = gzip.compress(b"hello")
    door.upstream.answering(
        b"HTTP/1.1 201 Made\r\nSet-Cookie: a=1\r\nX-Z: caf\xe9\r\nset-cookie: b=2\r\nContent-Encoding: gzip\r\n"
        b"Date: Thu, 01 Jan 1970 00:00:00 GMT\r\nServer: s/1\r\nContent-Length: %d\r\n\r\n" % len(body) + body
    )

    answer = door.asked(b"/up/x", *(a_step() if step else ()), method=b"POST", body=b"x")

    assert status_of(answer) == 201
    assert ours_left_out(head_of(answer)) == [
        b"set-cookie: a=1",
        b"x-z: caf\xe9",
        b"set-cookie: b=2",
        b"content-encoding: gzip",
        b"date: Thu, 01 Jan 1970 00:00:00 GMT",
        b"server: s/1",
        b"content-length: %d" % len(body),
    ]
    assert body_of(answer) == body


def test_a_chunked_answer_comes_back_whole(door):
    door.upstream.answering(
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-T\r\n\r\n"
        b"5;x=1\r\nhello\r\n7\r\n, world\r\n0\r\nX-T: 1\r\n\r\n"
    )

    answer = door.asked()

    assert body_of(answer) == b"hello, world"
    assert ours_left_out(head_of(answer)) == [b"content-length: 12"]


def test_an_answer_that_ends_with_its_connection_comes_back_whole(door):
    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\nall of it")
        raise EOFError

    door.upstream.answering(script)

    assert body_of(door.asked()) == b"all of it"


@pytest.mark.parametrize(
    ("method", "answer", "headers"),
    [
        ("HEAD", b"HTTP/1.1 200 OK\r\nContent-Length: 77\r\nX-A: 1\r\n\r\n", {"Content-Length": "77", "X-A": "1"}),
        ("GET", b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n", {"X-A": "1"}),
        ("GET", b'HTTP/1.1 304 Not Modified\r\nETag: "e"\r\nContent-Length: 77\r\n\r\n', {"ETag": '"e"'}),
        ("GET", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", {"Content-Length": "0"}),
    ],
)
def test_an_answer_without_a_body_leaves_the_connection_in_order(door, method, answer, headers):
    door.upstream.answering(answer)

    with connected(door.port) as caller:
        caller.sendall(b"%s /up/x HTTP/1.1\r\nHost: g\r\n\r\n" % method.encode())
        status, told, body = read_answer(caller, method)
        door.upstream.answering(OK)
        caller.sendall(b"GET /up/y HTTP/1.1\r\nHost: g\r\n\r\n")
        after = read_answer(caller)

    assert (status, body) == (status_of(answer), b"")
    assert {name: value for name, value in told if not name.startswith("gimbal-")} == headers
    assert (after[0], after[2]) == (200, b"ok")


def test_interim_answers_end_at_this_hop(door):
    door.upstream.answering(
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n"
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nfinal"
    )

    answer = door.asked()

    assert answer.count(b"HTTP/1.1") == 1
    assert body_of(answer) == b"final"


@pytest.mark.parametrize("status", [200, 207, 226, 299, 301, 302, 307, 418, 451, 499, 599, 600, 799, 999])
def test_any_status_comes_back_as_it_is_and_no_redirect_is_followed(door, status):
    door.upstream.answering(b"HTTP/1.1 %d Odd\r\nLocation: /elsewhere\r\nContent-Length: 2\r\n\r\nok" % status)

    answer = door.asked(b"/up/x", b"Prefer: wait=0")

    assert status_of(answer) == status
    assert body_of(answer) == b"ok"
    assert b"location: /elsewhere" in head_of(answer)


def test_headers_that_end_at_this_hop_come_no_further_back(door):
    door.upstream.answering(
        b"HTTP/1.1 200 OK\r\nConnection: X-Named\r\nX-Named: 1\r\nKeep-Alive: timeout=5\r\nUpgrade: h2c\r\n"
        b"Proxy-Authenticate: Basic\r\nX-Kept: 1\r\nContent-Length: 2\r\n\r\nok"
    )

    assert ours_left_out(head_of(door.asked())) == [b"x-kept: 1", b"content-length: 2"]


# Connections


def test_a_connection_is_kept_and_its_answers_come_in_order_however_the_requests_arrive(door):
    def script(connection: socket.socket, request: bytes) -> None:
        body = request.split(b" ")[1]
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)

    door.upstream.answering(script)

    with connected(door.port) as caller:
        caller.sendall(
            b"GET /up/1 HTTP/1.1\r\nHost: g\r\n\r\n"
            b"POST /up/2 HTTP/1.1\r\nHost: g\r\nContent-Length: 3\r\n\r\nabc"
            b"GET /up/3 HTTP/1.1\r\nHost: g\r\n\r\n"
        )
        pipelined = [read_answer(caller)[2] for _ in range(3)]
        caller.sendall(b"GET /up/4 HTTP/1.1\r\nHost: g\r\n\r\n")
        kept = read_answer(caller)[2]

    assert [*pipelined, kept] == [b"/base/1", b"/base/2", b"/base/3", b"/base/4"]


def test_an_old_caller_is_answered_and_its_connection_closed(door):
    answer = door.ask(b"GET /up/x HTTP/1.0\r\n\r\n")

    assert status_of(answer) == 200
    assert body_of(answer) == b"ok"


def test_who_waits_to_be_told_to_continue_is_told(door):
    with connected(door.port) as caller:
        caller.sendall(b"POST /up/x HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
        interim = read_until(caller, b"\r\n\r\n")
        caller.sendall(b"hello")
        status, _, _ = read_answer(caller)

    assert interim.startswith(b"HTTP/1.1 100")
    assert status == 200
    _, headers, body = door.arrived()
    assert body == b"hello"
    assert not any(line.lower().startswith(b"expect") for line in headers)


def test_who_waits_to_be_told_to_continue_is_refused_before_it_sends_what_is_too_large(door):
    with connected(door.port) as caller:
        head = b"POST /small/x HTTP/1.1\r\nHost: g\r\nExpect: 100-continue\r\nContent-Length: 5000\r\n%s\r\n\r\n"
        caller.sendall(head % b"\r\n".join(a_step()))
        status, _, _ = read_answer(caller)

    assert status == 413
    assert door.upstream.seen == []


def test_a_wish_to_upgrade_is_not_heard(door):
    answer = door.asked(b"/up/x", b"Upgrade: websocket", b"Connection: Upgrade", method=b"POST", body=b"hello")

    assert status_of(answer) == 200
    assert door.arrived()[2] == b"hello"


# Large and long


LARGE = bytes(range(256)) * 20_000


@pytest.mark.parametrize("framing", ["declared", "chunked"])
def test_a_large_body_without_identity_passes_through(door, framing):
    if framing == "declared":
        answer = door.asked(b"/small/x", method=b"POST", body=LARGE)
    else:
        head = b"POST /small/x HTTP/1.1\r\nHost: g\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
        parts = [LARGE[at : at + 100_000] for at in range(0, len(LARGE), 100_000)]
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in parts)
        answer = door.ask(head + chunks + b"0\r\n\r\n")

    assert status_of(answer) == 200
    _, headers, body = door.arrived()
    if any(line.lower() == b"transfer-encoding: chunked" for line in headers):
        body = dechunked(body)
    assert body == LARGE


def test_a_large_body_that_breaks_off_is_seen_to_be_broken_by_the_upstream(door):
    with connected(door.port) as caller:
        caller.sendall(b"POST /small/x HTTP/1.1\r\nHost: g\r\nContent-Length: 5000000\r\n\r\n" + b"x" * 100_000)
        until(lambda: door.upstream.begun)

    until(lambda: door.upstream.broken)
    assert door.upstream.seen == []


@pytest.mark.parametrize("framing", ["declared", "chunked"])
def test_a_large_body_of_a_step_is_refused_and_nothing_is_sent(door, framing):
    step = b"\r\n".join(a_step())
    if framing == "declared":
        head = (
            b"POST /small/x HTTP/1.1\r\nHost: g\r\n%s\r\nContent-Length: 1001\r\nConnection: close\r\n\r\n" % step
        )
        answer = door.ask(head + b"x" * 1001)
    else:
        head = b"POST /small/x HTTP/1.1\r\nHost: g\r\n%s\r\nTransfer-Encoding: chunked\r\n\r\n" % step
        answer = door.ask(head + b"3e9\r\n" + b"x" * 1001 + b"\r\n")

    assert status_of(answer) == 413
    assert json.loads(body_of(answer))["limit"] == 1000
    assert door.upstream.seen == []


def test_a_large_answer_without_identity_passes_through(door):
    door.upstream.answering(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(LARGE) + LARGE)

    answer = door.asked(b"/small/x")

    assert body_of(answer) == LARGE
    assert b"content-length: %d" % len(LARGE) in head_of(answer)


def test_an_event_stream_passes_event_by_event(door):
    received = threading.Semaphore(0)

    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(3):
            connection.sendall(b"9\r\ndata: %d\n\n\r\n" % number)
            assert received.acquire(timeout=10)  # the next event only after this one has arrived
        connection.sendall(b"0\r\n\r\n")

    door.upstream.answering(script)

    with connected(door.port) as caller:
        caller.sendall(b"GET /up/events HTTP/1.1\r\nHost: g\r\nConnection: close\r\n\r\n")
        read_until(caller, b"\r\n\r\n")
        for number in range(3):
            assert read_until(caller, b"\n\n\r\n") == b"9\r\ndata: %d\n\n\r\n" % number
            received.release()
        assert read_to_end(caller) == b"0\r\n\r\n"


def test_a_stream_that_breaks_off_breaks_off_for_the_caller(door):
    def script(connection: socket.socket, request: bytes) -> None:
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        connection.sendall(b"9\r\ndata: 0\n\n\r\n")
        raise EOFError

    door.upstream.answering(script)

    answer = door.asked(b"/up/events")

    assert body_of(answer) == b"9\r\ndata: 0\n\n\r\n"  # and no last chunk: it is seen to be incomplete


# Callers that leave


def test_an_answer_is_recorded_although_its_caller_has_hung_up(door):
    arrived, go_on = threading.Event(), threading.Event()

    def script(connection: socket.socket, request: bytes) -> None:
        arrived.set()
        assert go_on.wait(10)
        connection.sendall(b"HTTP/1.1 201 Made\r\nContent-Length: 4\r\n\r\nmade")

    door.upstream.answering(script)
    step = a_step()
    with connected(door.port) as caller:
        head = b"POST /up/x HTTP/1.1\r\nHost: g\r\n%s\r\nContent-Length: 1\r\n\r\nx" % b"\r\n".join(step)
        caller.sendall(head)
        assert arrived.wait(10)
    go_on.set()
    again = door.asked(b"/up/x", *step, method=b"POST", body=b"x")

    assert status_of(again) == 201
    assert body_of(again) == b"made"
    assert len(door.upstream.seen) == 1


@pytest.mark.parametrize("framing", [b"Content-Length: 10", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("identity", [b"X: y", b"Workflow-Id: hangs-up"])
def test_nothing_is_sent_for_a_caller_that_hangs_up_inside_its_body(door, framing, identity):
    with connected(door.port) as caller:
        caller.sendall(b"POST /up/x HTTP/1.1\r\nHost: g\r\n%s\r\n%s\r\n\r\n5\r\nhe" % (framing, identity))
    # The gateway's event loop has read the end of that connection before it accepts this one's request.
    door.asked(b"/up/after")
    door.asked(b"/up/after")

    assert [request.split(b" ")[1] for request in door.upstream.seen] == [b"/base/after"] * 2


# What is refused


def problem_of(answer: bytes) -> dict[str, object]:
    assert b"content-type: application/problem+json" in head_of(answer)
    problem = json.loads(body_of(answer))
    assert problem["status"] == status_of(answer)
    assert any(line.startswith(b"proxy-status: gimbal; error=") for line in head_of(answer))
    return problem


def test_an_unknown_upstream_is_a_problem_that_lists_the_known(door):
    answer = door.asked(b"/nowhere/x")

    assert status_of(answer) == 404
    problem = problem_of(answer)
    assert problem["type"] == "/-/problems/unknown-upstream"
    assert problem["upstreams"] == ["nobody", "small", "strict", "up"]


def test_an_absolute_target_reaches_the_upstream_it_lies_under(door):
    answer = door.asked(door.upstream.url.encode() + b"/base/x?y")

    assert status_of(answer) == 200
    assert door.arrived()[0] == b"GET /base/x?y HTTP/1.1"


@pytest.mark.parametrize("target", [b"http://169.254.169.254/latest", b"http://127.0.0.1:2/y", b"https://a@b/"])
def test_an_absolute_target_elsewhere_is_refused(door, target):
    answer = door.asked(target)

    assert status_of(answer) == 403
    assert problem_of(answer)["type"] == "/-/problems/refused-target"


def test_a_tunnel_is_refused_with_what_to_do_instead(door):
    answer = door.asked(b"api.example.com:443", method=b"CONNECT")

    assert status_of(answer) == 403
    assert "base URL instead" in problem_of(answer)["detail"]


def test_the_gateway_itself_answers_options(door):
    there = door.asked(b"*", method=b"OPTIONS")
    other = door.asked(b"*")

    assert (status_of(there), status_of(other)) == (204, 400)
    assert problem_of(other)["type"] == "/-/problems/bad-request"


@pytest.mark.parametrize("target", [b"/-", b"/-?x=1", b"/-/"])
def test_what_is_below_the_dash_is_the_gateways_own(door, target):
    assert b"cross-origin-resource-policy: same-origin" in head_of(door.asked(target))


def test_an_absolute_target_that_only_begins_like_a_base_url_is_refused(door):
    answer = door.asked(door.upstream.url.encode() + b"/basement")

    assert status_of(answer) == 403
    assert door.upstream.seen == []


@pytest.mark.parametrize(
    "headers",
    [
        (b"Workflow-Id: a", b"Workflow-Id: b"),
        (b"Workflow-Id: " + b"x" * 256,),
        (b"Workflow-Id: \xff",),
        (b"Workflow-Step: s",),
        (b"Workflow-Id: a", b"Workflow-Progress: half"),
        (b"Workflow-Id: a", b"Workflow-Type: idempotency-key"),
        (b'Idempotency-Key: "open',),
        (b"Idempotency-Key: ",),
        (b'Idempotency-Key: ""',),
        (b"Idempotency-Key: a b",),
        (b"Idempotency-Key: " + b"k" * 256,),
        (b"Idempotency-Key: a", b"Idempotency-Key: b"),
    ],
)
def test_a_control_header_that_cannot_be_read_is_a_problem_and_nothing_is_sent(door, headers):
    answer = door.asked(b"/up/x", *headers, method=b"POST")

    assert status_of(answer) == 400
    assert "control header" in str(problem_of(answer)["title"])
    assert door.upstream.seen == []


def test_an_upstream_that_demands_identity_of_unsafe_calls_is_obeyed(door):
    bare = door.asked(b"/strict/x", method=b"POST")
    keyed = door.asked(b"/strict/x", b"Idempotency-Key: k-%d" % next(numbers), method=b"POST")
    safe = door.asked(b"/strict/x")

    assert problem_of(bare)["type"] == "/-/problems/key-required"
    assert [status_of(answer) for answer in (bare, keyed, safe)] == [400, 200, 200]


def test_an_upstream_that_is_not_there_is_never_sent_to(door):
    answer = door.asked(b"/nobody/x", *a_step(), b"Prefer: wait=0", method=b"POST")

    assert status_of(answer) in (502, 503)
    assert problem_of(answer)["type"] in ("/-/problems/upstream-unreachable", "/-/problems/deferred")


def test_callers_need_their_token_and_it_ends_here(engine_url, tmp_path):
    upstream = RawUpstream()
    head = "\n".join(line for line in CONFIG.splitlines() if not line.startswith("upstreams."))
    own = f'upstreams.guarded.base_url = "{upstream.url}"\ncallers.nightly = "a-long-secret"\n'
    (tmp_path / "gimbal.toml").write_text(f"{head.format(data=tmp_path, store=engine_url)}\n{own}")
    with background(load(tmp_path / "gimbal.toml")) as url:
        door = Door(int(url.rpartition(":")[2]), upstream)
        none = door.asked()
        wrong = door.asked(b"/guarded/x", b"Proxy-Authorization: Bearer another-secret")
        right = door.asked(
            b"/guarded/x", b"Proxy-Authorization: Bearer a-long-secret", b"Authorization: Bearer theirs"
        )
    upstream.close()

    assert problem_of(none)["type"] == "/-/problems/unauthorized"
    assert [status_of(answer) for answer in (none, wrong, right)] == [407, 407, 200]
    assert b'proxy-authenticate: Bearer realm="gimbal"' in head_of(none)
    assert door.arrived()[1][1:] == [b"authorization: Bearer theirs"]


def dechunked(body: bytes) -> bytes:
    whole = b""
    while True:
        size, _, body = body.partition(b"\r\n")
        if not (length := int(size, 16)):
            return whole
        whole, body = whole + body[:length], body[length + 2 :]


def test_health_is_told_without_a_token(door):
    answer = door.asked(b"/-/health")

    assert status_of(answer) == 200
    until(lambda: status_of(door.asked(b"/-/ready")) == 200)

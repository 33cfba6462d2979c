"""The door in process: the same promises as over HTTP, behind an httpx client, with no server."""

from __future__ import annotations

import asyncio
import gzip
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import httpx2
import pytest

import gateway
from fixtures.upstreams.counting import Counting
from tests.gateway.raw import RawUpstream
from tests.hostile.serving import die_with_parent, until


@pytest.fixture
def upstream() -> Iterator[Counting]:
    with Counting() as counting:
        yield counting


@pytest.fixture
def raw() -> Iterator[RawUpstream]:
    upstream = RawUpstream()
    yield upstream
    upstream.close()


@pytest.fixture
def place(store_url: str, tmp_path: Path) -> dict[str, str]:
    return {"store": store_url, "data": str(tmp_path)}


def test_a_rerun_of_a_workflow_is_told_what_is_done_and_goes_on(upstream, place):
    def order(*steps: str) -> list[httpx.Response]:
        transport = gateway.Transport({"shop": upstream.url}, workflow_id="order-1138", **place)
        with httpx.Client(transport=transport) as client:
            return [
                client.post(f"{upstream.url}/ok/{step}", headers={"Workflow-Step": step, "X-Ref": step})
                for step in steps
            ]

    first = order("reserve", "charge")
    again = order("reserve", "charge", "ship")

    assert upstream.effects == {"reserve": 1, "charge": 1, "ship": 1}
    assert [answer.content for answer in again[:2]] == [answer.content for answer in first]
    assert ["Idempotent-Replayed" in answer.headers for answer in again] == [True, True, False]


def test_clients_of_httpx2_take_the_same_transports(upstream, place):
    def order(*steps: str) -> list[httpx2.Response]:
        transport = gateway.Transport({"shop": upstream.url}, workflow_id="order-1138", **place)
        with httpx2.Client(transport=transport) as client:
            return [
                client.post(f"{upstream.url}/ok/{step}", headers={"Workflow-Step": step, "X-Ref": step})
                for step in steps
            ]

    first = order("reserve")
    again = order("reserve", "charge")

    assert upstream.effects == {"reserve": 1, "charge": 1}
    assert again[0].content == first[0].content
    assert again[0].headers["Idempotent-Replayed"] == "true"


def test_an_asynchronous_client_of_httpx2_is_streamed_what_is_no_step(upstream, place):
    async def look() -> httpx2.Response:
        transport = gateway.AsyncTransport({"shop": upstream.url}, **place)
        async with httpx2.AsyncClient(transport=transport) as client:
            return await client.get(f"{upstream.url}/ok/orders/1")

    answer = asyncio.run(look())

    assert answer.status_code == 200
    assert upstream.requests[0].path == "/ok/orders/1"


def test_each_transport_is_one_run_so_equal_calls_without_names_are_steps_of_their_own(upstream, place):
    for _ in range(2):
        transport = gateway.Transport({"shop": upstream.url}, workflow_id="order-1138", **place)
        with httpx.Client(transport=transport) as client:
            for _ in range(3):
                client.post(f"{upstream.url}/ok/x", content=b"same")

    assert upstream.effects == {"same": 3}


def test_the_same_holds_for_an_asynchronous_client(upstream, place):
    async def order() -> httpx.Response:
        transport = gateway.AsyncTransport({"shop": upstream.url}, workflow_id="order-1138", **place)
        async with httpx.AsyncClient(transport=transport) as client:
            answers = await asyncio.gather(
                *[client.post("http://shop/ok/x", headers={"Workflow-Step": "one"}) for _ in range(50)]
            )
            assert {answer.content for answer in answers} == {answers[0].content}
            return answers[0]

    first, again = asyncio.run(order()), asyncio.run(order())

    assert again.content == first.content
    assert len(upstream.requests) == 1


def test_an_upstream_is_found_by_its_name_or_by_the_base_url_a_url_lies_under(upstream, place):
    transport = gateway.Transport({"shop": f"{upstream.url}/keyed"}, **place)
    with httpx.Client(transport=transport) as client:
        by_name = client.post("http://shop/ok/x?a=1", content=b"1")
        by_base = client.post(f"{upstream.url}/keyed/ok/x?a=1", content=b"2")
        elsewhere = client.post(f"{upstream.url}/ok/x", content=b"3")

    assert (by_name.status_code, by_base.status_code) == (201, 201)
    assert [request.path for request in upstream.requests] == ["/keyed/ok/x?a=1"] * 2
    assert elsewhere.status_code == 403
    assert elsewhere.json()["type"] == "/-/problems/refused-target"


def test_an_answer_comes_as_it_is_and_the_client_decodes_it(raw, place):
    body = gzip.compress(b"hello")
    raw.answering(
        b"HTTP/1.1 200 OK\r\nX-A: 1\r\nContent-Encoding: gzip\r\nx-a: 2\r\nContent-Length: %d\r\n\r\n%b"
        % (len(body), body)
    )

    with httpx.Client(transport=gateway.Transport({"raw": raw.url}, **place)) as client:
        answer = client.get(f"{raw.url}/x")

    assert answer.text == "hello"
    assert [value for name, value in answer.headers.raw if name.lower() == b"x-a"] == [b"1", b"2"]
    assert answer.headers["Gimbal-Outcome"] == "success;attempts=1"


def test_control_headers_do_not_reach_the_upstream(raw, place):
    transport = gateway.Transport({"raw": raw.url}, workflow_id="w", workflow_type="t", run="r", **place)
    with httpx.Client(transport=transport) as client:
        client.post(f"{raw.url}/x", headers={"Workflow-Step": "s", "Prefer": "wait=3"})

    assert b"workflow" not in raw.seen[0].lower()
    assert b"prefer" not in raw.seen[0].lower()


def test_a_call_that_names_its_own_workflow_is_no_step_of_the_transports(upstream, place):
    transport = gateway.Transport({"shop": upstream.url}, workflow_id="mine", **place)
    with httpx.Client(transport=transport) as client:
        mine = client.post("http://shop/ok/x", headers={"Workflow-Step": "s"})
        other = client.post("http://shop/ok/x", headers={"Workflow-Step": "s", "Workflow-Id": "other"})

    assert mine.headers["Gimbal-Call"] != other.headers["Gimbal-Call"]
    assert upstream.effects.total() == 2


def test_what_the_gateway_itself_says_is_an_answer(upstream, place):
    transport = gateway.Transport({"shop": upstream.url}, workflow_id="w", **place)
    with httpx.Client(transport=transport) as client:
        doubt = client.post("http://shop/drop-after/x", headers={"Workflow-Step": "s"})
        malformed = client.post("http://shop/ok/x", headers={"Workflow-Progress": "half"})

    assert (doubt.status_code, doubt.json()["type"]) == (502, "/-/problems/in-doubt")
    assert doubt.headers["Content-Type"] == "application/problem+json"
    assert malformed.status_code == 400


def test_an_event_stream_passes_event_by_event(raw, place):
    received = threading.Semaphore(0)

    def script(connection, request):
        connection.sendall(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        for number in range(3):
            connection.sendall(b"9\r\ndata: %d\n\n\r\n" % number)
            assert received.acquire(timeout=10)
        connection.sendall(b"0\r\n\r\n")

    raw.answering(script)

    async def listen() -> AsyncIterator[bytes]:
        async with (
            httpx.AsyncClient(transport=gateway.AsyncTransport({"raw": raw.url}, **place)) as client,
            client.stream("GET", f"{raw.url}/events") as answer,
        ):
            async for part in answer.aiter_raw():
                received.release()
                yield part

    async def all_of_it() -> list[bytes]:
        return [part async for part in listen()]

    assert asyncio.run(all_of_it()) == [b"data: 0\n\n", b"data: 1\n\n", b"data: 2\n\n"]


def test_a_caller_that_is_cancelled_does_not_lose_the_answer(upstream, place):
    async def order() -> httpx.Response:
        transport = gateway.AsyncTransport({"shop": upstream.url}, workflow_id="w", **place)
        async with httpx.AsyncClient(transport=transport) as client:
            step = {"Workflow-Step": "s"}
            first = asyncio.create_task(client.post("http://shop/hold-before/x", headers=step))
            while upstream.held == 0:
                await asyncio.sleep(0.005)
            first.cancel()
            again = asyncio.create_task(client.post("http://shop/hold-before/x", headers=step))
            upstream.let_go()
            return await again

    answer = asyncio.run(order())

    assert answer.status_code == 201
    assert upstream.effects.total() == 1


def test_a_client_that_is_closed_by_a_timeout_still_keeps_the_answer_that_is_on_its_way(upstream, place):
    async def order() -> None:
        transport = gateway.AsyncTransport({"shop": upstream.url}, workflow_id="w", **place)
        async with httpx.AsyncClient(transport=transport) as client:
            call = asyncio.create_task(client.post("http://shop/hold-before/x", headers={"Workflow-Step": "s"}))
            while upstream.held == 0:
                await asyncio.sleep(0.005)
            call.cancel()
            asyncio.get_running_loop().call_later(0.2, upstream.let_go)

    asyncio.run(order())
    with httpx.Client(transport=gateway.Transport({"shop": upstream.url}, workflow_id="w", **place)) as client:
        again = client.post("http://shop/hold-before/x", headers={"Workflow-Step": "s"})

    assert again.status_code == 201
    assert "Idempotent-Replayed" in again.headers
    assert upstream.effects.total() == 1


def test_a_transport_of_the_users_own_carries_the_calls(place):
    def answering(request: httpx.Request) -> httpx.Response:
        return httpx.Response(201, json={"path": request.url.path})

    async def order() -> httpx.Response:
        transport = gateway.AsyncTransport(
            {"shop": "http://shop.example/v1"},
            workflow_id="w",
            transports={"shop": httpx.MockTransport(answering)},
            **place,
        )
        async with httpx.AsyncClient(transport=transport) as client:
            return await client.post("http://shop.example/v1/orders", headers={"Workflow-Step": "s"})

    assert asyncio.run(order()).json() == {"path": "/v1/orders"}


WORKFLOW = """
import sys, httpx, gateway
url, data = sys.argv[1:]
with httpx.Client(transport=gateway.Transport({"shop": url}, workflow_id="order-1138", data=data)) as client:
    for step in ("reserve", "charge", "ship"):
        modes = "hold-after,ok" if step == "charge" else "ok"
        answer = client.post(f"{url}/{modes}/{step}", headers={"Workflow-Step": step, "X-Ref": step})
        print(step, answer.status_code, answer.headers["Gimbal-Call"], flush=True)
        if answer.status_code != 201:
            sys.exit(1)
"""


def test_a_process_that_is_killed_inside_a_step_leaves_a_doubt_there_and_goes_on_once_it_is_settled(
    upstream, data
):
    def command() -> list[str]:
        return [sys.executable, "-c", WORKFLOW, upstream.url, str(data)]

    with subprocess.Popen(command(), stdout=subprocess.DEVNULL, preexec_fn=die_with_parent) as first:
        until(lambda: upstream.held == 1)
        first.kill()
    stopped = subprocess.run(command(), capture_output=True, timeout=60, check=False)
    reserved, charged = stopped.stdout.decode().splitlines()
    resolve = [sys.executable, "-m", "gateway", "resolve", charged.split()[2], "--applied", "--data", str(data)]
    answer = data.with_name("answer.json")
    answer.write_text('{"charge": 1}')
    subprocess.run([*resolve, "--response", str(answer), "--status", "201"], check=True)
    last = subprocess.run(command(), capture_output=True, timeout=60, check=True)

    assert (reserved.split()[1], charged.split()[1]) == ("201", "502")
    assert [line.split()[1] for line in last.stdout.decode().splitlines()] == ["201"] * 3
    assert upstream.effects == {"reserve": 1, "charge": 1, "ship": 1}

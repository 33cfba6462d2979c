"""One step, many who want it: twins, holders that stop and wake, and what they may still do."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import httpx
import pytest

from fixtures.upstreams.counting import Counting
from tests.gateway.wire_certificates import authority
from tests.hostile.serving import Serving, emptied, until

Post = Callable[..., httpx.Response]

KEYED = """
[upstreams.shop]
base_url = "{url}"
idempotency = {{ carrier = "header", name = "Idempotency-Key", window = "1h" }}
"""


@pytest.fixture(scope="module")
def shop() -> Iterator[Counting]:
    with Counting() as counting:
        yield counting


@pytest.fixture(scope="module")
def pair(
    engine_url: str, shop: Counting, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[Serving, Serving]]:
    """Two gateways on one store."""
    data = tmp_path_factory.mktemp("pair")
    emptied(engine_url)
    with (
        Serving({"shop": shop.url}, data, engine_url) as one,
        Serving({"shop": shop.url}, data, engine_url) as other,
    ):
        yield one, other


@pytest.fixture
def upstream(shop: Counting) -> Counting:
    shop.clear()
    return shop


@pytest.fixture
def post(request: pytest.FixtureRequest) -> Post:
    """Take the test's one step at a gateway."""
    step = {"Workflow-Id": request.node.name, "Workflow-Step": "charge", "X-Ref": "charge"}

    def post(gateway: Serving, path: str, **headers: str) -> httpx.Response:
        with gateway.client(headers={**step, **headers}) as caller:
            return caller.post(f"/shop/{path}", json={"amount": 5})

    return post


@pytest.fixture
def callers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(50) as pool:
        yield pool


def stopped_inside(gateway: Serving, upstream: Counting, call: Future[httpx.Response]) -> None:
    """Stop a gateway whose call the upstream holds."""
    until(lambda: upstream.held == 1 or call.done())
    assert not call.done(), call.result().text
    gateway.stop()


def test_fifty_callers_of_one_step_at_two_gateways_cause_one_effect(pair, post, upstream, callers):
    calls = [callers.submit(post, pair[number % 2], "hold-before/charges") for number in range(50)]
    until(lambda: upstream.held)
    upstream.let_go()
    answers = [call.result() for call in calls]

    assert upstream.effects == {"charge": 1}
    assert len(upstream.requests) == 1
    assert {(answer.status_code, answer.content) for answer in answers} == {(201, answers[0].content)}
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 49


def test_fifty_callers_of_one_step_at_one_gateway_cause_one_effect(pair, post, upstream, callers):
    calls = [callers.submit(post, pair[0], "hold-after/charges") for _ in range(50)]
    until(lambda: upstream.held)
    upstream.let_go()

    assert {call.result().status_code for call in calls} == {201}
    assert upstream.effects == {"charge": 1}


def test_a_twin_that_does_not_end_within_the_callers_patience_is_a_conflict(pair, post, upstream, callers):
    first = callers.submit(post, pair[0], "hold-before/charges")
    until(lambda: upstream.held)
    hasty = [post(gateway, "hold-before/charges", Prefer="wait=0") for gateway in pair]
    upstream.let_go()

    assert [answer.status_code for answer in hasty] == [409, 409]
    assert hasty[0].json()["type"] == "/-/problems/in-progress"
    assert first.result().status_code == 201
    assert upstream.effects == {"charge": 1}


def test_a_stopped_holder_leaves_a_doubt_which_its_late_answer_settles(pair, post, upstream, callers):
    stopped, awake = pair
    first = callers.submit(post, stopped, "hold-before/charges")
    stopped_inside(stopped, upstream, first)

    doubt = post(awake, "hold-before/charges")  # waits for the lease to end
    upstream.let_go()
    stopped.go_on()
    late = first.result()
    again = post(awake, "hold-before/charges")

    assert doubt.json()["type"] == "/-/problems/in-doubt"
    assert late.status_code == again.status_code == 201
    assert again.content == late.content
    assert upstream.effects == {"charge": 1}


def test_a_stopped_holder_cannot_write_after_another_took_over(engine_url, post, upstream, tmp_path, callers):
    config = KEYED.format(url=upstream.url)  # promises keys, so that another may take over; the path ignores them
    with (
        Serving({}, tmp_path, engine_url, config) as stopped,
        Serving({}, tmp_path, engine_url, config) as awake,
    ):
        first = callers.submit(post, stopped, "hold-before,ok/charges")
        stopped_inside(stopped, upstream, first)
        second = post(awake, "hold-before,ok/charges")
        upstream.let_go()  # the first request's answer is on its way too, and another
        until(lambda: upstream.effects["charge"] == 2)
        stopped.go_on()
        late = first.result()
        [call] = awake.said("call", second.headers["Gimbal-Call"])

    assert second.json()["effect"] == 1
    assert late.content == second.content
    assert "Idempotent-Replayed" in late.headers
    assert call["state"] == "succeeded"
    keys = {request.headers["idempotency-key"] for request in upstream.requests}
    assert len(keys) == 1


def test_a_holder_that_was_stopped_while_it_waited_sends_nothing_after_another_took_over(
    pair, post, upstream, callers
):
    stopped, awake = pair
    first = callers.submit(post, stopped, "503:6,ok/charges")
    until(lambda: stopped.said("calls", "--state", "claimed"))  # it has read the answer, and waits
    stopped.stop()

    second = post(awake, "503:6,ok/charges")
    stopped.go_on()

    assert second.status_code == 201
    assert first.result().content == second.content
    assert upstream.effects == {"charge": 1}
    assert len(upstream.requests) == 2


def test_no_byte_of_a_request_leaves_after_its_lease_has_ended(engine_url, post, tmp_path, callers):
    """The holder is stopped while it shakes hands: its mark is durable, and no byte of the request is out."""
    ca = authority(tmp_path)
    config = """upstreams.shop = {{ base_url = "https://127.0.0.1:{}", verify = "{}", connect_timeout = 30 }}"""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        config = config.format(listener.getsockname()[1], ca.bundle)
        with (
            Serving({}, tmp_path, engine_url, config) as stopped,
            Serving({}, tmp_path, engine_url, config) as awake,
        ):
            first = callers.submit(post, stopped, "charges")
            connection = listener.accept()[0]
            stopped.stop()
            doubt = post(awake, "charges")
            stopped.go_on()
            with ca.server("127.0.0.1").wrap_socket(connection, server_side=True) as shaken:
                assert first.result().json() == doubt.json()
                stopped.kill()
                request = shaken.recv(1)

    assert doubt.json()["type"] == "/-/problems/in-doubt"
    assert request == b""

"""The first story: a workflow's calls through a gateway. Read from top to bottom; each test tells one idea.

The gateway is a real process on a store of its own, the upstream counts the effects it had. A workflow is
whoever sends `Workflow-Id`: here plain httpx, elsewhere any HTTP client in any language.
"""

from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from fixtures.upstreams.counting import Counting
from tests.hostile.serving import Serving, emptied


@pytest.fixture(scope="module")
def shop() -> Iterator[Counting]:
    with Counting() as counting:
        yield counting


@pytest.fixture(scope="module")
def gateway(engine_url: str, shop: Counting, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Serving]:
    with Serving({"shop": shop.url}, tmp_path_factory.mktemp("data"), emptied(engine_url)) as serving:
        yield serving


@pytest.fixture
def upstream(shop: Counting) -> Counting:
    shop.clear()
    return shop


@pytest.fixture
def workflow(gateway: Serving, request: pytest.FixtureRequest) -> Iterator[httpx.Client]:
    with gateway.client(headers={"Workflow-Id": f"of {request.node.name}"}) as client:
        yield client


def test_a_call_goes_through_and_says_what_became_of_it(workflow, upstream):
    answer = workflow.post("/shop/ok/orders", json={"item": "lamp"}, headers={"Workflow-Step": "order"})

    assert answer.status_code == 201
    assert answer.json()["effect"] == 1
    assert answer.headers["Gimbal-Outcome"] == "success;attempts=1"
    assert upstream.requests[0].path == "/ok/orders"


def test_a_repeated_step_is_told_the_recorded_reply_and_nothing_is_sent(workflow, upstream):
    first = workflow.post("/shop/ok/orders", json={"item": "lamp"}, headers={"Workflow-Step": "order"})

    again = workflow.post("/shop/ok/orders", json={"item": "lamp"}, headers={"Workflow-Step": "order"})

    assert again.content == first.content
    assert again.status_code == first.status_code
    assert again.headers["Idempotent-Replayed"] == "true"
    assert again.headers["Gimbal-Call"] == first.headers["Gimbal-Call"]
    assert len(upstream.requests) == 1


def test_a_workflow_that_died_goes_on_where_it_stopped(gateway, upstream):
    def order(steps: list[str]) -> None:
        with gateway.client(headers={"Workflow-Id": "order-1138"}) as client:
            for step in steps:
                client.post(f"/shop/ok/{step}", headers={"Workflow-Step": step, "X-Ref": step}).raise_for_status()

    order(["reserve", "charge"])  # and then its process dies
    gateway.kill()  # the gateway's as well
    gateway.start()
    order(["reserve", "charge", "ship"])

    assert upstream.effects == {"reserve": 1, "charge": 1, "ship": 1}


def test_another_request_under_the_same_step_is_refused(workflow, upstream):
    workflow.post("/shop/ok/orders", json={"item": "lamp"}, headers={"Workflow-Step": "order"})

    other = workflow.post("/shop/ok/orders", json={"item": "sofa"}, headers={"Workflow-Step": "order"})

    assert other.status_code == 422
    assert other.json()["type"] == "/-/problems/key-reused"
    assert len(upstream.requests) == 1


def test_a_step_without_a_name_is_known_by_what_it_asks(workflow, upstream):
    for _ in range(2):
        workflow.post("/shop/ok/orders", json={"item": "lamp"})
    workflow.post("/shop/ok/orders", json={"item": "sofa"})

    assert [request.body for request in upstream.requests] == [b'{"item":"lamp"}', b'{"item":"sofa"}']


def test_the_same_request_twice_in_one_run_is_two_steps_and_a_rerun_repeats_neither(workflow, upstream):
    for run in ("monday", "tuesday"):
        for _ in range(2):
            workflow.post("/shop/ok/orders", json={"item": "lamp"}, headers={"Workflow-Run": run})

    assert upstream.effects == {'{"item":"lamp"}': 2}


def test_reads_are_always_sent(workflow, upstream):
    for _ in range(2):
        workflow.get("/shop/ok/orders/1", headers={"Workflow-Step": "look"})

    assert len(upstream.requests) == 2


def test_an_answer_that_was_lost_leaves_a_doubt_and_is_not_asked_for_twice(workflow, upstream):
    lost = workflow.post("/shop/drop-after/charges", json={"amount": 5}, headers={"Workflow-Step": "charge"})

    again = workflow.post("/shop/drop-after/charges", json={"amount": 5}, headers={"Workflow-Step": "charge"})

    assert (lost.status_code, again.status_code) == (502, 502)
    assert lost.json()["type"] == again.json()["type"] == "/-/problems/in-doubt"
    assert upstream.effects == {'{"amount":5}': 1}


def test_a_person_settles_a_doubt_and_the_next_call_is_told_the_settled_reply(
    workflow, upstream, gateway, tmp_path
):
    workflow.post("/shop/drop-after/charges", json={"amount": 5}, headers={"Workflow-Step": "charge"})
    answer = tmp_path / "answer.json"
    answer.write_text('{"charge": "ch_1"}')

    doubt = gateway.said("calls", "--in-doubt")[0]
    gateway.said("resolve", doubt["id"], "--applied", "--response", str(answer))
    again = workflow.post("/shop/drop-after/charges", json={"amount": 5}, headers={"Workflow-Step": "charge"})

    assert again.status_code == 200
    assert again.json() == {"charge": "ch_1"}
    assert again.headers["Idempotent-Replayed"] == "true"
    assert upstream.effects == {'{"amount":5}': 1}


def test_an_idempotency_key_alone_is_a_step_too(gateway, upstream):
    with gateway.client(headers={"Idempotency-Key": "abc"}) as anyone:
        first = anyone.post("/shop/ok/orders", json={"item": "lamp"})
        again = anyone.post("/shop/ok/orders", json={"item": "lamp"})
        other = anyone.post("/shop/ok/orders", json={"item": "sofa"})

    assert again.content == first.content
    assert other.status_code == 422
    assert upstream.effects == {'{"item":"lamp"}': 1}


def test_what_was_not_processed_is_tried_again_within_the_callers_patience(workflow, upstream):
    answer = workflow.post("/shop/503:1,ok/orders", json={"item": "lamp"}, headers={"Workflow-Step": "order"})

    assert answer.status_code == 201
    assert answer.headers["Gimbal-Outcome"] == "success;attempts=2"
    assert upstream.effects == {'{"item":"lamp"}': 1}


def test_when_patience_ends_first_the_caller_is_told_when_to_come_again(workflow, upstream):
    hasty = {"Workflow-Step": "order", "Prefer": "wait=0"}
    early = workflow.post("/shop/429:1,ok/orders", json={"item": "lamp"}, headers=hasty)

    later = workflow.post("/shop/429:1,ok/orders", json={"item": "lamp"}, headers={"Workflow-Step": "order"})

    assert early.status_code == 503
    assert early.json()["type"] == "/-/problems/deferred"
    assert 1 <= int(early.headers["Retry-After"]) <= 2
    assert later.status_code == 201
    assert upstream.effects == {'{"item":"lamp"}': 1}


def test_who_brings_no_identity_is_passed_on_and_remembered_nowhere(gateway, upstream):
    with gateway.client() as anyone:
        for _ in range(2):
            anyone.post("/shop/ok/orders", json={"item": "lamp"})

    assert upstream.effects == {'{"item":"lamp"}': 2}

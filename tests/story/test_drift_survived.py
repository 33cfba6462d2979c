"""The second story: an API moves under a workflow that nobody changes. Read from top to bottom.

The workflow reads a customer and orders for them. The shop renames a field, turns a number into a text, wraps its
answers, wants a field it never wanted, and drops one; the gateway is restarted in between. The workflow goes on
reading what it was written for, is told what could not be saved, and every change is on record.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from fixtures.upstreams.drifting import Drifting, Tree, customer
from tests.hostile.serving import Serving

CUSTOMERS = [1000 + number for number in range(12)]


@pytest.fixture
def shop() -> Iterator[Drifting]:
    with Drifting() as drifting:
        yield drifting


@pytest.fixture
def gateway(shop: Drifting, data: Path) -> Iterator[Serving]:
    with Serving({"shop": shop.url}, data) as serving:
        yield serving


class Workflow:
    """`sync-order`, as it was written in the first week: it knows `email`, `cents` and `qty`, and no gateway."""

    def __init__(self, gateway: Serving, instance: str) -> None:
        headers = {"Workflow-Type": "sync-order", "Workflow-Id": instance}
        self.client = gateway.client(headers=headers)

    def read(self, number: int) -> httpx.Response:
        return self.client.get(f"/shop/customers/{number}")

    def read_all(self) -> list[httpx.Response]:
        return [self.read(number) for number in CUSTOMERS]

    def order(self, number: int) -> httpx.Response:
        return self.client.post(
            "/shop/orders", json={"customer_id": number, "qty": 1}, headers={"Workflow-Step": f"order {number}"}
        )


def renamed(tree: Tree) -> Tree:
    return {"mail" if name == "email" else name: value for name, value in tree.items()}


def retyped(tree: Tree) -> Tree:
    return {name: str(value) if name == "cents" else value for name, value in renamed(tree).items()}


def wrapped(tree: Tree) -> Tree:
    return {"data": retyped(tree)}


def shortened(tree: Tree) -> Tree:
    return {"data": {name: value for name, value in retyped(tree).items() if name != "city"}}


def restart(gateway: Serving) -> None:
    """As a deployment does it: the old process ends in good order, a new one finds the store."""
    os.kill(gateway.pid, signal.SIGTERM)
    gateway.ended()
    gateway.start()


def edits_of(call: Any) -> list[str]:
    return [edit["edit"] for line in call["adaptations"] for edit in line["edits"]]


def is_whole(answer: httpx.Response, number: int) -> bool:
    return bool(answer.json() == customer(number))


def test_a_workflow_keeps_its_shape_while_the_api_moves(shop: Drifting, gateway: Serving) -> None:
    # Its first reads pin the shape it was written for.
    workflow = Workflow(gateway, "nightly")
    for _ in range(2):
        assert all(map(is_whole, workflow.read_all(), CUSTOMERS))
    assert Workflow(gateway, "order-1").order(1000).status_code == 201

    # The shop renames a field: within ten answers the workflow reads its own name for it again.
    shop.answers = renamed
    answers = workflow.read_all()
    assert [is_whole(*pair) for pair in zip(answers, CUSTOMERS, strict=True)].index(True) < 10
    assert is_whole(answers[-1], CUSTOMERS[-1])
    assert answers[-1].headers["Gimbal-Outcome"] == "success;attempts=1;adapted=1"

    # What was proved outlives the process.
    restart(gateway)
    assert is_whole(Workflow(gateway, "nightly").read(1000), 1000)

    # A number comes as a text, then everything inside an envelope: each change on top of those before.
    for change, edits in ((retyped, 2), (wrapped, 3)):
        shop.answers = change
        workflow = Workflow(gateway, "nightly")
        workflow.read_all()
        last = workflow.read_all()[-1]
        assert is_whole(last, CUSTOMERS[-1])
        assert last.headers["Gimbal-Outcome"].startswith(f"success;attempts=1;adapted={edits}")
    restart(gateway)
    assert is_whole(Workflow(gateway, "nightly").read(1000), 1000)

    # An order now wants an email. This workflow instance has read that customer's, and the order says whose it is.
    shop.refuses = lambda order: (
        None
        if order.get("email")
        else {"errors": [{"pointer": "/email", "code": "missing", "message": "email is required"}]}
    )
    instance = Workflow(gateway, "order-2")
    assert is_whole(instance.read(1003), 1003)
    instance.read(1003)  # by now the first read is in the instance's history
    ordered = instance.order(1003)
    assert ordered.status_code == 201
    assert ordered.headers["Gimbal-Outcome"].startswith("success;attempts=2;adapted=")
    assert shop.orders[-1]["email"] == customer(1003)["email"]
    again = instance.order(1003)
    assert (again.content, again.headers["Idempotent-Replayed"]) == (ordered.content, "true")

    # Who knows no email is asked for it, with the shop's own words; the corrected step goes on.
    stranger = Workflow(gateway, "order-3")
    asked = stranger.order(1004)
    assert (asked.status_code, asked.json()["type"]) == (422, "/-/problems/needs-input")
    assert [field["pointer"] for field in asked.json()["fields"]] == ["/email"]
    assert "email is required" in asked.json()["upstream"]["body"]

    # A field is gone. Nothing makes it up: it is absent, and the answer says that one is lacking.
    shop.answers = shortened
    workflow = Workflow(gateway, "nightly")
    workflow.read_all()
    last = workflow.read_all()[-1]
    assert last.json() == {name: value for name, value in customer(CUSTOMERS[-1]).items() if name != "city"}
    assert ";degraded=1" in last.headers["Gimbal-Outcome"]

    # All of it is on record: what was asked, what crossed the wire, and why the two differ.
    (read,) = gateway.said("call", last.headers["Gimbal-Call"])
    assert sorted(edits_of(read)) == ["coerce", "rename", "wrap"]
    assert read["original"]["body"] == shortened(customer(CUSTOMERS[-1]))
    (placed,) = gateway.said("call", ordered.headers["Gimbal-Call"])
    assert placed["request"]["body"] == {"customer_id": 1003, "qty": 1}
    assert placed["sent"]["body"] == {"customer_id": 1003, "qty": 1, "email": customer(1003)["email"]}
    assert any("answer of call" in line["why"] for line in placed["adaptations"])

"""Workflows on real SDKs against real servers; gateway and workflow are killed at each step in turn.

The servers remember what was done to them. localstripe ignores idempotency keys and moto has none, so whatever
is there only once is there once because of the gateway.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Literal

import httpx
import pytest
import stripe
from moto.server import ThreadedMotoServer

from tests.hostile.serving import PATIENCE, Serving, die_with_parent, process
from tests.hostile.shim import Shim

LOCALSTRIPE = """
import socket
from aiohttp import web
from localstripe.resources import Store
from localstripe.server import app
Store.dump_to_disk = lambda store: None
listener = socket.create_server(("127.0.0.1", 0))
print(listener.getsockname()[1], flush=True)
web.run_app(app, sock=listener, print=None)
"""

STEPS = ("customer", "method", "attach", "charge", "subscription")

Moment = Literal["before", "request", "answer", "after"]
"""When death comes: before the call is made; when it left the gateway and did not arrive; when it took effect
and its answer is on the way; when the workflow has the answer."""

numbers = count()


class Workflow:
    """One run of a workflow's script, step by step; a rerun is another."""

    def __init__(self, script: str, *arguments: str) -> None:
        path = Path(__file__).with_name("workflows") / f"{script}.py"
        self._process = subprocess.Popen(
            [sys.executable, str(path), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            preexec_fn=die_with_parent,
        )

    def heard(self) -> list[str]:
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode().split()

    def let_begin(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        self._process.stdin.flush()

    def up_to(self, step: str) -> None:
        """Take every step before `step`."""
        while (said := self.heard()) != ["begin", step]:
            assert said[0] in ("begin", "done"), said
            if said[0] == "begin":
                self.let_begin()

    def to_its_end(self) -> list[str]:
        """Take every step; return the last words."""
        while (said := self.heard())[0] not in ("end", "failed"):
            if said[0] == "begin":
                self.let_begin()
        self._process.communicate(timeout=PATIENCE)
        return said

    def kill(self) -> None:
        self._process.kill()
        self._process.communicate()


def die_at(step: str, moment: Moment, workflow: Workflow, gateway: Serving, shim: Shim) -> None:
    """Let `workflow` run up to `step`; kill it and the gateway at that `moment`; start a gateway anew."""
    workflow.up_to(step)
    if moment in ("request", "answer"):
        shim.hold(moment)
    if moment != "before":
        workflow.let_begin()
    if moment in ("request", "answer"):
        assert shim.held.wait(PATIENCE)
    if moment == "after":
        assert workflow.heard()[:2] == ["done", step]
    gateway.kill()
    workflow.kill()
    gateway.start()


def settle(failed: list[str], step: str, moment: Moment, gateway: Serving, shim: Shim, file: Path) -> None:
    """The workflow stopped where nobody could know; look it up and say what happened."""
    assert failed[:3] == ["failed", step, "502"]
    [call] = gateway.said("call", failed[3])
    assert (call["state"], call["effect"]) == ("in-doubt", "unknown")
    if moment == "answer":
        file.write_bytes(shim.kept)
        gateway.said("resolve", failed[3], "--applied", "--response", str(file))
    else:
        gateway.said("resolve", failed[3], "--not-applied")


# Stripe


@pytest.fixture(scope="module")
def localstripe() -> Iterator[str]:
    with process(sys.executable, "-c", LOCALSTRIPE, stdout=subprocess.PIPE) as running:
        assert running.stdout is not None
        yield f"http://127.0.0.1:{int(running.stdout.readline())}"


@pytest.fixture(scope="module")
def shim(localstripe: str) -> Iterator[Shim]:
    shim = Shim(localstripe)
    yield shim
    shim.close()


@pytest.fixture
def shop(localstripe: str) -> stripe.StripeClient:
    """Stripe without a gateway before it, empty but for a plan."""
    httpx.delete(f"{localstripe}/_config/data").raise_for_status()
    client = stripe.StripeClient("sk_test_12345", base_addresses={"api": localstripe})
    client.v1.plans.create(
        {"id": "free", "amount": 0, "currency": "eur", "interval": "month", "product": {"name": "P"}}
    )
    return client


@pytest.fixture
def gateway(data: Path, shim: Shim) -> Iterator[Serving]:
    """On the embedded engine, which outlives it."""
    with Serving({"stripe": shim.url}, data) as serving:
        yield serving


def held_by(shop: stripe.StripeClient) -> dict[str, int]:
    """Count the objects: those a customer has, and customers."""
    customers = shop.v1.customers.list().data
    methods = [shop.v1.payment_methods.list({"customer": c.id, "type": "card"}).data for c in customers]
    return {
        "customers": len(customers),
        "methods": sum(map(len, methods)),
        "charges": len(shop.v1.charges.list().data),
        "intents": len(shop.v1.payment_intents.list().data),
        "subscriptions": len(shop.v1.subscriptions.list().data),
    }


ONE_OF_EACH = {"customers": 1, "methods": 1, "charges": 1, "intents": 1, "subscriptions": 1}


@pytest.mark.parametrize(
    "naming",
    ["named", pytest.param("unnamed", marks=pytest.mark.slow)],
)
def test_stripe_is_asked_for_each_thing_once_by_a_workflow_that_is_killed_at_each_step_in_turn(
    gateway, shim, shop, tmp_path, naming
):
    def workflow() -> Workflow:
        return Workflow("stripe_order", f"{gateway.url}/stripe", "order-1138", naming)

    deaths: list[tuple[str, Moment]] = [
        ("customer", "after"),
        ("method", "before"),
        ("attach", "after"),
        ("charge", "answer"),
        ("subscription", "request"),
    ]
    for step, moment in deaths:
        die_at(step, moment, workflow(), gateway, shim)
        if moment in ("request", "answer"):
            settle(workflow().to_its_end(), step, moment, gateway, shim, tmp_path / "answer")

    assert workflow().to_its_end() == ["end"]
    assert held_by(shop) == ONE_OF_EACH


@pytest.mark.slow
@pytest.mark.parametrize("naming", ["named", "unnamed"])
@pytest.mark.parametrize("moment", ["before", "request", "answer", "after"])
@pytest.mark.parametrize("step", STEPS)
def test_stripe_holds_one_of_each_after_a_death_at_any_step_and_moment(
    gateway, shim, shop, tmp_path, step, moment, naming
):
    def workflow() -> Workflow:
        return Workflow("stripe_order", f"{gateway.url}/stripe", "order-1138", naming)

    die_at(step, moment, workflow(), gateway, shim)
    if moment in ("request", "answer"):
        settle(workflow().to_its_end(), step, moment, gateway, shim, tmp_path / "answer")

    assert workflow().to_its_end() == ["end"]
    assert held_by(shop) == ONE_OF_EACH


# SQS


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    yield "http://{}:{}".format(*server.get_host_and_port())
    server.stop()


class Queue:
    """An SQS queue as its server knows it."""

    def __init__(self, server: str, name: str) -> None:
        self._server = server
        self.url = str(self._ask("CreateQueue", QueueName=name)["QueueUrl"])

    def bodies(self) -> list[str]:
        found = self._ask("ReceiveMessage", QueueUrl=self.url, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return sorted(message["Body"] for message in found.get("Messages", []))

    def _ask(self, action: str, **parameters: object) -> dict[str, list[dict[str, str]]]:
        told = httpx.post(
            self._server,
            json=parameters,
            headers={
                "X-Amz-Target": f"AmazonSQS.{action}",
                "Content-Type": "application/x-amz-json-1.0",
                "Authorization": "AWS4-HMAC-SHA256 Credential=x/20260101/eu-west-1/sqs/aws4_request",
            },
        )
        return told.raise_for_status().json()


def test_a_queue_gets_each_message_once_from_a_workflow_that_is_killed_at_each_step_in_turn(data, moto, tmp_path):
    shim = Shim(moto)
    queue = Queue(moto, f"orders-{next(numbers)}")
    with Serving({"sqs": shim.url}, data) as gateway:

        def workflow() -> Workflow:
            return Workflow("sqs_order", f"{gateway.url}/sqs", queue.url, "order-1138")

        deaths: list[tuple[str, Moment]] = [("1", "after"), ("2", "answer")]
        for step, moment in deaths:
            die_at(step, moment, workflow(), gateway, shim)
            if moment in ("request", "answer"):
                settle(workflow().to_its_end(), step, moment, gateway, shim, tmp_path / "answer")

        assert workflow().to_its_end() == ["end"]
        assert queue.bodies() == ["reserve", "reserve", "ship"]
    shim.close()


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["before", "request", "answer", "after"])
@pytest.mark.parametrize("step", ["1", "2", "3"])
def test_a_queue_has_each_message_once_after_a_death_at_any_step_and_moment(data, moto, tmp_path, step, moment):
    shim = Shim(moto)
    queue = Queue(moto, f"orders-{next(numbers)}")
    with Serving({"sqs": shim.url}, data) as gateway:

        def workflow() -> Workflow:
            return Workflow("sqs_order", f"{gateway.url}/sqs", queue.url, "order-1138")

        die_at(step, moment, workflow(), gateway, shim)
        if moment in ("request", "answer"):
            settle(workflow().to_its_end(), step, moment, gateway, shim, tmp_path / "answer")

        assert workflow().to_its_end() == ["end"]
        assert queue.bodies() == ["reserve", "reserve", "ship"]
    shim.close()

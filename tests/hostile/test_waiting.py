"""Calls that wait outlive everyone: gateway and engine are killed, and the caller never comes back."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import httpx
import pytest

from fixtures.upstreams.counting import Counting
from gateway.engine_home import Home
from tests.hostile.serving import Serving, until

CHARGE = {"Workflow-Id": "order-1138", "Workflow-Step": "charge", "X-Ref": "charge"}

LOOKED_UP = """
[upstreams.shop]
base_url = "{url}"

[[upstreams.shop.operations]]
match = "POST /**"
lookup = {{ get = "/effects-of/{{header.X-Ref}}", found = "/effects" }}
"""


def kill_engine(data: Path) -> None:
    homes = [Home(lock.parent) for lock in data.parent.rglob("alive.lock")]
    for home in homes:
        os.kill(home.pid(), signal.SIGKILL)
    until(lambda: not any(home.lives() for home in homes))


def posts(upstream: Counting) -> int:
    return sum(request.method == "POST" for request in upstream.requests)


def test_a_deferred_call_survives_the_death_of_gateway_and_engine_and_completes_without_its_caller(data: Path):
    with Counting() as upstream, Serving({"shop": upstream.url}, data) as gateway:
        with gateway.client(headers=CHARGE) as caller:
            deferred = caller.post("/shop/429:4,ok/charges", headers={"Prefer": "wait=0, respond-async"})
            assert deferred.status_code == 202
            call = deferred.headers["Gimbal-Call"]
            until(lambda: gateway.said("call", call)[0]["state"] == "waiting")  # before that, it may be a doubt
        gateway.kill()
        kill_engine(data)

        gateway.start()

        until(lambda: upstream.effects["charge"] == 1)
        with gateway.client() as anybody:
            done = anybody.get(deferred.headers["Location"], headers={"Prefer": "wait=10"})
        assert done.status_code == 201
        assert done.json()["ref"] == "charge"
        with gateway.client(headers=CHARGE) as caller:
            again = caller.post("/shop/429:4,ok/charges")
        assert (again.status_code, again.headers["Idempotent-Replayed"]) == (201, "true")
        assert (upstream.effects["charge"], upstream.sendings["charge"]) == (1, 2)


def test_a_lost_answer_of_an_unkeyed_post_is_settled_by_its_look_up_without_a_second_effect(data: Path):
    with Counting() as upstream:
        config = LOOKED_UP.format(url=upstream.url)
        with Serving({}, data, config=config) as gateway, gateway.client(headers=CHARGE) as caller:
            told = caller.post("/shop/drop-after,ok/charges")
            again = caller.post("/shop/drop-after,ok/charges")

            assert (told.status_code, told.json()["effects"]) == (200, 1)
            assert told.headers["Gimbal-Outcome"].startswith("success")
            assert (again.content, again.headers["Idempotent-Replayed"]) == (told.content, "true")
            assert (upstream.effects["charge"], posts(upstream)) == (1, 1)


def test_a_doubt_left_by_a_killed_gateway_is_settled_when_another_serves(data: Path):
    with Counting() as upstream:
        config = LOOKED_UP.format(url=upstream.url)
        with Serving({}, data, config=config) as gateway:
            with httpx.Client(base_url=gateway.url, headers=CHARGE, timeout=0.1, trust_env=False) as caller:
                try:
                    caller.post("/shop/hold-after/charges")
                except httpx.ReadTimeout:
                    until(lambda: upstream.effects["charge"] == 1)
            gateway.kill()
            gateway.start()

            until(lambda: [call["state"] for call in gateway.said("calls")] == ["succeeded"])

            assert (upstream.effects["charge"], posts(upstream)) == (1, 1)
            upstream.forget()


@pytest.mark.slow
def test_an_answer_that_is_on_its_way_to_nobody_is_waited_for_at_an_orderly_end(data: Path):
    with Counting() as upstream, Serving({"shop": upstream.url}, data) as gateway:
        with gateway.client(headers=CHARGE) as caller:
            told = caller.post("/shop/slow:6,ok/charges", headers={"Prefer": "respond-async"})
            assert told.status_code == 202
            until(lambda: upstream.sendings["charge"] == 1)

        gateway.terminate()
        gateway.start()

        with gateway.client() as anybody:
            done = anybody.get(told.headers["Location"])
        assert done.status_code == 201
        assert (upstream.effects["charge"], upstream.sendings["charge"]) == (1, 1)

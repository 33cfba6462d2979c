"""The store dies, under load or around one call: nothing acknowledged is lost, and nothing is doubled."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import httpx
import pytest
import redis

from fixtures.upstreams.counting import Counting
from gateway.engine import ROOM
from gateway.engine_binary import find_binary
from gateway.engine_home import Home
from tests.hostile.serving import Serving, process, until

BODY = b"x" * 200_000
"""Few of them fill a small disk."""


@pytest.fixture
def upstream() -> Iterator[Counting]:
    with Counting() as counting:
        yield counting


class Store:
    """An engine of the test's own, which may be killed and started again on the same journal."""

    def __init__(self, home: Path) -> None:
        self._socket = home / "s"
        self.url = f"unix://{self._socket}"
        self._command = [find_binary().path, "--port", "0", "--unixsocket", str(self._socket), "--dir", str(home)]
        self._command += ["--appendonly", "yes", "--appendfsync", "always", "--save", ""]
        self._command += ["--maxmemory-policy", "noeviction"]
        self.start()

    def start(self) -> None:
        self._running = process(*self._command)
        self._running.__enter__()
        until(self._socket.exists)

    def kill(self) -> None:
        self._running.__exit__(None, None, None)
        self._socket.unlink(missing_ok=True)


@pytest.fixture
def store(kennel: Path, tmp_path: Path) -> Iterator[Store]:
    home = kennel / tmp_path.name[-8:]
    home.mkdir()
    store = Store(home)
    yield store
    store.kill()


def post(gateway: Serving, path: str, step: str, body: bytes = b"") -> httpx.Response:
    with gateway.client(headers={"Workflow-Id": "w", "Workflow-Step": step, "X-Ref": step}) as caller:
        return caller.post(f"/shop/{path}", content=body)


def test_a_store_that_is_away_means_that_nothing_is_sent(store, upstream, tmp_path):
    with Serving({"shop": upstream.url}, tmp_path, store.url) as gateway:
        store.kill()
        away = post(gateway, "ok/charges", "charge")
        store.start()
        back = post(gateway, "ok/charges", "charge")

    assert away.status_code == 503
    assert away.json()["type"] == "/-/problems/ledger-unavailable"
    assert back.status_code == 201
    assert upstream.effects == {"charge": 1}


def test_an_answer_that_came_while_the_store_was_away_is_recorded_when_it_is_back(store, upstream, tmp_path):
    with Serving({"shop": upstream.url}, tmp_path, store.url) as gateway, ThreadPoolExecutor(1) as callers:
        call = callers.submit(post, gateway, "hold-before/charges", "charge")
        until(lambda: upstream.held == 1)
        store.kill()
        upstream.let_go()
        until(lambda: upstream.effects["charge"] == 1)
        store.start()
        first = call.result()
        again = post(gateway, "hold-before/charges", "charge")

    assert first.status_code == 201
    assert "Idempotent-Replayed" in again.headers
    assert again.content == first.content
    assert upstream.effects == {"charge": 1}


def test_a_store_that_forgot_the_scripts_is_told_them_again(store, upstream, tmp_path):
    with Serving({"shop": upstream.url}, tmp_path, store.url) as gateway:
        post(gateway, "ok/charges", "one")
        with redis.Redis.from_url(store.url) as client:
            client.script_flush()
        two = post(gateway, "ok/charges", "two")

    assert two.status_code == 201
    assert upstream.effects == {"one": 1, "two": 1}


def test_a_full_disk_is_said_to_callers_and_nothing_is_lost_or_doubled(small_disk, upstream):
    """Bodies fill the disk until no mark can be written any more; then there is room again."""
    filler = small_disk / "filler"
    filler.write_bytes(bytes(2 * ROOM))
    told: dict[str, httpx.Response] = {}
    with Serving({"shop": upstream.url}, small_disk) as gateway:
        with gateway.client() as anybody:
            for number in count():
                told[f"s{number}"] = answer = post(gateway, "ok/charges", f"s{number}", BODY)
                if answer.status_code != 201:
                    break
            until(lambda: "disk is full" in anybody.get("/-/ready").text)
        sent = upstream.sendings.total()
        refused = post(gateway, "ok/charges", "while full")
        assert upstream.sendings.total() == sent
        filler.unlink()
        until(lambda: post(gateway, "ok/charges", "room again").status_code == 201)
        again = {step: post(gateway, "ok/charges", step, BODY) for step in told}

    assert refused.status_code == 503
    assert refused.json()["type"] == "/-/problems/ledger-unavailable"
    assert int(refused.headers["Retry-After"]) > 0
    acknowledged = [step for step, answer in told.items() if answer.status_code == 201]
    assert len(acknowledged) > 3
    assert all(again[step].content == told[step].content for step in acknowledged)
    assert set(upstream.effects.values()) == {1}


def test_an_engine_that_is_killed_under_load_loses_nothing_that_was_acknowledged(data, upstream):
    """Each caller takes its steps once, whatever it is told; then all steps are asked for again."""
    told: dict[str, httpx.Response] = {}
    enough = threading.Event()

    def steps_of(caller: int, gateway: Serving) -> None:
        for number in count():
            if enough.is_set():
                return
            step = f"{caller}-{number}"
            told[step] = post(gateway, "ok/charges", step)

    with Serving({"shop": upstream.url}, data) as gateway, ThreadPoolExecutor(4) as callers:
        home = Home(data / "engine")
        running = [callers.submit(steps_of, number, gateway) for number in range(4)]
        for kill in (1, 2):
            until(lambda kill=kill: len(told) > 50 * kill)
            os.kill(home.pid(), signal.SIGKILL)
            until(lambda before=len(told): sum(a.status_code == 201 for a in list(told.values())[before:]) > 20)
        enough.set()
        for caller in running:
            caller.result()
        again = dict(zip(told, callers.map(lambda step: post(gateway, "ok/charges", step), told), strict=True))

    acknowledged = [step for step, answer in told.items() if answer.status_code == 201]
    assert len(acknowledged) > 50
    for step in acknowledged:
        assert again[step].headers.get("Idempotent-Replayed") == "true", again[step].text
        assert again[step].content == told[step].content
    assert set(upstream.effects.values()) == {1}
    doubtful = {step for step, answer in again.items() if answer.status_code != 201}
    assert all(again[step].json()["type"] == "/-/problems/in-doubt" for step in doubtful)

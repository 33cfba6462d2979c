"""Two versions of what is stored, side by side: the older is read and finished, the newer refused."""

from __future__ import annotations

import asyncio
import json
import time
from base64 import b64decode
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest
import redis

from discovery.exchange import Request
from fixtures.upstreams.counting import Counting
from gateway import ledger_values
from gateway.identity import fingerprint
from gateway.ledger import RedisLedger
from gateway.ledger_values import call_key
from gateway.link import Link
from gateway.ports import About
from gateway.vault import Vault
from policies.claims import Ask, Change, Granted, State, StepKey, call_id
from tests.hostile.serving import Serving, emptied, until

OLDER = json.loads(Path("fixtures/ledger/format-1.json").read_text())
"""What version 183b95c left in a store: `done` and `refused` have ended, `doubted` is in doubt, `waits` and
`waits-keyed` are put off, and the gateway was killed while `held` and `held-keyed` were being sent."""

TIMES = "lease_until", "not_before", "first_sent", "doubt_since", "created", "updated"

CONFIG = """
[upstreams.shop]
base_url = "{url}"

[upstreams.till]
base_url = "{url}/keyed"
idempotency = {{ carrier = "header", name = "Idempotency-Key", window = "87600h" }}
"""


@pytest.fixture
def upstream() -> Iterator[Counting]:
    with Counting() as counting:
        yield counting


@pytest.fixture
def gateway(
    engine_url: str, upstream: Counting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Serving]:
    """A gateway that knows the older version's key, not started yet, on an empty store."""
    emptied(engine_url)
    monkeypatch.setenv("GIMBAL_KEY", OLDER["key"])
    serving = Serving({}, tmp_path / "data", engine_url, CONFIG.format(url=upstream.url))
    yield serving
    serving.kill()


def post(gateway: Serving, path: str, step: str, body: str = "") -> httpx.Response:
    told = {"Workflow-Id": "order-1", "Workflow-Step": step, "X-Ref": step, "Content-Type": "text/plain"}
    with gateway.client(headers=told) as caller:
        return caller.post(path, content=body or step)


def restore(url: str) -> None:
    """Fill a store with what the older version left, as if that had been an hour ago."""
    late = time.time() - OLDER["written_at"] - 3600
    with redis.Redis.from_url(url) as store:
        for key, held in OLDER["store"].items():
            if "zset" in held:
                store.zadd(key, {member: score + late for member, score in held["zset"].items()})
                continue
            fields = {name: b64decode(value) for name, value in held["hash"].items()}
            if "record" in fields:
                record = msgspec.msgpack.decode(fields["record"])
                record |= {name: record[name] + late for name in TIMES if record[name]}
                fields["record"] = msgspec.msgpack.encode(record)
            store.hset(key, mapping=fields)


def test_what_an_older_version_left_is_read_and_finished(gateway, engine_url, upstream):
    restore(engine_url)
    gateway.start()

    upstream.sendings |= {"waits": 1, "waits-keyed": 1}  # the older version sent them once, and was told to wait
    done = post(gateway, "/shop/ok/things", "done")
    doubted = post(gateway, "/shop/drop-after,ok/things", "doubted")
    killed = post(gateway, "/shop/hold-before,ok/things", "held")
    refused = post(gateway, "/shop/400/things", "refused")
    until(lambda: upstream.held)
    upstream.let_go()
    until(lambda: all(upstream.effects[step] for step in ("waits", "waits-keyed", "held-keyed")))

    assert [done.status_code, done.text] == OLDER["told"]["done"]
    assert done.headers["Idempotent-Replayed"] == "true"
    assert {answer.json()["type"] for answer in (doubted, killed)} == {"/-/problems/in-doubt"}
    assert (refused.status_code, "Idempotent-Replayed" in refused.headers) == (400, False)  # it was tried again
    sent = {request.ref: request for request in upstream.requests}
    assert len(upstream.requests) == len(sent)
    assert sent.keys() == {"refused", "waits", "waits-keyed", "held-keyed"}
    assert {step: sent[step].headers["idempotency-key"] for step in OLDER["keys_sent"]} == OLDER["keys_sent"]
    assert all(request.body == step.encode() for step, request in sent.items())


def act_on_newer(gateway: Serving, upstream: Counting) -> httpx.Response:
    """Give the sweeper and a caller the chance to act on the step `charge`; return what the caller is told."""
    gateway.start()
    told = post(gateway, "/shop/ok/things", "charge")
    other = post(gateway, "/shop/ok/things", "other")  # of the same shard
    until(lambda: upstream.effects["put off"] == 1)  # so the sweeper went through the shard

    assert other.status_code == 201
    assert upstream.sendings["charge"] == 0
    return told


def put_off(url: str, step: str) -> None:
    """Leave a step that is due."""

    async def leave() -> None:
        ours = RedisLedger(Link(url), Vault([b64decode(OLDER["key"])]))
        key = StepKey("default", "order-1", step)
        headers = ((b"x-ref", step.encode()), (b"content-type", b"text/plain"))
        request = Request("POST", b"/ok/things", headers, step.encode())
        granted = await ours.claim(
            call_id(key),
            About(key, "shop", "POST /ok/things", request),
            Ask(fingerprint("shop", request), send=True),
        )
        assert isinstance(granted.result, Granted)
        await ours.change(call_id(key), 1, Change(State.WAITING, not_before=1.0))
        await ours.aclose()

    asyncio.run(leave())


def test_a_request_of_a_newer_format_is_refused_loudly(gateway, engine_url, upstream, monkeypatch):
    put_off(engine_url, "put off")
    monkeypatch.setattr(ledger_values, "_FORMAT", b"\x02")
    put_off(engine_url, "charge")

    told = act_on_newer(gateway, upstream)

    assert told.status_code == 503
    assert "of format 2; this version reads 1: upgrade" in told.json()["detail"]


def test_a_record_of_newer_rules_is_refused_loudly_and_nothing_else_is(gateway, engine_url, upstream):
    put_off(engine_url, "put off")
    put_off(engine_url, "charge")
    with redis.Redis.from_url(engine_url) as store:
        call = call_key(call_id(StepKey("default", "order-1", "charge")))
        record = msgspec.msgpack.decode(store.hget(call, "record"))
        store.hset(call, "record", msgspec.msgpack.encode({**record, "format": 2, "state": "napping"}))

    told = act_on_newer(gateway, upstream)

    assert told.status_code == 503
    assert "of format 2; this version reads 1: upgrade" in told.json()["detail"]

"""Batches of real services that succeed by half: each item is written once, whoever dies in between."""

from __future__ import annotations

import json
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import boto3
import httpx
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from tests.hostile.half_batch import HalfBatch
from tests.hostile.serving import Serving, process, until

WHO = {"Workflow-Id": "batch-1", "Workflow-Step": "write"}

KINTO = """\
[server:main]
use = egg:waitress#main
host = 127.0.0.1
port = {port}

[app:main]
use = egg:kinto
kinto.storage_backend = kinto.core.storage.memory
kinto.cache_backend = kinto.core.cache.memory
kinto.permission_backend = kinto.core.permission.memory
kinto.userid_hmac_secret = b4c96a8692291d88fe5a97dd91846eb4
kinto.bucket_create_principals = system.Everyone
kinto.bucket_write_principals = system.Everyone
"""


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return int(taken.getsockname()[1])


def answers(url: str) -> bool:
    try:
        return httpx.get(url, trust_env=False, timeout=2).status_code < 500
    except httpx.HTTPError:
        return False


@pytest.fixture(scope="module")
def kinto(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    ini = tmp_path_factory.mktemp("kinto") / "kinto.ini"
    port = free_port()
    ini.write_text(KINTO.format(port=port))
    with process(str(Path(sys.executable).with_name("kinto")), "start", "--ini", str(ini)):
        url = f"http://127.0.0.1:{port}/v1"
        until(lambda: answers(f"{url}/__heartbeat__"))
        yield url


@pytest.fixture(scope="module")
def moto() -> Iterator[str]:
    port = free_port()
    with process(str(Path(sys.executable).with_name("moto_server")), "-H", "127.0.0.1", "-p", str(port)):
        url = f"http://127.0.0.1:{port}"
        until(lambda: answers(f"{url}/moto-api/data.json"))
        yield url


# Kinto: requests in a batch, answered by position


def kinto_batch(bucket: str, *ids: str) -> dict:
    return {
        "defaults": {"method": "PUT"},
        "requests": [
            {"path": f"/v1/buckets/{bucket}/collections/c/records/{id}", "body": {"data": {"n": n}}}
            for n, id in enumerate(ids)
        ],
    }


def hold_back_once(marker: str, wait: str | None = None):
    """Answer 503 for the requests whose path ends in `marker`, the first time they come."""
    held: set[str] = set()

    def split(body: bytes):
        if not body or b'"requests"' not in body:
            return None
        batch = json.loads(body)
        late = [n for n, request in enumerate(batch["requests"]) if request["path"].endswith(marker)]
        late = [n for n in late if batch["requests"][n]["path"] not in held]
        if not late:
            return None
        held.update(batch["requests"][n]["path"] for n in late)
        passed = [request for n, request in enumerate(batch["requests"]) if n not in late]

        def join(answer: bytes) -> bytes:
            told = json.loads(answer)
            for n in late:
                headers = {"Retry-After": wait} if wait else {}
                verdict = {
                    "status": 503,
                    "path": batch["requests"][n]["path"],
                    "headers": headers,
                    "body": {"code": 503, "errno": 201, "error": "Service Unavailable", "message": "overloaded"},
                }
                told["responses"].insert(n, verdict)
            return json.dumps(told).encode()

        return json.dumps({**batch, "requests": passed}).encode(), join

    return split


def prepared(kinto: str, bucket: str) -> httpx.Client:
    client = httpx.Client(base_url=kinto, trust_env=False)
    client.put(f"/buckets/{bucket}").raise_for_status()
    client.put(f"/buckets/{bucket}/collections/c").raise_for_status()
    return client


def test_the_items_of_a_batch_that_failed_for_now_are_sent_again_and_no_others(kinto: str, data: Path) -> None:
    real = prepared(kinto, "half")
    with (
        HalfBatch(kinto.removesuffix("/v1"), hold_back_once("b")).serving() as shim,
        Serving({"kinto": shim.url}, data) as gateway,
        gateway.client() as client,
    ):
        answer = client.post("/kinto/v1/batch", json=kinto_batch("half", "a", "b", "c"), headers=WHO)

        assert [part["status"] for part in answer.json()["responses"]] == [201, 201, 201]
        assert answer.headers["gimbal-outcome"].startswith("success;attempts=2")
        sent = [[r["path"][-1] for r in json.loads(body)["requests"]] for body in shim.seen]
        assert sent == [["a", "b", "c"], ["b"]]
        again = client.post("/kinto/v1/batch", json=kinto_batch("half", "a", "b", "c"), headers=WHO)
        assert again.headers["idempotent-replayed"] == "true"
        assert again.content == answer.content
    records = real.get("/buckets/half/collections/c/records").json()["data"]
    assert sorted(record["id"] for record in records) == ["a", "b", "c"]


def test_items_refused_for_good_stay_refused_and_are_named(kinto: str, data: Path) -> None:
    prepared(kinto, "refused")
    with (
        Serving({"kinto": kinto.removesuffix("/v1")}, data) as gateway,
        gateway.client() as client,
    ):
        batch = kinto_batch("refused", "a", "not%20an%20id", "c")
        answer = client.post("/kinto/v1/batch", json=batch, headers=WHO)

        assert answer.headers["gimbal-outcome"].startswith("partial;attempts=1")
        call = gateway.said("call", answer.headers["gimbal-call"])[0]
        assert [item["state"] for item in call["items"]] == ["succeeded", "refused", "succeeded"]
        assert call["effect"] == "some"


def test_a_batch_killed_between_its_two_sendings_goes_on_with_what_is_unfinished(kinto: str, data: Path) -> None:
    real = prepared(kinto, "killed")
    with (
        HalfBatch(kinto.removesuffix("/v1"), hold_back_once("b", wait="3")).serving() as shim,
        Serving({"kinto": shim.url}, data) as gateway,
    ):
        with gateway.client() as client:
            batch = kinto_batch("killed", "a", "b", "c")
            deferred = client.post("/kinto/v1/batch", json=batch, headers={**WHO, "Prefer": "wait=1"})
            assert deferred.json()["type"] == "/-/problems/deferred"
        gateway.kill()
        gateway.start()
        with gateway.client() as client:
            answer = client.post("/kinto/v1/batch", json=kinto_batch("killed", "a", "b", "c"), headers=WHO)

        assert [part["status"] for part in answer.json()["responses"]] == [201, 201, 201]
        sent = [[r["path"][-1] for r in json.loads(body)["requests"]] for body in shim.seen]
        assert sent == [["a", "b", "c"], ["b"]]
    records = real.get("/buckets/killed/collections/c/records").json()["data"]
    assert sorted(record["id"] for record in records) == ["a", "b", "c"]


# SQS: entries with ids, the official SDK


def hold_back_entry(id: str):
    """Put an entry under `Failed` with `SenderFault: false`, the first time it comes."""
    held: set[str] = set()

    def split(body: bytes):
        if b'"Entries"' not in body:
            return None
        batch = json.loads(body)
        late = [entry for entry in batch["Entries"] if entry["Id"] == id and id not in held]
        if not late:
            return None
        held.add(id)
        passed = [entry for entry in batch["Entries"] if entry["Id"] != id]

        def join(answer: bytes) -> bytes:
            told = json.loads(answer)
            told.setdefault("Failed", []).append(
                {"Id": id, "SenderFault": False, "Code": "InternalError", "Message": "please try again"}
            )
            return json.dumps(told).encode()

        return json.dumps({**batch, "Entries": passed}).encode(), join

    return split


def sqs(url: str, headers: dict[str, str] | None = None):
    client = boto3.client(
        "sqs",
        endpoint_url=url,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"max_attempts": 0}, proxies={}),
    )
    if headers:
        client.meta.events.register("before-send.*", lambda request, **_: request.headers.update(headers))
    return client


def test_an_sqs_batch_is_finished_entry_by_entry(moto: str, data: Path) -> None:
    queue = sqs(moto).create_queue(QueueName="half")["QueueUrl"]
    with HalfBatch(moto, hold_back_entry("b")).serving() as shim, Serving({"sqs": shim.url}, data) as gateway:
        client = sqs(f"{gateway.url}/sqs", WHO)
        entries = [{"Id": id, "MessageBody": f"body-{id}"} for id in "abc"]

        told = client.send_message_batch(QueueUrl=queue, Entries=entries)

        assert sorted(entry["Id"] for entry in told["Successful"]) == ["a", "b", "c"]
        assert not told.get("Failed")
        sent = [[entry["Id"] for entry in json.loads(body)["Entries"]] for body in shim.seen]
        assert sent == [["a", "b", "c"], ["b"]]
    assert sorted(received(moto, queue)) == ["body-a", "body-b", "body-c"]


def test_an_sqs_batch_killed_between_its_two_sendings_writes_each_entry_once(moto: str, data: Path) -> None:
    queue = sqs(moto).create_queue(QueueName="killed")["QueueUrl"]
    entries = [{"Id": id, "MessageBody": f"body-{id}"} for id in "abc"]
    with HalfBatch(moto, hold_back_entry("b")).serving() as shim, Serving({"sqs": shim.url}, data) as gateway:
        impatient = sqs(f"{gateway.url}/sqs", {**WHO, "Prefer": "wait=0"})
        with pytest.raises(ClientError) as told:
            impatient.send_message_batch(QueueUrl=queue, Entries=entries)
        assert told.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
        gateway.kill()
        gateway.start()

        done = sqs(f"{gateway.url}/sqs", WHO).send_message_batch(QueueUrl=queue, Entries=entries)

        assert sorted(entry["Id"] for entry in done["Successful"]) == ["a", "b", "c"]
        sent = [[entry["Id"] for entry in json.loads(body)["Entries"]] for body in shim.seen]
        assert sent == [["a", "b", "c"], ["b"]]
    assert sorted(received(moto, queue)) == ["body-a", "body-b", "body-c"]


def received(moto: str, queue: str) -> list[str]:
    bodies: list[str] = []
    while messages := sqs(moto).receive_message(QueueUrl=queue, MaxNumberOfMessages=10).get("Messages"):
        bodies += [message["Body"] for message in messages]
    return bodies

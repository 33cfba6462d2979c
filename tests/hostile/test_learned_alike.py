"""What gateways learn from their traffic, apart or alone, is what `gimbal learn` learns from recordings of it."""

from __future__ import annotations

import json
import multiprocessing
import subprocess
from pathlib import Path
from typing import Any

import httpx

import gateway
from tests.hostile.serving import PATIENCE, gimbal

BASE_URL = "https://shop.example/v1"


class Shop(httpx.AsyncBaseTransport):
    """An API of three operations, in process."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        if request.method == "POST":
            return httpx.Response(201, json={"id": 7, **json.loads(await request.aread())})
        if path.endswith("/orders"):
            return httpx.Response(200, json={"data": [{"id": n, "state": "open"} for n in range(3)]})
        return httpx.Response(200, json={"id": int(path.rsplit("/", 1)[1]), "state": "open", "note": None})


def recorded(client: httpx.Client, log: list[dict[str, Any]], method: str, path: str, body: Any = None) -> None:
    answer = client.request(method, BASE_URL + path, json=body)
    assert answer.is_success, answer.text
    sent = answer.request
    log.append(
        {
            "api": "shop",
            "method": method,
            "url": str(sent.url),
            "request_headers": dict(sent.headers),
            "request_body": sent.content.decode() or None,
            "status": answer.status_code,
            "response_headers": {"Content-Type": "application/json"},
            "response_body": answer.text,
            "source": "test",
        }
    )


def served(data: Path, recording: Path, first: int = 1, step: int = 1) -> None:
    """The life of one gateway: every `step`th call from the `first`, a recording of them, and a proper end."""
    log: list[dict[str, Any]] = []
    door = gateway.Transport({"shop": BASE_URL}, data=data, transports={"shop": Shop()})
    with httpx.Client(transport=door) as client:
        for n in range(first, 13, step):
            recorded(client, log, "GET", f"/orders/{n}")
            recorded(client, log, "POST", "/orders", {"sku": f"ring-{n}", "count": n})
        recorded(client, log, "GET", "/orders")
    recording.write_text("".join(f"{json.dumps(line)}\n" for line in log))


def learned_from(recordings: list[Path], data: Path) -> Any:
    words = ["--upstream", "shop", "--base-url", BASE_URL, "--data", str(data)]
    subprocess.run(
        gimbal("learn", *map(str, recordings), *words), capture_output=True, check=True, timeout=PATIENCE
    )
    return contract(data)


def contract(data: Path) -> Any:
    """What is known now, less the number of its revision: how often a contract was drawn depends on the hour."""
    document = json.loads(told(data, "--openapi"))
    del document["info"]["version"]
    return document


def kept(data: Path) -> Any:
    """The last revision, which the console shows: drawn by whichever process read last."""
    last = json.loads(told(data, "--revisions").splitlines()[-1])["revision"]
    return json.loads(told(data, "--revision", str(last)))


def told(data: Path, *words: str) -> str:
    command = gimbal("contracts", "shop", *words, "--data", str(data))
    return subprocess.run(command, capture_output=True, check=True, timeout=PATIENCE, text=True).stdout


def test_traffic_through_the_gateway_and_its_recording_yield_the_same_contract(data: Path, tmp_path: Path) -> None:
    recording = tmp_path / "shop.jsonl"
    served(data, recording)
    live = contract(data)

    assert set(live["paths"]) == {"/orders", "/orders/{order_id}"}
    assert learned_from([recording], tmp_path / "elsewhere") == live


def test_two_gateway_processes_that_see_half_of_the_traffic_each_come_to_the_contract_of_the_whole(
    data: Path, tmp_path: Path
) -> None:
    recordings = [tmp_path / "odd.jsonl", tmp_path / "even.jsonl"]
    fork = multiprocessing.get_context("fork")
    halves = [
        fork.Process(target=served, args=(data, recording, first, 2), daemon=True)
        for recording, first in zip(recordings, (1, 2), strict=True)
    ]
    for half in halves:
        half.start()
    for half in halves:
        half.join(PATIENCE)

    assert [half.exitcode for half in halves] == [0, 0]
    assert learned_from(recordings, tmp_path / "elsewhere") == contract(data)
    assert kept(data)["paths"] == contract(data)["paths"]

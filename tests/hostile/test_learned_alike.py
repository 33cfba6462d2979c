"""What gateways learn from their traffic, apart or alone, is what `gimbal learn` learns from recordings of it."""

from __future__ import annotations

import json
import multiprocessing
import random
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest

import gateway
from tests.hostile.serving import PATIENCE, Serving, gimbal

BASE_URL = "https://shop.example/v1"


class Shop(httpx.AsyncBaseTransport):
    """An API of three operations, in process."""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        status, told = self.told(request.url.path, await request.aread() or None)
        return httpx.Response(status, json=told)

    @staticmethod
    def told(path: str, sent: bytes | None) -> tuple[int, Any]:
        if sent is not None:
            return 201, {"id": 7, **json.loads(sent)}
        if path.endswith("/orders"):
            return 200, {"data": [{"id": n, "state": "open", "note": None} for n in range(3)]}
        return 200, {"id": int(path.rsplit("/", 1)[1]), "state": "open", "note": None}


def recorded(
    client: httpx.Client, log: list[dict[str, Any]], method: str, path: str, body: Any = None, at: str = BASE_URL
) -> None:
    """Ask through `client`, and record it as if `at` had been asked without a gateway."""
    answer = client.request(method, path, json=body)
    assert answer.is_success, answer.text
    sent = answer.request
    log.append(
        {
            "api": "shop",
            "method": method,
            "url": at + path,
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
    with httpx.Client(transport=door, base_url=BASE_URL) as client:
        for n in range(first, 13, step):
            recorded(client, log, "GET", f"/orders/{n}")
            recorded(client, log, "POST", "/orders", {"sku": f"ring-{n}", "count": n})
        recorded(client, log, "GET", "/orders")
    recording.write_text("".join(f"{json.dumps(line)}\n" for line in log))


def learned_from(recordings: list[Path], data: Path, base_url: str = BASE_URL) -> Any:
    words = ["--upstream", "shop", "--base-url", base_url, "--data", str(data)]
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


class Answering(BaseHTTPRequestHandler):
    """The same API on a socket, and a recording of what it was asked."""

    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self._answer(Shop.told(self.path, None))

    def do_POST(self) -> None:
        self._answer(Shop.told(self.path, self.rfile.read(int(self.headers["Content-Length"]))))

    def _answer(self, told: tuple[int, Any]) -> None:
        body = json.dumps(told[1]).encode()
        self.send_response(told[0])
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@pytest.mark.slow
def test_two_served_gateways_learn_together_what_a_shuffled_recording_of_both_teaches(
    data: Path, tmp_path: Path
) -> None:
    shop = ThreadingHTTPServer(("127.0.0.1", 0), Answering)
    threading.Thread(target=shop.serve_forever, daemon=True).start()
    base_url = f"http://127.0.0.1:{shop.server_port}/v1"
    log: list[dict[str, Any]] = []
    with Serving({"shop": base_url}, data) as one, Serving({"shop": base_url}, data) as other:
        for first, served_by in enumerate((one, other), 1):
            with httpx.Client(base_url=f"{served_by.url}/shop", timeout=PATIENCE) as client:
                for n in range(first, 25, 2):
                    recorded(client, log, "GET", f"/orders/{n}", at=base_url)
                    recorded(client, log, "POST", "/orders", {"sku": f"ring-{n}", "count": n}, at=base_url)
                recorded(client, log, "GET", "/orders", at=base_url)
        one.terminate()
        other.terminate()
    shop.shutdown()
    random.Random(7).shuffle(log)
    recording = tmp_path / "shop.jsonl"
    recording.write_text("".join(f"{json.dumps(line)}\n" for line in log))

    live = contract(data)

    assert set(live["paths"]) == {"/orders", "/orders/{order_id}"}
    assert live["components"]["schemas"].keys() >= {"Order"}
    assert learned_from([recording], tmp_path / "elsewhere", base_url) == live

"""What the running gateway learns from its traffic is what `gimbal learn` learns from a recording of it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import httpx

import gateway
from tests.hostile.serving import PATIENCE, gimbal


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
    answer = client.request(method, f"https://shop.example/v1{path}", json=body)
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


def contract(data: Path) -> Any:
    told = subprocess.run(
        gimbal("contracts", "shop", "--openapi", "--data", str(data)),
        capture_output=True,
        check=True,
        timeout=PATIENCE,
    )
    return json.loads(told.stdout)


def test_traffic_through_the_gateway_and_its_recording_yield_the_same_contract(data: Path, tmp_path: Path) -> None:
    log: list[dict[str, Any]] = []
    door = gateway.Transport({"shop": "https://shop.example/v1"}, data=data, transports={"shop": Shop()})
    with httpx.Client(transport=door) as client:
        for n in range(1, 13):
            recorded(client, log, "GET", f"/orders/{n}")
            recorded(client, log, "POST", "/orders", {"sku": f"ring-{n}", "count": n})
        recorded(client, log, "GET", "/orders")
    recording = tmp_path / "shop.jsonl"
    recording.write_text("".join(f"{json.dumps(line)}\n" for line in log))
    live = contract(data)

    elsewhere = tmp_path / "elsewhere"
    where = ["--upstream", "shop", "--base-url", "https://shop.example/v1", "--data", str(elsewhere)]
    subprocess.run(gimbal("learn", str(recording), *where), capture_output=True, check=True, timeout=PATIENCE)

    assert set(live["paths"]) == {"/orders", "/orders/{order_id}"}
    assert contract(elsewhere) == live

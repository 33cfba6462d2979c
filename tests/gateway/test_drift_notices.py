"""What changed at an upstream is told to a webhook: through a real gateway, signed, once, and across restarts."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import httpx
import pytest

sys.path.insert(0, str(Path(__file__).parent))

from test_callbacks import SECRET, Hook, hooked

from gateway import learner
from gateway.changes import Changes, judge
from gateway.compose import open_contracts, open_gateway
from gateway.contracts import RedisContracts
from gateway.problems import LedgerUnavailable
from gateway.settings import load
from gateway.transport import AsyncTransport


@pytest.fixture(autouse=True)
def prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(learner, "FLUSH", 0.05)


def customer(number: int, *, renamed: bool) -> dict[str, Any]:
    return {
        "id": f"cus_{number:05}",
        ("full_name" if renamed else "name"): f"Person {number * 37}",
        "age": 20 + number,
    }


class Shop:
    """An upstream whose field is renamed when `renamed` is set."""

    renamed = False

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while head := await reader.readuntil(b"\r\n\r\n"):
                number = int(head.split()[1].rpartition(b"/")[2]) - 700000
                body = json.dumps(customer(number, renamed=self.renamed)).encode()
                kind = b"Content-Type: application/json\r\n"
                writer.write(b"HTTP/1.1 200 OK\r\n%sContent-Length: %d\r\n\r\n%s" % (kind, len(body), body))
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


def lived(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 40))


def configured(folder: Path, hook: Hook, shop: str, store: str) -> Path:
    file = folder / "gimbal.toml"
    file.write_text(
        f'[store]\nurl = "{store}"\n[drift.default]\nurl = "{hook.url}"\nsecret = "{SECRET}"\n'
        f'[upstreams.shop]\nbase_url = "{shop}"\n'
    )
    return file


async def visited(file: Path, folder: Path, shop: Shop, *, renamed: bool, until: Hook | None = None) -> None:
    """Live a gateway of its own: ask for customers, wait for the notice if one is due, and end."""
    transport = AsyncTransport(config=file, data=folder)
    async with httpx.AsyncClient(transport=transport) as client:
        shop.renamed = renamed
        for number in range(24):
            answer = await client.get(f"http://shop/customers/{700000 + number % 12}")
            assert answer.status_code == 200
        if until is not None:
            await until.until(1)


def test_a_change_is_told_once_by_whichever_gateway_runs(store_url: str, tmp_path: Path) -> None:
    async def work() -> None:
        shop = Shop()
        server = await asyncio.start_server(shop.serve, "127.0.0.1", 0)
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, hooked() as hook:
            file = configured(tmp_path, hook, base, store_url)
            await visited(file, tmp_path, shop, renamed=False)
            assert hook.notices == []

            await visited(file, tmp_path, shop, renamed=True, until=hook)
            await visited(file, tmp_path, shop, renamed=True)

            ((headers, told),) = hook.notices
            change = told["data"]["change"]
            assert (told["type"], told["data"]["upstream"]) == ("drift.found", "shop")
            assert (change["kind"], change["before"], change["after"]) == ("field-renamed", "/name", "/full_name")
            assert change["message"].startswith("GET /customers/{customer_id}: /name is called /full_name now")
            assert len(headers["webhook-id"]) > 16

    lived(work)


def test_who_dies_between_handing_over_and_noting_it_repeats_nothing(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work() -> None:
        shop = Shop()
        server = await asyncio.start_server(shop.serve, "127.0.0.1", 0)
        base = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        async with server, hooked() as hook:
            file = configured(tmp_path, hook, base, store_url)
            settings = load(file, {("data",): ("--data", str(tmp_path))})
            await visited(file, tmp_path, shop, renamed=False)

            async def dies(*_: object) -> None:
                raise LedgerUnavailable("it died here")

            with monkeypatch.context() as broken:
                broken.setattr("gateway.drift_notices.amend", dies)
                await visited(file, tmp_path, shop, renamed=True)
            async with open_gateway(settings), open_contracts(settings) as contracts, asyncio.timeout(20):
                await hook.until(1)
                while not all(one.notified for one in (await judged(contracts)).events):
                    await asyncio.sleep(0.01)

            assert [told["type"] for _, told in hook.notices] == ["drift.found"]

    lived(work)


async def judged(contracts: RedisContracts) -> Changes:
    changes = await judge(contracts, "shop")
    assert changes is not None and changes.events
    return changes

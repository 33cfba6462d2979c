"""Contracts in a real store: added by many, read as one, kept in revisions, never mixed up."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "discovery"))

import redis
from shop import traffic
from typer.testing import CliRunner

from discovery.contract import Contract
from discovery.openapi import document
from discovery.traffic import Evidence
from gateway.__main__ import app
from gateway.commands.against import baseline_in
from gateway.contracts import LONG, REVISIONS, RedisContracts
from gateway.learner import revise
from gateway.link import Link
from gateway.problems import ConfigError, LedgerUnavailable
from gateway.vault import Vault

KEY = bytes(range(32))


@asynccontextmanager
async def opened(url: str, key: bytes = KEY) -> AsyncIterator[RedisContracts]:
    contracts = RedisContracts(Link(url), Vault([key]))
    try:
        yield contracts
    finally:
        await contracts.aclose()


def run(url: str, live: Callable[[RedisContracts], Awaitable[None]]) -> None:
    async def go() -> None:
        async with opened(url) as contracts:
            await live(contracts)

    asyncio.run(go())


def seen(rounds: slice = slice(None)) -> Evidence:
    evidence = Evidence(KEY)
    for one in traffic(rounds=12)[rounds]:
        evidence.fold(one)
    return evidence


def test_what_replicas_add_apart_is_read_as_one(store_url: str) -> None:
    async def live(contracts: RedisContracts) -> None:
        async with opened(store_url) as other:
            await asyncio.gather(
                contracts.add("shop", seen(slice(0, None, 2)).state()),
                other.add("shop", seen(slice(1, None, 2)).state()),
            )

            assert await contracts.evidence("shop") == await other.evidence("shop") == seen().state()

    run(store_url, live)


def test_many_pieces_are_summed_up_and_nothing_is_lost_or_counted_twice(store_url: str) -> None:
    pieces = LONG + 3

    async def live(contracts: RedisContracts) -> None:
        async with opened(store_url) as other:
            await asyncio.gather(
                *(c.add("shop", seen(slice(n, n + 1)).state()) for n in range(pieces) for c in (contracts, other))
            )

        whole = await contracts.evidence("shop")

        assert whole is not None and Evidence.load(whole).count == 2 * pieces

    run(store_url, live)
    with redis.Redis.from_url(store_url) as client:
        assert client.llen("gimbal:{c/shop}:seen") <= LONG


def test_a_source_is_added_once(store_url: str) -> None:
    async def live(contracts: RedisContracts) -> None:
        await contracts.add("shop", seen().state(), source="file-1")
        await contracts.add("shop", seen().state(), source="file-1")

        whole = await contracts.evidence("shop")

        assert await contracts.learned("shop", "file-1") and not await contracts.learned("shop", "file-2")
        assert whole == seen().state()

    run(store_url, live)


def test_a_revision_is_made_only_when_the_contract_says_something_new(store_url: str) -> None:
    async def live(contracts: RedisContracts) -> None:
        await contracts.add("shop", seen(slice(0, 40)).state())
        first, _ = await revise(contracts, "shop", "https://shop.example", 1.0)
        again, _ = await revise(contracts, "shop", "https://shop.example", 2.0)
        await contracts.override("shop", "/v1/users/{who}")
        renamed, _ = await revise(contracts, "shop", "https://shop.example", 3.0)

        assert (first, again, renamed) == (1, 1, 2)
        assert [(number, at) for number, at, _ in await contracts.revisions("shop")] == [(1, 1.0), (2, 3.0)]
        before, after = await contracts.revision("shop", 1), await contracts.revision("shop")
        assert before is not None and after is not None
        assert "/v1/users/{user_login}" in before.document["paths"]
        assert "/v1/users/{who}" in after.document["paths"]

    run(store_url, live)


def test_a_replica_that_read_before_another_added_does_not_undo_its_revision(store_url: str) -> None:
    async def live(contracts: RedisContracts) -> None:
        assert await contracts.revise("shop", "of the whole", 2.0, {"paths": {}}, behind=20) == 1
        assert await contracts.revise("shop", "of half of it", 3.0, {"paths": {}}, behind=10) == 1
        assert await contracts.revise("shop", "corrected by a person", 4.0, {"paths": {}}, behind=20) == 2

    run(store_url, live)


def test_only_the_newest_revisions_are_kept(store_url: str) -> None:
    async def live(contracts: RedisContracts) -> None:
        for number in range(REVISIONS + 5):
            await contracts.revise("shop", f"digest-{number}", float(number), {"paths": {}})

        kept = await contracts.revisions("shop")

        assert [kept[0][0], kept[-1][0], len(kept)] == [6, REVISIONS + 5, REVISIONS]
        assert await contracts.revision("shop", 5) is None

    run(store_url, live)


def test_what_is_stored_is_sealed_and_expires(store_url: str) -> None:
    async def live(contracts: RedisContracts) -> None:
        await contracts.add("shop", seen().state(), source="x")
        await contracts.override("shop", "/v1/users/{who}")
        await revise(contracts, "shop", "", 1.0)

    run(store_url, live)

    with redis.Redis.from_url(store_url) as client:
        for key in client.keys("*"):
            assert client.ttl(key) > 86400
        assert b"quantity" not in b"".join(client.lrange("gimbal:{c/shop}:seen", 0, -1))


def test_another_key_opens_nothing_and_says_so(store_url: str) -> None:
    async def go() -> None:
        async with opened(store_url) as contracts:
            await contracts.add("shop", seen().state())
        async with opened(store_url, bytes(32)) as stranger:
            with pytest.raises(LedgerUnavailable):
                await stranger.evidence("shop")

    asyncio.run(go())


def test_forgetting_an_upstream_leaves_nothing(store_url: str) -> None:
    async def live(contracts: RedisContracts) -> None:
        await contracts.add("shop", seen().state(), source="x")
        await contracts.forget("shop")

        assert await contracts.evidence("shop") is None
        assert await contracts.upstreams() == []

    run(store_url, live)


# The commands


def recorded(folder: Path) -> Path:
    file = folder / "traffic.jsonl"
    with file.open("w") as lines:
        for one in traffic(rounds=12):
            assert not hasattr(one.answer, "phase")
            line = {
                "api": "shop",
                "method": one.request.method,
                "url": "https://shop.example" + one.request.target.decode(),
                "request_headers": {k.decode(): v.decode() for k, v in one.request.headers},
                "request_body": one.request.body.decode() or None,
                "status": one.answer.status,  # type: ignore[union-attr]
                "response_headers": {k.decode(): v.decode() for k, v in one.answer.headers},  # type: ignore[union-attr]
                "response_body": one.answer.body.decode() or None,  # type: ignore[union-attr]
                "source": "test",
            }
            lines.write(json.dumps(line) + "\n")
        lines.write("{broken\n")
    return file


def gimbal(*words: str, url: str, folder: Path) -> str:
    told = CliRunner().invoke(app, [*words, "--store", url, "--data", str(folder)], env={"COLUMNS": "200"})
    assert told.exit_code == 0, told.output + str(told.exception)
    return told.stdout


def test_learning_a_recording_twice_counts_it_once_and_says_so(store_url: str, tmp_path: Path) -> None:
    file = str(recorded(tmp_path))

    first = json.loads(gimbal("learn", file, "--upstream", "shop", "--json", url=store_url, folder=tmp_path))
    again = json.loads(gimbal("learn", file, "--upstream", "shop", "--json", url=store_url, folder=tmp_path))

    assert first["learned"] == len(traffic(rounds=12)) and first["revision"] == 1
    assert sum(first["skipped"].values()) == 1
    assert again["learned"] == 0 and again["operations"] == first["operations"] > 8
    assert "learned before" in next(iter(again["skipped"]))


def test_a_contract_is_shown_explained_exported_and_corrected(store_url: str, tmp_path: Path) -> None:
    gimbal("learn", str(recorded(tmp_path)), "--upstream", "shop", url=store_url, folder=tmp_path)

    table = gimbal("contracts", "shop", url=store_url, folder=tmp_path)
    one = gimbal("contracts", "shop", "GET /v1/users/{x}", url=store_url, folder=tmp_path)
    told = json.loads(gimbal("contracts", "shop", "--openapi", url=store_url, folder=tmp_path))
    gimbal("contracts", "set", "shop", "/v1/users/{who}", url=store_url, folder=tmp_path)
    corrected = json.loads(gimbal("contracts", "shop", "--openapi", url=store_url, folder=tmp_path))
    names = gimbal("contracts", "--json", url=store_url, folder=tmp_path)

    assert "/v1/users/{user_login}/orders" in table
    assert "answers repeat it as 'login'" in one and "/login" in one
    assert "/v1/users/{user_login}" in told["paths"] and "/v1/users/{who}" in corrected["paths"]
    assert json.loads(names)["upstream"] == "shop"


def test_the_exported_contract_is_that_of_the_same_traffic(store_url: str, tmp_path: Path) -> None:
    gimbal("learn", str(recorded(tmp_path)), "--upstream", "shop", url=store_url, folder=tmp_path)

    told = json.loads(gimbal("contracts", "shop", "--openapi", url=store_url, folder=tmp_path))

    assert Contract(told).digest == Contract(document(seen(), "shop")).digest
    assert os.environ.get("GIMBAL_STORE") is None


def test_a_document_is_checked_before_it_is_handed_on(
    store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gimbal("learn", str(recorded(tmp_path)), "--upstream", "shop", url=store_url, folder=tmp_path)
    words = ["contracts", "shop", "--check", "--store", store_url, "--data", str(tmp_path)]

    fine = CliRunner().invoke(app, words)
    monkeypatch.setattr("discovery.openapi._REASONS", dict.fromkeys((200, 201, 204, 404), 7))
    broken = CliRunner().invoke(app, words)

    assert fine.exit_code == 0 and "shop: valid OpenAPI 3.1" in fine.output
    assert broken.exit_code != 0 and "7 is not of type 'string'" in str(broken.output) + str(broken.exception)


def test_traffic_is_held_against_a_vendors_document(store_url: str, tmp_path: Path) -> None:
    gimbal("learn", str(recorded(tmp_path)), "--upstream", "shop", url=store_url, folder=tmp_path)
    own = json.loads(gimbal("contracts", "shop", "--openapi", url=store_url, folder=tmp_path))
    (tmp_path / "same.json").write_text(json.dumps(own))
    del own["paths"]["/v1/products/{product_sku}"]
    (tmp_path / "less.yaml").write_text(json.dumps(own))

    def against(file: str, *more: str) -> tuple[int, str]:
        words = ["contracts", "shop", "--against", str(tmp_path / file), *more]
        told = CliRunner().invoke(app, [*words, "--store", store_url, "--data", str(tmp_path)])
        return told.exit_code, told.stdout

    assert against("same.json") == (0, "")
    assert against("less.yaml") == (
        1,
        "lacks       DELETE /v1/products/{product_sku}: is not in the document (12x)\n"
        "lacks       GET /v1/products/{product_sku}: is not in the document (12x)\n",
    )
    assert json.loads(against("less.yaml", "--json")[1].splitlines()[0])["verdict"] == "lacks"


@pytest.mark.parametrize("text", ["[]", "{", "a: [", None, '{"paths": []}'])
def test_a_file_that_is_no_openapi_document_is_said_to_be_none(tmp_path: Path, text: str | None) -> None:
    file = tmp_path / "document.yaml"
    if text is not None:
        file.write_text(text)

    with pytest.raises(ConfigError, match=r"document\.yaml"):
        baseline_in(file)

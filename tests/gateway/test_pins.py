"""A workflow type keeps its shape while the upstream changes, over restarts, as loud as it is careful."""

from __future__ import annotations

import asyncio
import base64
import gzip
import json
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from discovery.drift_watch import Watch
from discovery.exchange import Exchange, Request, Response
from gateway.adapter import Adapter
from gateway.contracts import RedisContracts
from gateway.link import Link
from gateway.pins import pins_beside
from gateway.vault import Vault
from policies import pins
from policies.actions import Answered
from policies.ladder import Rung
from policies.rules import UpstreamRules

KEY = bytes(range(32))
JSON = ((b"Content-Type", b"application/json"), (b"Content-Length", b"0"))

Body = dict[str, Any]


def customer(number: int) -> Body:
    dice = random.Random(number)
    return {
        "id": 100_000 + number,
        "name": f"Ada {dice.randrange(10**6)}",
        "email": f"p{dice.randrange(10**8)}@example.com",
        "cents": dice.randrange(10_000, 99_999),
        "city": f"City {dice.randrange(10**5)}",
    }


class Shop:
    """An upstream that changes, a process of the gateway before it, and the store both outlive."""

    def __init__(self, url: str, adapt: Any = None) -> None:
        self.contracts = RedisContracts(Link(url), Vault([KEY]))
        self.store = pins_beside(RedisContracts(Link(url), Vault([KEY])))
        self.rules = UpstreamRules("shop", "https://shop.test/v1", adapt=adapt)
        self.change: Callable[[Body], Any] = lambda body: body
        self.looks = Watch(KEY)
        self.adapter = self.started()

    def started(self) -> Adapter:
        return Adapter(self.store, self.contracts, KEY, lambda _: self.rules)

    async def restart(self) -> None:
        await self.adapter.flush()
        await self.contracts.remember("shop", self.looks.state())  # as the learner does
        self.looks = Watch(KEY)
        self.adapter = self.started()
        await self.adapter.refresh("shop")

    async def ask(
        self, number: int, instance: str = "sync-1", headers: Any = JSON, type: str = "sync"
    ) -> Answered:
        request = Request("GET", f"/v1/customers/{100_000 + number}".encode())
        body = json.dumps(self.change(customer(number))).encode()
        if any(name == b"Content-Encoding" for name, _ in headers):
            body = gzip.compress(body)
        response = Response(200, headers, body)
        self.looks.fold(Exchange("shop", request, response, 0.0), "/v1")
        answered = await self.adapter.adapt_answer("shop", (type, instance), request, response, 0.0)
        await self.adapter.learn()
        return answered

    async def poll(self, instance: str = "sync-1") -> list[Answered]:
        return [await self.ask(number, instance) for number in range(12)]

    async def pin(self) -> pins.Pin:
        await self.adapter.flush()
        (found,) = await self.store.all("shop")
        return found

    async def edit(self, turn: Callable[[pins.Pin], pins.Pin]) -> None:
        await self.store.keep("shop", turn(await self.pin()))
        await self.restart()


@pytest.fixture
def run(store_url: str) -> Callable[..., None]:
    def go(story: Callable[[Shop], Awaitable[None]], **settings: Any) -> None:
        async def live() -> None:
            shop = Shop(store_url, **settings)
            await shop.restart()
            try:
                await story(shop)
            finally:
                await shop.contracts.aclose()
                await shop.store.aclose()

        asyncio.run(live())

    return go


def body_of(answered: Answered) -> Any:
    return json.loads(answered.response.body)


def renamed(body: Body) -> Body:
    return {"mail" if name == "email" else name: value for name, value in body.items()}


def test_nothing_pinned_nothing_done(run: Any) -> None:
    async def story(shop: Shop) -> None:
        (first, *_) = await shop.poll()

        assert first == Answered(first.response)
        assert (await shop.pin()).complete

    run(story)


def test_a_renamed_field_is_back_by_the_tenth_answer_and_says_so(run: Any) -> None:
    async def story(shop: Shop) -> None:
        await shop.poll()
        await shop.poll()
        shop.change = renamed

        answers = await shop.poll()

        restored = [body_of(answer) == customer(number) for number, answer in enumerate(answers)]
        assert restored.index(True) < 10
        assert all(restored[restored.index(True) :])
        last = answers[-1]
        assert (last.adapted, last.degraded) == (1, 0)
        assert last.response.header(b"content-length") == str(len(last.response.body)).encode()
        assert last.line == {
            "side": "answer",
            "of": "sync: GET /customers/{int} 200",
            "edits": [{"edit": "rename", "before": "/email", "after": "/mail"}],
            "degraded": [],
            "rung": "canary",
            "why": "/email comes as /mail",
        }

    run(story)


def test_a_workflow_lives_through_change_upon_change_and_restarts(run: Any) -> None:
    """Each change comes on top of those before it; the workflow reads what it read on its first day."""
    changes: list[Callable[[Body], Any]] = [
        renamed,
        lambda body: {**renamed(body), "cents": str(body["cents"])},
        lambda body: {"data": {**renamed(body), "cents": str(body["cents"])}},
    ]

    async def story(shop: Shop) -> None:
        await shop.poll()
        await shop.poll()
        for change in changes:
            await shop.restart()
            shop.change = change
            await shop.poll()
            await shop.restart()

            answers = await shop.poll()

            assert [body_of(answer) for answer in answers] == [customer(number) for number in range(12)]

    run(story)


def test_a_removed_field_stays_absent_is_counted_and_stops_where_it_is_required(run: Any) -> None:
    async def story(shop: Shop) -> None:
        await shop.poll()
        await shop.poll()
        shop.change = lambda body: {name: value for name, value in body.items() if name != "email"}
        await shop.poll()

        answer = await shop.ask(3)
        assert "email" not in body_of(answer)
        assert (answer.adapted, answer.degraded, answer.broken) == (0, 1, ())

        await shop.edit(lambda pin: pins.replace(pin, required=frozenset({"/email"})))
        assert (await shop.ask(3)).broken == ("/email",)

    run(story)


def test_it_holds_for_all_after_it_did_well_for_two_instances(run: Any) -> None:
    async def story(shop: Shop) -> None:
        await shop.poll()
        await shop.poll()
        shop.change = renamed
        await shop.poll("sync-1")
        assert (await shop.pin()).standing.rung is Rung.CANARY

        await shop.poll("sync-2")

        assert (await shop.pin()).standing.rung is Rung.AUTO
        assert body_of(await shop.ask(1, "sync-3")) == customer(1)

    run(story)


@pytest.mark.parametrize("adapt", ["observe", "suggest"])
def test_where_it_is_not_wanted_answers_pass_as_they_came(run: Any, adapt: str) -> None:
    async def story(shop: Shop) -> None:
        await shop.poll()
        await shop.poll()
        shop.change = renamed
        answers = await shop.poll()

        assert [body_of(answer) for answer in answers] == [renamed(customer(number)) for number in range(12)]

        await shop.edit(pins.approved)
        accepted = body_of(await shop.ask(1))
        assert accepted == (customer(1) if adapt == "suggest" else renamed(customer(1)))

    run(story, adapt=adapt)


def test_a_person_holds_the_pin_or_takes_the_new_shape(run: Any) -> None:
    async def story(shop: Shop) -> None:
        await shop.poll()
        await shop.poll()
        shop.change = renamed
        await shop.poll()

        await shop.edit(pins.held)
        assert body_of(await shop.ask(1)) == renamed(customer(1))
        await shop.edit(pins.approved)
        assert body_of(await shop.ask(1)) == customer(1)
        await shop.edit(pins.adopted)
        answer = await shop.ask(1)
        assert body_of(answer) == renamed(customer(1)) and not answer.degraded

    run(story)


def test_another_type_of_workflow_has_a_pin_of_its_own(run: Any) -> None:
    async def story(shop: Shop) -> None:
        await shop.poll()
        await shop.poll()
        shop.change = renamed
        await shop.poll()

        for number in range(12):
            answer = await shop.ask(number, type="report")

        assert body_of(answer) == renamed(customer(11))

    run(story)


def test_a_compressed_answer_is_adapted_and_sent_plain(run: Any) -> None:
    async def story(shop: Shop) -> None:
        await shop.poll()
        await shop.poll()
        shop.change = renamed
        await shop.poll()

        answer = await shop.ask(2, headers=(*JSON, (b"Content-Encoding", b"gzip")))

        assert body_of(answer) == customer(2)
        assert answer.response.header(b"content-encoding") is None

    run(story)


def test_pins_are_sealed_and_expire(run: Any, store_url: str) -> None:
    async def story(shop: Shop) -> None:
        await shop.poll()
        await shop.pin()
        link = Link(store_url)

        kept = await link.do("HVALS", "gimbal:{c/shop}:pins")
        expires = await link.do("TTL", "gimbal:{c/shop}:pins")
        await link.aclose()

        assert b"email" not in b"".join(kept)
        assert expires > 0

    run(story)


def gimbal(url: str, *words: str) -> Any:
    from typer.testing import CliRunner

    from gateway.__main__ import app

    return CliRunner().invoke(app, ["pins", "shop", *words, "--store", url])


def test_the_command_shows_pins_and_takes_a_persons_word(
    run: Any, store_url: str, tmp_path: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("GIMBAL_KEY", base64.b64encode(KEY).decode())
    monkeypatch.setenv("GIMBAL_DATA", str(tmp_path))

    async def story(shop: Shop) -> None:
        await shop.poll()
        await shop.poll()
        shop.change = lambda body: {**renamed(body), "city": {"name": "x"}}
        await shop.poll()
        await shop.adapter.flush()

    run(story)
    shown = gimbal(store_url)
    assert "GET /customers/{int} rename /email: is made. " in shown.stdout
    assert "GET /customers/{int} lost /city: is counted. " in shown.stdout

    held = gimbal(store_url, "--hold", "GET /customers/{int}", "--json")
    assert json.loads(held.stdout)["halted"] == "a person said so"

    required = gimbal(store_url, "--require", "/city", "--operation", "GET /customers/{int}", "--json")
    assert json.loads(required.stdout)["required"] == ["/city"]

    accepted = gimbal(store_url, "--accept", "GET /customers/{int}", "--json")
    assert accepted.exit_code == 0
    assert json.loads(accepted.stdout)["edits"] == []
    assert "/mail" in json.loads(accepted.stdout)["places"]

    assert gimbal(store_url, "--accept", "GET /nothing").exit_code != 0
    assert gimbal(store_url, "--accept", "x", "--hold", "y").exit_code == 2

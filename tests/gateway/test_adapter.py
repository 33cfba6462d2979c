"""Answers that are adapted, through a gateway that runs: what is delivered, kept, replayed, and taken back."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from fixtures.upstreams.drifting import Drifting, Tree, customer
from gateway import AsyncTransport, adapter, shelf
from gateway.pins import pins_beside
from gateway.ports import Entry
from gateway.views import call_view
from policies import pins

CUSTOMERS = [1000 + number for number in range(12)]


def renamed(body: Tree) -> Tree:
    return {"mail" if name == "email" else name: value for name, value in body.items()}


def without_email(body: Tree) -> Tree:
    return {name: value for name, value in body.items() if name != "email"}


class World:
    """A gateway in this process, on a store that others may share, and an upstream that moves."""

    def __init__(self, upstream: Drifting, transport: AsyncTransport) -> None:
        self.upstream = upstream
        self.transport = transport
        self.client = httpx.AsyncClient(transport=transport, base_url=upstream.url)

    async def get(self, number: int, workflow: str = "sync-1", **headers: str) -> httpx.Response:
        asking = {"Workflow-Id": workflow, "Workflow-Type": "sync", **headers} if workflow else headers
        return await self.client.get(f"/customers/{number}", headers=asking)

    async def read(self, workflow: str = "sync-1") -> list[httpx.Response]:
        return [await self.get(number, workflow) for number in CUSTOMERS]

    async def pinned(self) -> None:
        for _ in range(2):
            await self.read()
        await self.adapter.flush()

    async def drifted(self, change: Callable[[Tree], Any] = renamed) -> list[httpx.Response]:
        await self.pinned()
        self.upstream.answers = change
        return await self.read()

    async def entry(self, call: str) -> Entry:
        assert self.transport._gateway is not None
        await asyncio.gather(*self.transport._gateway.gate.runner._background)
        entry = await self.transport._gateway.ledger.entry(call)
        assert entry is not None
        return entry

    async def decide(self, turn: Callable[[pins.Pin], pins.Pin]) -> None:
        """Do what `gimbal pins` does: write over what is in the store."""
        await self.adapter.flush()
        assert self.transport._gateway is not None
        store = pins_beside(self.transport._gateway.contracts)
        for pin in await store.all("shop"):
            await store.keep("shop", turn(pin))

    @property
    def adapter(self) -> adapter.Adapter:
        assert self.transport._gateway is not None
        return self.transport._gateway.adapter


Play = Callable[..., Awaitable[None]]


@pytest.fixture
def upstream() -> Iterator[Drifting]:
    with Drifting() as drifting:
        yield drifting


@pytest.fixture
def play(
    upstream: Drifting, store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Play], None]:
    monkeypatch.setattr(shelf, "FLUSH", 0.05)

    def run(scene: Play, worlds: int = 1) -> None:
        async def live() -> None:
            made = [
                AsyncTransport({"shop": upstream.url}, store=store_url, data=str(tmp_path)) for _ in range(worlds)
            ]
            try:
                await scene(*(World(upstream, transport) for transport in made))
            finally:
                for transport in made:
                    await transport.aclose()

        asyncio.run(live())

    return run


async def until(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.01)


def test_a_workflow_reads_what_it_was_written_for_by_the_tenth_drifted_answer(play):
    async def scene(world: World) -> None:
        answers = await world.drifted()

        whole = [answer.json() == customer(number) for number, answer in zip(CUSTOMERS, answers, strict=True)]
        assert whole.index(True) < 10 and all(whole[whole.index(True) :])
        assert answers[-1].headers["Gimbal-Outcome"] == "success;attempts=1;adapted=1"

    play(scene)


def test_who_brings_no_workflow_gets_the_answer_as_it_came(play):
    async def scene(world: World) -> None:
        await world.drifted()

        answer = await world.get(1000, "")

        assert answer.json() == renamed(customer(1000))
        assert answer.headers["Gimbal-Outcome"] == "success;attempts=1"

    play(scene)


def test_what_was_changed_is_told_with_the_answer_as_it_came(play):
    async def scene(world: World) -> None:
        answer = (await world.drifted())[-1]

        view = call_view(await world.entry(answer.headers["Gimbal-Call"]))

        (line,) = view["adaptations"]
        assert line["edits"] == [{"edit": "rename", "before": "/email", "after": "/mail"}]
        assert line["why"] == "/email comes as /mail"
        assert view["response"]["body"] == customer(1011)
        assert view["original"]["body"] == renamed(customer(1011))

    play(scene)


def test_a_replay_gives_what_was_delivered_also_when_nothing_is_adapted_any_more(play):
    async def scene(world: World) -> None:
        for number in range(24):
            await order(world, f"o{number}")
        world.upstream.answers = lambda made: {**made, "qty": str(made["qty"])}
        first = [await order(world, f"p{number}") for number in range(8)][-1]
        await world.decide(pins.approved)
        await until(lambda: is_adapted(world))
        adapted = await order(world, "adapted")

        await world.decide(pins.held)
        again = await order(world, "adapted")

        assert isinstance(first.json()["qty"], str)
        assert adapted.json()["qty"] == 2
        assert again.content == adapted.content
        assert again.headers["Gimbal-Outcome"].startswith("success;attempts=1;replayed;adapted=1")
        kept = await world.entry(again.headers["Gimbal-Call"])
        assert kept.original is not None and kept.original.response is not None
        assert b'"qty": "2"' in kept.original.response.body

    async def is_adapted(world: World) -> bool:
        world.upstream.orders.clear()
        answer = await order(world, f"x{len(world.upstream.requests)}")
        return isinstance(answer.json()["qty"], int)

    async def order(world: World, step: str) -> httpx.Response:
        asking = {"Workflow-Id": "sync-1", "Workflow-Type": "sync", "Workflow-Step": step}
        return await world.client.post("/orders", json={"customer_id": 1000, "qty": 2}, headers=asking)

    play(scene)


def test_a_safe_call_stops_where_a_required_field_is_lacking_and_says_which(play):
    async def scene(world: World) -> None:
        await world.pinned()
        await world.decide(lambda pin: pins.required(pin, "/email"))
        await until(lambda: knows(world))
        world.upstream.answers = without_email

        answer = await world.get(1000)

        assert answer.status_code == 502
        problem = answer.json()
        assert problem["type"] == "/-/problems/contract-broken"
        assert problem["fields"] == ["/email"]
        assert "City" in problem["upstream"]["body"]

    async def knows(world: World) -> bool:
        return all(pin.required for pin in world.adapter._pins["shop"].values())

    play(scene)


def test_an_effect_that_took_place_is_never_told_as_an_error(play):
    async def scene(world: World) -> None:
        async def order(step: str) -> httpx.Response:
            asking = {"Workflow-Id": "sync-1", "Workflow-Type": "sync", "Workflow-Step": step}
            return await world.client.post("/orders", json={"customer_id": 1000, "qty": 2}, headers=asking)

        for number in range(12):
            await order(f"o{number}")
        await world.decide(lambda pin: pins.required(pin, "/id"))
        await until(lambda: knows(world))
        world.upstream.answers = lambda made: {"customer_id": made["customer_id"], "qty": made["qty"]}

        answer = await order("last")

        assert answer.status_code == 201
        assert answer.headers["Gimbal-Outcome"].startswith("success;attempts=1;degraded=1")
        assert (await order("last")).headers["Gimbal-Outcome"].startswith("success;attempts=1;replayed;degraded=1")

    async def knows(world: World) -> bool:
        return any(pin.required for pin in world.adapter._pins["shop"].values())

    play(scene)


def test_what_one_gateway_learned_the_other_makes_and_a_persons_word_stops_both(play):
    async def scene(one: World, other: World) -> None:
        await other.get(1, "")
        await one.drifted()

        async def adapts(world: World) -> bool:
            return (await world.get(1000, "sync-2")).json() == customer(1000)

        async def passes(world: World) -> bool:
            return (await world.get(1000, "sync-2")).json() == renamed(customer(1000))

        await until(lambda: adapts(other))
        await one.decide(pins.held)

        await until(lambda: passes(one))
        await until(lambda: passes(other))

    play(scene, worlds=2)


def test_an_adaptation_after_which_the_workflows_calls_are_refused_is_taken_back(play):
    async def scene(world: World) -> None:
        async def order(workflow: str) -> httpx.Response:
            asking = {"Workflow-Id": workflow, "Workflow-Type": "sync", "Workflow-Step": "order"}
            return await world.client.post("/orders", json={"email": "x"}, headers=asking)

        await world.pinned()  # from here on it is seen how calls fare without an adaptation
        await world.drifted()
        assert (await world.get(1000)).json() == customer(1000)

        world.upstream.refuses = lambda body: {"error": "email is not valid"}
        for number in range(8):
            await world.get(1000)
            await order("sync-1")
            await order(f"other-{number}")

        plain = await world.get(1000)
        assert plain.json() == renamed(customer(1000))
        assert plain.headers["Gimbal-Outcome"].startswith("success;attempts=1;degraded=1")
        (pin,) = [pin for pin in world.adapter._pins["shop"].values() if pin.operation.startswith("GET")]
        assert pin.standing.stopped and "adapted calls failed" in pin.standing.halt

    play(scene)


def test_answers_that_come_fast_are_judged_before_they_are_delivered(play):
    """However many are under way at once: by the tenth, the workflow reads what it was written for."""

    async def scene(world: World) -> None:
        await world.pinned()
        await asyncio.gather(*(world.get(number) for number in CUSTOMERS * 4))
        world.upstream.answers = renamed

        answers = await asyncio.gather(*(world.get(number) for number in CUSTOMERS * 2))

        assert sum("mail" in answer.json() for answer in answers) < 10

    play(scene)


def test_the_word_of_a_person_holds_over_what_a_process_has_learned_meanwhile():
    pin = pins.Pin("sync", "GET /customers/{int}", 200)

    busier = replace(pin, shape=replace(pin.shape, answers=9))
    decided = pins.held(pin)

    assert pins.ahead(busier, decided) is decided
    assert pins.ahead(decided, busier) is decided
    assert pins.ahead(pin, busier) is busier

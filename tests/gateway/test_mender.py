"""Requests that are mended, through a gateway that runs: once, from evidence, and kept before they are sent."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from fixtures.upstreams.drifting import Drifting, Tree
from gateway import AsyncTransport, shelf
from gateway.views import call_view
from policies import lessons
from tests.gateway.test_adapter import World, until


def wrong(pointer: str, message: str, code: str = "invalid") -> Tree:
    return {"errors": [{"pointer": pointer, "code": code, "message": message}]}


def wants_quantity(order: Tree) -> Tree | None:
    """The upstream has renamed a field, and says so."""
    if "qty" in order:
        return wrong("/qty", "qty was renamed to quantity", "unknown_field")
    return None if "quantity" in order else wrong("/quantity", "quantity is required", "missing")


def wants_email(order: Tree) -> Tree | None:
    """The upstream began to require a field that it was never sent."""
    return None if order.get("email") else wrong("/email", "email is required", "missing")


class Shop(World):
    """Orders of one workflow instance, or of several."""

    async def order(self, step: str, workflow: str = "w-1", **body: Any) -> httpx.Response:
        asking = {"Workflow-Id": workflow, "Workflow-Type": "sync", "Workflow-Step": step}
        return await self.client.post("/orders", json=body, headers=asking if workflow else {})

    @property
    def known(self) -> lessons.Lessons:
        assert self.transport._gateway is not None
        (one,) = self.transport._gateway.mender._lessons["shop"].values()
        return one

    async def edit(self, turn: Callable[[lessons.Lessons], lessons.Lessons]) -> None:
        assert self.transport._gateway is not None
        mender = self.transport._gateway.mender
        await mender.flush()
        for one in await mender.store.all("shop"):
            await mender.store.keep("shop", turn(one))
        word = self.known.word

        async def heard() -> bool:
            return self.known.word > word

        await until(heard)


@pytest.fixture
def upstream() -> Iterator[Drifting]:
    with Drifting() as drifting:
        yield drifting


@pytest.fixture
def play(upstream: Drifting, store_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(shelf, "FLUSH", 0.05)

    def run(scene: Any, config: str = "", worlds: int = 1) -> None:
        file = tmp_path / "gimbal.toml"
        file.write_text(f'[upstreams.shop]\nbase_url = "{upstream.url}"\n{config}')

        async def live() -> None:
            made = [AsyncTransport(store=store_url, data=str(tmp_path), config=str(file)) for _ in range(worlds)]
            try:
                await scene(*(Shop(upstream, transport) for transport in made))
            finally:
                for transport in made:
                    await transport.aclose()

        asyncio.run(live())

    return run


def bodies(upstream: Drifting) -> list[Tree]:
    return [body for method, _, body, _ in upstream.requests if method == "POST"]


def test_a_field_that_the_refusal_says_is_renamed_goes_out_renamed_once(play, upstream):
    async def scene(shop: Shop) -> None:
        await shop.order("before", qty=1)
        upstream.refuses = wants_quantity

        answer = await shop.order("after", qty=2)
        again = await shop.order("after", qty=2)

        assert answer.status_code == 201
        assert answer.headers["Gimbal-Outcome"] == "success;attempts=2;adapted=1"
        assert bodies(upstream) == [{"qty": 1}, {"qty": 2}, {"quantity": 2}]
        assert again.content == answer.content
        assert again.headers["Gimbal-Outcome"] == "success;attempts=2;replayed;adapted=1"

    play(scene)


def test_a_mend_is_told_with_what_was_asked_and_what_was_sent(play, upstream):
    async def scene(shop: Shop) -> None:
        upstream.refuses = wants_quantity

        answer = await shop.order("after", qty=2)
        view = call_view(await shop.entry(answer.headers["Gimbal-Call"]))

        assert view["request"]["body"] == {"qty": 2}
        assert view["sent"]["body"] == {"quantity": 2}
        (line,) = view["adaptations"]
        assert line["edits"] == [{"edit": "rename", "where": "body", "before": "/qty", "after": "/quantity"}]
        assert "the upstream said so" in line["why"]
        assert view["generation"] == 2

    play(scene)


def test_what_one_instance_taught_serves_the_next_without_a_failed_first_try_also_elsewhere(play, upstream):
    async def scene(one: Shop, other: Shop) -> None:
        await other.order("warm", workflow="")
        upstream.refuses = wants_quantity
        await one.order("after", "w-1", qty=2)

        async def spared() -> bool:
            before = len(upstream.requests)
            answer = await other.order(f"s{before}", "w-2", qty=3)
            assert answer.status_code == 201
            return len(upstream.requests) == before + 1

        await until(spared)
        assert bodies(upstream)[-1] == {"quantity": 3}

    play(scene, worlds=2)


def test_a_required_field_is_filled_with_what_this_instance_knows_of_the_very_thing(play, upstream):
    async def scene(shop: Shop) -> None:
        customer = (await shop.get(1000, "w-1")).json()
        await shop.entry((await shop.get(1000, "w-1")).headers["Gimbal-Call"])
        upstream.refuses = wants_email

        answer = await shop.order("order", customer_id=1000)

        assert answer.status_code == 201
        assert bodies(upstream)[-1] == {"customer_id": 1000, "email": customer["email"]}
        view = call_view(await shop.entry(answer.headers["Gimbal-Call"]))
        assert "answer of call" in view["adaptations"][0]["why"]

    play(scene)


def test_a_field_that_is_new_and_nowhere_known_is_asked_for_and_the_step_goes_on_with_it(play, upstream):
    async def scene(shop: Shop) -> None:
        await shop.order("before", customer_id=1000)
        upstream.refuses = wants_email

        stopped = await shop.order("order", customer_id=1000)
        supplied = await shop.order("order", customer_id=1000, email="ada@example.com")

        problem = stopped.json()
        assert (stopped.status_code, problem["type"]) == (422, "/-/problems/needs-input")
        assert [(field["pointer"], field["reason"]) for field in problem["fields"]] == [("/email", "missing")]
        assert problem["upstream"]["status"] == 422
        assert "email is required" in problem["upstream"]["body"]
        assert stopped.headers["Gimbal-Outcome"] == "validation;attempts=1"
        assert supplied.status_code == 201
        assert len(upstream.orders) == 2

    play(scene)


def test_a_workflows_own_mistake_is_its_to_see_as_the_upstream_said_it(play, upstream):
    async def scene(shop: Shop) -> None:
        upstream.refuses = wants_email
        await shop.order("good", customer_id=1000, email="ada@example.com")

        answer = await shop.order("bad", customer_id=1000)
        ranged = wrong("/qty", "qty must be at least 1", "out_of_range")
        upstream.refuses = lambda order: ranged
        small = await shop.order("small", customer_id=1000, email="ada@example.com", qty=0)

        assert answer.status_code == 422 and answer.json() == wrong("/email", "email is required", "missing")
        assert small.json() == ranged

    play(scene)


@pytest.mark.parametrize("workflow", ["", "w-1"])
def test_who_brings_no_workflow_and_who_only_observes_get_the_refusal_as_it_came(play, upstream, workflow):
    async def scene(shop: Shop) -> None:
        await shop.order("before", "w-0", qty=1)
        upstream.refuses = wants_quantity

        answer = await shop.order("after", workflow, qty=2)

        assert answer.status_code == 422
        assert "renamed" in answer.text and "Proxy-Status" not in answer.headers
        assert bodies(upstream) == [{"qty": 1}, {"qty": 2}]

    play(scene, 'adapt = "observe"' if workflow else "")


def test_a_weak_mend_is_suggested_asked_for_and_made_once_a_person_accepted_it(play, upstream):
    def wants_text(order: Tree) -> Tree | None:
        return None if isinstance(order["qty"], str) else wrong("/qty", "qty must be a string", "type")

    async def scene(shop: Shop) -> None:
        await shop.order("before", qty=1)
        upstream.refuses = wants_text
        stopped = await shop.order("after", qty=2)

        await shop.edit(lessons.approved)
        answer = await shop.order("after", qty=2)

        assert stopped.json()["type"] == "/-/problems/needs-input"
        assert answer.status_code == 201
        assert bodies(upstream)[-1] == {"qty": "2"}

    play(scene)


def test_where_a_person_said_auto_a_weak_mend_is_made_at_once(play, upstream):
    def wants_text(order: Tree) -> Tree | None:
        return None if isinstance(order["qty"], str) else wrong("/qty", "qty must be a string", "type")

    async def scene(shop: Shop) -> None:
        upstream.refuses = wants_text

        assert (await shop.order("after", qty=2)).status_code == 201

    play(scene, 'adapt = "auto"')


def test_a_required_field_is_filled_as_it_is_configured(play, upstream):
    async def scene(shop: Shop) -> None:
        upstream.refuses = lambda order: (
            None if order.get("currency") else wrong("/currency", "currency is required", "missing")
        )

        await shop.order("order", qty=2)

        assert bodies(upstream)[-1] == {"qty": 2, "currency": "EUR"}

    operation = '[[upstreams.shop.operations]]\nmatch = "POST /orders"\nfill = { "/currency" = "EUR" }\n'
    play(scene, operation)


def test_a_mended_request_that_is_refused_again_is_not_mended_again(play, upstream):
    def never(order: Tree) -> Tree:
        return wants_quantity(order) or wrong("/quantity", "quantity was renamed to amount", "unknown_field")

    async def scene(shop: Shop) -> None:
        await shop.order("before", qty=1)
        upstream.refuses = never

        answer = await shop.order("after", qty=2)

        assert bodies(upstream) == [{"qty": 1}, {"qty": 2}, {"quantity": 2}]
        assert answer.status_code == 422
        assert "renamed to amount" in answer.text

    play(scene)


def test_where_the_upstream_turns_back_requests_go_out_as_written_and_the_lesson_is_taken_back(play, upstream):
    def wants_qty(order: Tree) -> Tree | None:
        return wrong("/quantity", "quantity is not known", "unknown_field") if "quantity" in order else None

    async def scene(shop: Shop) -> None:
        upstream.refuses = wants_quantity
        await shop.order("after", qty=2)
        upstream.refuses = wants_qty

        for number in range(4):
            assert (await shop.order(f"o{number}", qty=2)).status_code == 201

        assert shop.known.standing.stopped
        assert bodies(upstream)[-1] == {"qty": 2} and bodies(upstream)[-2] == {"qty": 2}

    play(scene)


def test_a_change_on_top_of_what_was_taught_is_asked_for_and_teaches_more(play, upstream):
    def wants_text(order: Tree) -> Tree | None:
        wanted = isinstance(order.get("quantity"), str)
        return wants_quantity(order) or (
            None if wanted else wrong("/quantity", "quantity must be a string", "type")
        )

    async def scene(shop: Shop) -> None:
        await shop.order("before", qty=1)
        upstream.refuses = wants_quantity
        await shop.order("renamed", qty=2)
        upstream.refuses = wants_text
        stopped = await shop.order("retyped", qty=3)

        await shop.edit(lessons.approved)
        answer = await shop.order("retyped", qty=3)

        assert stopped.json()["type"] == "/-/problems/needs-input"
        assert answer.headers["Gimbal-Outcome"] == "success;attempts=1;adapted=2"
        assert bodies(upstream)[-1] == {"quantity": "3"}

    play(scene)


def test_two_values_of_the_name_are_candidates_and_neither_is_sent(play, upstream):
    """A look-alike trap: the instance knows two customers, and the order says which of none."""

    async def scene(shop: Shop) -> None:
        for number in (1000, 1001):
            await shop.get(number, "w-1")
        last = await shop.order("before", note="x")
        await shop.entry(last.headers["Gimbal-Call"])
        upstream.refuses = wants_email

        stopped = await shop.order("order", note="y")

        (field,) = stopped.json()["fields"]
        assert len({one["value"] for one in field["candidates"]}) == 2
        assert bodies(upstream)[-1] == {"note": "y"}

    play(scene)


def test_a_safe_call_is_mended_too(play, upstream, monkeypatch):
    def got(path: str) -> tuple[int, Any]:
        upstream.requests.append(("GET", path, {}, {}))
        if "limit" in path:
            return 400, wrong("/limit", "limit was renamed to page_size", "unknown_field")
        return 200, [path]

    monkeypatch.setattr(upstream, "got", got)

    async def scene(shop: Shop) -> None:
        answer = await shop.client.get("/orders?limit=5", headers={"Workflow-Id": "w-1"})

        assert answer.json() == ["/orders?page_size=5"]
        assert answer.headers["Gimbal-Outcome"] == "success;attempts=2;adapted=1"

    play(scene)


def test_lessons_are_kept_as_they_are():
    mends = (
        lessons.RenameField("body", "/qty", "/quantity"),
        lessons.WriteField("body", "/at", "date-time"),
        lessons.SpellField("body", "/state", "open", "OPEN"),
        lessons.FillField("body", "/currency", "config", "EUR"),
    )
    one = replace(lessons.Lessons("POST /orders"), mends=mends[:2], pending=mends[2:], word=3)

    assert lessons.load(one.state()) == one

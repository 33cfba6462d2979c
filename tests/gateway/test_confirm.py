"""Waiting for disks and replicas, on a real store: what is asked, once a write, and what follows a failure."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import replace
from typing import Any

import pytest
import redis

from discovery.exchange import Fault, Request, Response
from gateway.clock import SystemClock
from gateway.confirm import Confirm
from gateway.gate import Arrival, Gate, Identified, Known, Passed
from gateway.ledger import RedisLedger
from gateway.link import Link
from gateway.ports import About
from gateway.problems import Refused, Unconfirmed
from gateway.store import Durability, Fsync, confirming, examine, open_store
from gateway.testing import ScriptedUpstream
from gateway.vault import Vault
from policies.claims import Ask, Granted, State, StepKey, call_id
from policies.reply import Problem
from policies.rules import UpstreamRules

CREATED = Response(201, (), b"made")
DISK = Confirm(timeout=2.0)
HASTY = Confirm(timeout=0.05)


@pytest.fixture
def store(store_url: str) -> Iterator[redis.Redis]:
    """The tests' engine, whose journal says when it is on disk while the test lasts."""
    with redis.Redis.from_url(store_url) as client:
        client.config_set("appendfsync", "always")
        yield client
        client.config_set("appendfsync", "no")


def lived(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 30))


class Process:
    """One gateway process whose transitions wait to be confirmed."""

    def __init__(self, url: str, confirm: Confirm, upstream: ScriptedUpstream) -> None:
        self.ledger = RedisLedger(Link(url), Vault([b"k" * 32]), firm=Link(url, confirm=confirm))
        self.upstream = upstream
        rules = UpstreamRules("billing", "http://billing.test")
        self.gate = Gate({"billing": Known(rules, upstream)}, self.ledger, SystemClock())

    async def post(self, step: bytes = b"charge") -> Passed:
        headers = ((b"workflow-id", b"order-1"), (b"workflow-step", step))
        who = self.gate.identify(Arrival("billing", "POST", b"/charges", headers))
        assert isinstance(who, Identified)
        return await self.gate.perform(who, b"{}")

    async def aclose(self) -> None:
        await self.gate.runner.aclose()
        await self.ledger.aclose()


@pytest.mark.parametrize(
    ("confirm", "commands"),
    [
        (Confirm(), [("WAITAOF", 1, 0, 1000)]),
        (Confirm(replicas=2, timeout=0.5), [("WAITAOF", 1, 2, 500)]),
        (Confirm(local=False, replicas=1, memory=True), [("WAIT", 1, 1000)]),
        (Confirm(replicas=1, memory=True), [("WAITAOF", 1, 0, 1000), ("WAIT", 1, 1000)]),
    ],
)
def test_the_store_is_asked_for_what_is_configured(confirm: Confirm, commands: list[Any]):
    assert confirm.commands() == commands


def test_what_lacks_is_told_by_name():
    both = Confirm(replicas=2)

    assert both.lacks([[1, 2]]) == ""
    assert "its own disk and 2 of its replicas (only 1)" in both.lacks([[0, 1]])
    assert "1 of its replicas" in Confirm(local=False, replicas=1, memory=True).lacks([0])


def test_one_question_confirms_all_of_one_write(store: redis.Redis, store_url: str):
    async def work() -> None:
        link = Link(store_url, confirm=DISK)
        await asyncio.gather(*(link.do("SET", f"k{n}", n) for n in range(50)))
        await link.aclose()

    store.config_resetstat()
    lived(work)

    calls = {name: said["calls"] for name, said in store.info("commandstats").items()}
    assert calls["cmdstat_set"] == 50
    assert calls["cmdstat_waitaof"] == 1


def test_a_call_is_confirmed_twice_mark_and_answer(store: redis.Redis, store_url: str):
    async def work() -> None:
        process = Process(store_url, DISK, ScriptedUpstream(CREATED, CREATED))
        await process.post(b"first")  # the store learns the scripts
        store.config_resetstat()
        passed = await process.post()

        assert (passed.reply.answer, passed.reply.unconfirmed) == (CREATED, False)
        assert store.info("commandstats")["cmdstat_waitaof"]["calls"] == 2
        await process.aclose()

    lived(work)


def test_where_the_mark_is_not_confirmed_nothing_is_sent_and_no_doubt_is_left(store_url: str):
    async def work() -> None:
        process = Process(store_url, HASTY, ScriptedUpstream())  # the engine's journal is never synced
        passed = await process.post()

        assert isinstance(passed.reply.answer, Problem)
        assert passed.reply.answer.slug == "ledger-unavailable"
        assert "did not confirm it on its own disk" in passed.reply.answer.detail
        assert process.upstream.sent == []
        await process.gate.runner.aclose()
        entry = await process.ledger.entry(passed.call)
        assert entry is not None
        assert (entry.record.state, entry.record.effect) == (State.WAITING, "none")
        await process.aclose()

    lived(work)


def test_where_the_answer_is_not_confirmed_its_caller_is_told_both(store: redis.Redis, store_url: str):
    class Stops(ScriptedUpstream):
        async def send(
            self, request: Request, *, timeout: float, not_after: float | None = None
        ) -> Response | Fault:
            store.config_set("appendfsync", "no")
            return await super().send(request, timeout=timeout)

    async def work() -> None:
        process = Process(store_url, Confirm(timeout=0.3), Stops(CREATED))
        passed = await process.post()
        again = await process.post()

        assert (passed.reply.answer, passed.reply.unconfirmed) == (CREATED, True)
        assert (again.reply.answer, again.reply.replayed) == (CREATED, True)
        await process.aclose()

    lived(work)


def test_a_claim_asked_again_over_a_new_connection_is_confirmed_too(store_url: str):
    async def work() -> None:
        key = StepKey("sync", "order-1", "charge")
        about = About(key, "billing", "POST /charges", Request("POST", b"/charges", (), b"{}"))
        for _ in range(2):  # the second writes nothing new
            process = Process(store_url, HASTY, ScriptedUpstream())
            with pytest.raises(Unconfirmed) as caught:
                await process.ledger.claim(call_id(key), about, Ask("fp", send=True, owner="a"))
            assert isinstance(caught.value.result.result, Granted)
            await process.aclose()

    lived(work)


STORE = Durability("valkey", "9.0.0", Fsync.ALWAYS, "noeviction", 1, False, "run")


def test_a_store_that_can_never_confirm_is_refused_at_the_start(store_url: str):
    for found in (
        replace(STORE, fsync=Fsync.NO),
        replace(STORE, fsync=Fsync.NONE),
        replace(STORE, version="7.0.15"),
    ):
        with pytest.raises(Refused, match=r"store\.wait"):
            confirming(found, Confirm())

    async def work() -> None:
        client = open_store(store_url)
        with pytest.raises(Refused, match="appendfsync"):
            await examine(client, confirm=Confirm())
        await client.aclose()

    lived(work)


def test_replicas_that_are_not_there_yet_are_a_warning():
    assert "1 of 2 replicas" in confirming(STORE, Confirm(replicas=2)).warnings[0]
    assert confirming(STORE, Confirm(replicas=1)).warnings == ()
    assert "disk of 1 replica" in confirming(STORE, Confirm(replicas=1)).promise


def test_an_everysec_store_that_is_waited_for_is_no_warning():
    found = replace(STORE, fsync=Fsync.EVERYSEC, warnings=("appendfsync is everysec: may lose",))

    assert confirming(found, Confirm()).warnings == ()

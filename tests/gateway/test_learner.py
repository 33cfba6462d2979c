"""The learner never holds up a call, loses nothing it has room for, and comes to the contract of the whole."""

import asyncio
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "discovery"))

from shop import exchange, traffic

from discovery.exchange import Exchange, Response
from discovery.traffic import Evidence
from gateway import learner as learning
from gateway.contracts import RedisContracts
from gateway.learner import Learner, accepted
from gateway.link import Link
from gateway.problems import LedgerUnavailable
from gateway.vault import Vault
from policies.outcome import Effect, Outcome, Reading, classify

KEY = bytes(range(32))
FINE = Reading(Outcome.SUCCESS, Effect.ALL, "")


def read(one: Exchange) -> Reading:
    return classify(one.request, one.answer, 0.0)


def alone() -> dict[str, Any]:
    """The evidence of the shop's traffic, learned in one go."""
    evidence = Evidence(KEY)
    for one in traffic(rounds=12):
        assert isinstance(one.answer, Response)
        evidence.fold(one, accepted(read(one)))
    return evidence.state()


class Away:
    """A store that is away until told otherwise, and keeps what it is given."""

    def __init__(self) -> None:
        self.away = True
        self.added: list[dict[str, Any]] = []
        self.looks: list[dict[str, Any]] = []

    async def add(self, upstream: str, seen: dict[str, Any], source: str = "") -> None:
        if self.away:
            raise LedgerUnavailable("away")
        self.added.append(seen)

    async def remember(self, upstream: str, looks: dict[str, Any]) -> None:
        if self.away:
            raise LedgerUnavailable("away")
        self.looks.append(looks)

    async def evidence(self, upstream: str) -> None:
        return None


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(learning, "QUEUE", 64)
    yield


def test_two_processes_that_learn_halves_come_to_the_contract_of_the_whole(store_url: str) -> None:
    async def go() -> None:
        stores = [RedisContracts(Link(store_url), Vault([KEY])) for _ in range(2)]
        learners = [Learner(store, KEY) for store in stores]
        for number, one in enumerate(traffic(rounds=12)):
            learners[number % 2].observe(one, read(one))
        for each in learners:
            each.start()
        await asyncio.gather(*(each.aclose() for each in learners))

        assert await stores[0].evidence("shop") == alone()
        revision = await stores[1].revision("shop")
        assert revision is not None and "/v1/users/{user_login}" in revision.document["paths"]
        assert [each.dropped for each in learners] == [{}, {}]
        for store in stores:
            await store.aclose()

    asyncio.run(go())


def test_while_the_store_is_away_nothing_learned_is_lost() -> None:
    store = Away()

    async def go() -> None:
        learner = Learner(store, KEY)  # type: ignore[arg-type]
        half = len(traffic(rounds=12)) // 2
        for one in traffic(rounds=12)[:half]:
            learner.observe(one, read(one))
        learner._turn()
        while learner._queue:
            learner._turn()
        await learner.flush()
        for one in traffic(rounds=12)[half:]:
            learner.observe(one, read(one))
        store.away = False
        await learner.aclose()

    asyncio.run(go())

    assert store.added == [alone()]


@pytest.mark.usefixtures("few")
def test_a_full_queue_drops_by_sampling_counts_it_and_still_takes_new_shapes() -> None:
    learner = Learner(Away(), KEY)  # type: ignore[arg-type]

    for number in range(300):
        learner.observe(exchange("GET", f"/things/{number + 100}", 200, {"id": number}), FINE)
    queued = len(learner._queue)
    learner.observe(exchange("GET", "/never/seen", 200, {}), FINE)

    assert queued < 64
    assert learner.dropped == {"shop": 300 - queued}
    assert len(learner._queue) == queued + 1


def test_a_large_body_is_passed_over_and_counted() -> None:
    learner = Learner(Away(), KEY)  # type: ignore[arg-type]
    body = b'"' + b"x" * learning.BODY_LIMIT + b'"'

    learner.observe(Exchange("shop", exchange("GET", "/a", 200).request, Response(200, (), body)), FINE)

    assert learner.dropped == {"shop": 1}


@pytest.mark.parametrize(
    "body",
    [
        b"\xff\xfe\x00",
        b'{"a": "\\ud800"}',
        b'{"a": NaN, "a": 2}',
        b"[" * 10_000,
        b"\x1f\x8b\x08\x00half",
        b'{"a": 1' * 50,
        b"<html><body>sorry",
        b"<?xml version='1.0'?><a><b></a>",
        b"9" * 5000,
        b'{"' + b"k" * 5000 + b'": 1}',
    ],
)
def test_no_body_is_bad_enough_to_stop_learning(body: bytes) -> None:
    store = Away()
    store.away = False
    asked = exchange("POST", "/a?%ff=%zz&a=1&a=2", 200, {}).request
    headers = ((b"content-type", b"application/json"), (b"x-odd", b"\xff"))

    async def go() -> Learner:
        learner = Learner(store, KEY)  # type: ignore[arg-type]
        learner.observe(Exchange("shop", asked, Response(200, headers, body)), FINE)
        learner.observe(exchange("GET", "/b", 200, {"fine": 1}), FINE)
        await learner.aclose()
        return learner

    learner = asyncio.run(go())

    assert learner.failed == 0
    assert Evidence.load(store.added[0]).count == 2


@pytest.mark.parametrize(
    ("outcome", "taught"),
    [
        (Outcome.SUCCESS, True),
        (Outcome.PARTIAL, True),
        (Outcome.VALIDATION, False),
        (Outcome.REFUSED, False),
        (Outcome.TRANSIENT, False),
        (Outcome.IN_DOUBT, False),
    ],
)
def test_only_requests_that_were_taken_teach(outcome: Outcome, taught: bool) -> None:
    assert accepted(Reading(outcome, Effect.UNKNOWN, "")) is taught

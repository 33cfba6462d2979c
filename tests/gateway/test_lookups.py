"""From traffic to a proposal, from a person's word to a doubt that is settled: on a real store."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import redis
from typer.testing import CliRunner

from discovery.exchange import Fault, Phase, Request, Response
from gateway.__main__ import app
from gateway.clock import SystemClock
from gateway.gate import Arrival, Gate, Identified, Known, Passed
from gateway.ledger import RedisLedger
from gateway.link import Link
from gateway.lookups import Accepted, Lookups, LookupStore
from gateway.vault import Vault
from policies.proposals import Form
from policies.reply import Problem
from policies.rules import Lookup, OperationRule, UpstreamRules, rules_for

JSON = ((b"content-type", b"application/json"),)
OPERATION = "POST /charges"
BY_REF = Form(OPERATION, "/charges?ref={body.ref}", "/data/0")
BILLING = UpstreamRules("billing", "http://billing.test", wait=0.0)


class Charges:
    """Keeps charges and searches them by reference; loses an answer when told to."""

    def __init__(self) -> None:
        self.made: list[dict[str, str]] = []
        self.loses = False

    async def send(self, request: Request, *, timeout: float, not_after: float | None = None) -> Response | Fault:
        if request.method == "POST":
            charge = {"id": f"ch-{len(self.made)}", "ref": json.loads(request.body)["ref"]}
            self.made.append(charge)
            if self.loses:
                return Fault(Phase.WAIT, "the connection was closed")
            return Response(201, JSON, json.dumps(charge).encode())
        wanted = request.query.decode().removeprefix("ref=")
        found = [charge for charge in self.made if charge["ref"] == wanted]
        return Response(200, JSON, json.dumps({"data": found}).encode())

    async def open(self, request: Request, body: None, *, timeout: float, whole: int) -> Response | Fault:
        return await self.send(request, timeout=timeout)

    async def aclose(self) -> None: ...


class World:
    def __init__(self, url: str, rules: UpstreamRules = BILLING) -> None:
        self.link = Link(url)
        self.store = LookupStore(self.link)
        self.charges = Charges()
        ledger = RedisLedger(self.link, Vault([b"k" * 32]))
        self.gate = Gate({"billing": Known(rules, self.charges)}, ledger, SystemClock())
        self.lookups = Lookups(self.store, b"k" * 32, self.gate, {"billing": rules})
        self.gate.runner.listen(self.lookups.observe)

    async def call(self, method: str, target: str, body: bytes = b"") -> Passed:
        headers = (*JSON, (b"workflow-id", b"o-1"), (b"workflow-step", f"{method}{target}{body!r}".encode()))
        who = self.gate.identify(Arrival("billing", method, target.encode(), headers))
        assert isinstance(who, Identified)
        return await self.gate.perform(who, body)

    async def learn(self, count: int = 3) -> None:
        for n in range(count):
            await self.call("POST", "/charges", json.dumps({"ref": f"ref-{n}"}).encode())
            await self.call("GET", f"/charges?ref=ref-{n}")
        self.lookups.turn()
        await self.lookups.flush()

    async def aclose(self) -> None:
        await self.gate.runner.aclose()
        await self.link.aclose()


def test_a_proposal_is_not_used_until_it_is_accepted_and_then_settles_a_doubt(store_url: str):
    async def work() -> None:
        world = World(store_url)
        await world.learn()
        await world.lookups.refresh()
        world.charges.loses = True

        before = await world.call("POST", "/charges", b'{"ref": "ref-lost"}')
        (proposal,) = await world.store.proposals("billing")
        await world.store.accept("billing", Accepted(proposal.form))
        await world.lookups.refresh()
        after = await world.call("POST", "/charges", b'{"ref": "ref-lost"}')

        assert isinstance(before.reply.answer, Problem) and before.reply.answer.slug == "in-doubt"
        assert (proposal.form, proposal.seen, proposal.against) == (BY_REF, 3, 0)
        assert isinstance(after.reply.answer, Response)
        assert json.loads(after.reply.answer.body) == {"id": "ch-3", "ref": "ref-lost"}
        assert len(world.charges.made) == 4
        await world.aclose()

    asyncio.run(asyncio.wait_for(work(), 30))


def test_what_is_configured_comes_first_and_what_is_dropped_is_used_no_longer(store_url: str):
    async def work() -> None:
        own = Lookup("/mine/{body.ref}", "")
        rules = UpstreamRules("billing", "http://b.test", operations=(OperationRule("POST /{any}", lookup=own),))
        configured, plain = World(store_url, rules), World(store_url)
        await plain.store.accept("billing", Accepted(BY_REF, 60.0))
        for world in (configured, plain):
            await world.lookups.refresh()

        assert rules_for(configured.gate.upstreams["billing"].rules, "POST", "/charges").lookup == own
        used = rules_for(plain.gate.upstreams["billing"].rules, "POST", "/charges").lookup
        assert used == Lookup(BY_REF.get, BY_REF.found, 60.0)

        assert await plain.store.drop("billing", OPERATION)
        await plain.lookups.refresh()

        assert rules_for(plain.gate.upstreams["billing"].rules, "POST", "/charges").lookup is None
        await configured.aclose()
        await plain.aclose()

    asyncio.run(asyncio.wait_for(work(), 30))


def test_no_value_reaches_the_store_and_no_key_stays_for_ever(store_url: str):
    async def work() -> None:
        world = World(store_url)
        await world.learn()
        await world.aclose()

    asyncio.run(asyncio.wait_for(work(), 30))

    with redis.Redis.from_url(store_url) as store:
        kept = store.hgetall("gimbal:{c/billing}:proposed")
        assert len(kept) == 1 and b"ref-1" not in repr(kept).encode()
        assert store.ttl("gimbal:{c/billing}:proposed") > 0


def test_calls_in_doubt_tell_of_the_proposal_and_one_command_accepts_it(store_url: str, tmp_path: Path):
    def gimbal(*words: str):
        (tmp_path / "store-key").write_bytes(b"k" * 32)
        return CliRunner().invoke(app, [*words, "--store", store_url, "--data", str(tmp_path)])

    async def work() -> None:
        world = World(store_url)
        await world.learn()
        world.charges.loses = True
        await world.call("POST", "/charges", b'{"ref": "ref-lost"}')
        await world.aclose()

    asyncio.run(asyncio.wait_for(work(), 30))

    told = gimbal("calls", "--in-doubt")
    assert "GET /charges?ref={body.ref}" in told.stderr
    assert f"gimbal lookups billing --accept '{OPERATION}'" in told.stderr

    accepted = gimbal("lookups", "billing", "--accept", OPERATION, "--absent-after", "60s", "--json")
    assert accepted.exit_code == 0
    assert json.loads(accepted.stdout) == {
        "operation": OPERATION,
        "get": BY_REF.get,
        "found": BY_REF.found,
        "seen": 3,
        "against": 0,
        "accepted": True,
        "absent_after": 60.0,
        "accept": None,
    }
    assert "--accept" not in gimbal("calls", "--in-doubt").stderr
    assert gimbal("lookups", "billing", "--accept", "POST /nothing").exit_code != 0


def test_recordings_propose_look_ups_too(store_url: str, tmp_path: Path):
    def recorded(n: int, method: str, target: str, body: str | None, answer: str) -> str:
        asked = {"api": "billing", "method": method, "url": f"https://b.test/v2{target}", "request_body": body}
        json_type = {"content-type": "application/json"}
        said = {"status": 200, "response_headers": json_type, "response_body": answer, "source": "test", "at": n}
        return json.dumps({**asked, "request_headers": json_type, **said})

    lines = []
    for n in range(3):
        charge = json.dumps({"id": f"ch_{n}", "ref": f"ref-{n}"})
        lines += [
            recorded(n, "POST", "/charges", json.dumps({"ref": f"ref-{n}"}), charge),
            recorded(n, "GET", f"/charges?ref=ref-{n}", None, json.dumps({"data": [json.loads(charge)]})),
        ]
    (tmp_path / "traffic.jsonl").write_text("\n".join(lines))

    place = ("--store", store_url, "--data", str(tmp_path))
    words = ["learn", str(tmp_path / "traffic.jsonl"), "--upstream", "billing", "--base-url", "https://b.test/v2"]
    learned = CliRunner().invoke(app, [*words, *place])
    told = CliRunner().invoke(app, ["lookups", "billing", "--json", *place])

    assert learned.exit_code == 0
    assert json.loads(told.stdout)["get"] == "/charges?ref={body.ref}"
    assert json.loads(told.stdout)["accept"] == "gimbal lookups billing --accept 'POST /charges'"

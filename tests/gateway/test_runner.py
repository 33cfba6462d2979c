"""A life performed through ports: what is marked before what is sent, who waits for whom, what is owed."""

import asyncio
import functools
import json

import pytest

from discovery.exchange import Fault, Phase, Request, Response
from gateway.ports import About
from gateway.problems import LedgerUnavailable
from gateway.runner import Runner, inject
from gateway.testing import ManualClock, MemoryLedger, ScriptedUpstream
from policies.actions import Call
from policies.claims import State, StepKey, call_id
from policies.lifecycle import life_of
from policies.outcome import Effect, Outcome
from policies.rules import UpstreamRules, rules_for

STEP = StepKey("order", "o-1", "charge")
REQUEST = Request("POST", b"/charges", (), b"{}")
CALL = Call(call_id(STEP), "shop", REQUEST, REQUEST, "f", 30.0, STEP, identified=True, workflow=("order", "o-1"))
ABOUT = About(STEP, "shop", "POST /charges", REQUEST)
RULES = rules_for(UpstreamRules("shop", "https://shop.example"), "POST", "/charges")
CREATED = Response(201, (), b'{"id":1}')
REFUSED = Fault(Phase.CONNECT, "connection refused")


def alive(test):
    @functools.wraps(test)
    def run():
        asyncio.run(asyncio.wait_for(test(), 20))

    return run


class World:
    """A runner among ports that are all in memory."""

    def __init__(self, *answers, ledger=None):
        self.clock = ManualClock()
        self.ledger = ledger or MemoryLedger(self.clock)
        self.upstream = ScriptedUpstream(*answers)
        self.runner = Runner(self.ledger, self.clock)

    async def call(self):
        reply, _ = await self.runner.perform(life_of(CALL, RULES), CALL, RULES, self.upstream, ABOUT)
        return reply


@alive
async def test_a_step_is_sent_once_and_replayed():
    world = World(CREATED)

    first, second = await world.call(), await world.call()

    assert (first.answer, second.answer) == (CREATED, CREATED)
    assert second.replayed
    assert len(world.upstream.sent) == 1


@alive
async def test_the_mark_is_durable_before_the_first_byte():
    seen = []

    class Watching(ScriptedUpstream):
        async def send(self, request, **options):
            seen.append((await world.ledger.entry(CALL.id)).record.state)
            return await super().send(request, **options)

    world = World()
    world.upstream = Watching(REFUSED, CREATED)
    await world.call()

    assert seen == [State.SENDING, State.SENDING]


@alive
async def test_no_byte_may_leave_after_the_lease():
    told = []

    class Watching(ScriptedUpstream):
        async def send(self, request, *, timeout, not_after=None):
            told.append(not_after - world.clock.monotonic())
            return CREATED

    world = World()
    world.upstream = Watching()
    await world.call()

    assert told == [5.0]


@alive
async def test_many_callers_of_one_step_cause_one_sending():
    world = World(CREATED)
    gate = asyncio.Event()

    class Slow(ScriptedUpstream):
        async def send(self, request, **options):
            await gate.wait()
            return await super().send(request, **options)

    world.upstream = Slow(CREATED)
    callers = [asyncio.create_task(world.call()) for _ in range(50)]
    while not world.upstream.sent and not gate.is_set():
        await asyncio.sleep(0)
        gate.set()
    replies = await asyncio.gather(*callers)

    assert {reply.answer for reply in replies} == {CREATED}
    assert len(world.upstream.sent) == 1


@alive
async def test_the_transcript_tells_claim_send_and_change():
    world = World(REFUSED, CREATED)
    await world.call()

    lines = [
        json.loads(line) for kept in (await world.ledger.entry(CALL.id)).transcript for line in kept.splitlines()
    ]

    assert [line["did"] for line in lines] == ["claim", "send", "change", "wait", "change", "send", "change"]
    assert lines[1]["fault"] == "connect"
    assert lines[-1]["state"] == "succeeded"
    assert all(line["why"] for line in lines if line["did"] in ("send", "change", "wait"))


@alive
async def test_an_answer_outlives_a_store_that_goes_away():
    class Away(MemoryLedger):
        failures = 2

        async def change(self, *args, **options):
            if self.failures:
                self.failures -= 1
                raise LedgerUnavailable("gone")
            return await super().change(*args, **options)

    clock = ManualClock()
    world = World(CREATED, ledger=Away(clock))

    reply = await world.call()

    assert reply.answer == CREATED
    assert (await world.ledger.entry(CALL.id)).record.state is State.SUCCEEDED


@pytest.mark.parametrize("clear", [True, False])
@pytest.mark.parametrize("answer", [CREATED, Fault(Phase.WAIT, "closed")])
def test_a_call_whose_record_the_store_lost_is_in_doubt_and_not_sent_anew(answer, clear):
    class Failover(ScriptedUpstream):
        async def send(self, request, **options):
            said = await super().send(request, **options)
            world.ledger._calls.clear()  # the store came back without its last writes
            if not clear:
                next(iter(world.runner._paces.values())).block(world.clock.monotonic() + 1)
            return said

    @alive
    async def test():
        first, again = await world.call(), await world.call()

        assert (first.answer.slug, again.answer.slug) == ("in-doubt", "in-doubt")
        assert len(world.upstream.sent) == 1
        assert (await world.ledger.entry(CALL.id)).record.state is State.IN_DOUBT

    world = World()
    world.upstream = Failover(answer)
    test()


@alive
async def test_nothing_more_is_sent_while_the_answer_before_is_owed_to_the_store():
    """What is owed is kept late: it would say "nothing is under way" of a sending that is."""

    class Away(MemoryLedger):
        failures = 1

        async def change(self, *args, **options):
            if self.failures:
                self.failures -= 1
                raise LedgerUnavailable("gone")
            return await super().change(*args, **options)

    during = []

    class Slow(ScriptedUpstream):
        async def send(self, request, **options):
            if self.sent:
                await asyncio.sleep(0.2)  # what is owed is tried again meanwhile
            during.append((await world.ledger.entry(CALL.id)).record.state)
            return await super().send(request, **options)

    world = World(ledger=Away(ManualClock()))
    world.upstream = Slow(REFUSED, CREATED)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.runner.COMMIT_PATIENCE", 0.01)
        with pytest.raises(LedgerUnavailable):
            await world.call()
    await asyncio.sleep(0.2)

    entry = await world.ledger.entry(CALL.id)
    assert during == [State.SENDING]
    assert (entry.record.state, entry.record.effect) == (State.CLAIMED, Effect.NONE)


@alive
async def test_a_step_that_was_sent_is_in_doubt_where_the_store_came_back_without_it():
    world = World(CREATED, CREATED)
    await world.call()
    world.ledger._calls.clear()
    world.ledger.epoch += 1

    reply = await world.call()

    assert reply.outcome is Outcome.IN_DOUBT
    assert "lost the record" in reply.answer.detail
    assert len(world.upstream.sent) == 1


@alive
async def test_a_step_whose_record_expired_while_the_store_was_there_begins_anew():
    world = World(CREATED, CREATED)
    await world.call()
    world.ledger._calls.clear()

    assert (await world.call()).answer == CREATED
    assert len(world.upstream.sent) == 2


@alive
async def test_an_answer_is_not_told_before_the_store_has_it_and_then_to_the_repeat():
    class Away(MemoryLedger):
        away = True

        async def change(self, *args, **options):
            if self.away:
                raise LedgerUnavailable("gone")
            return await super().change(*args, **options)

    world = World(CREATED, ledger=Away(ManualClock()))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("gateway.runner.COMMIT_PATIENCE", 0.01)
        with pytest.raises(LedgerUnavailable, match="it is kept"):
            await world.call()
    world.ledger.away = False

    again = await world.call()

    assert (again.answer, again.replayed) == (CREATED, True)
    assert len(world.upstream.sent) == 1


@alive
async def test_nothing_is_sent_when_the_store_is_away():
    class Away(MemoryLedger):
        async def claim(self, *args, **options):
            raise LedgerUnavailable("gone")

    world = World(CREATED, ledger=Away(ManualClock()))

    with pytest.raises(LedgerUnavailable):
        await world.call()
    assert world.upstream.sent == []


@alive
async def test_a_limited_upstream_is_left_alone_until_its_time():
    limited = Response(429, ((b"retry-after", b"7"),))
    world = World(limited, CREATED)
    before = world.clock.at

    reply = await world.call()

    assert reply.answer == CREATED
    assert reply.outcome is Outcome.SUCCESS
    assert world.clock.at - before >= 7


def test_injected_headers_take_the_place_of_the_callers():
    request = Request("GET", b"/", ((b"Authorization", b"theirs"), (b"x", b"1")))

    assert inject(request, (("authorization", "ours"),)).headers == ((b"x", b"1"), (b"authorization", b"ours"))

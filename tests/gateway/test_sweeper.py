"""Calls that outlive their callers, on a real store: taken when due, once, by whoever sweeps, and recorded."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import pytest
import redis

from discovery.exchange import Fault, Header, Phase, Request, Response
from gateway.clock import SystemClock
from gateway.gate import Arrival, Gate, Identified, Known, Passed
from gateway.ledger import RedisLedger
from gateway.link import Link
from gateway.sweeper import HANDS, Sweeper
from gateway.vault import Vault
from policies.claims import Ask, Change, Credentials, State
from policies.outcome import Effect, Outcome
from policies.reply import Problem
from policies.rules import Assume, Idempotency, Lookup, OperationRule, UpstreamRules

CREATED = Response(201, ((b"content-type", b"application/json"),), b'{"id": 7}')
LATER = Response(429, ((b"retry-after", b"1"),), b"")
LOST = Fault(Phase.WAIT, "the connection was closed")


class Scripted:
    """An upstream that answers in turn, the last answer for ever, and remembers when it was asked what."""

    def __init__(self, *answers: Response | Fault, get: list[Response] | None = None, takes: float = 0.0) -> None:
        self._answers = list(answers)
        self._takes = takes
        self._get = get or []
        self.sent: list[Request] = []
        self.asked: list[Request] = []
        self.times: list[float] = []

    async def send(self, request: Request, *, timeout: float, not_after: float | None = None) -> Response | Fault:
        if request.method == "GET":
            self.asked.append(request)
            return self._get.pop(0) if len(self._get) > 1 else self._get[0]
        self.sent.append(request)
        self.times.append(time.time())
        await asyncio.sleep(self._takes)
        return self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]

    async def aclose(self) -> None: ...


class Process:
    """One gateway process, as far as waiting goes."""

    def __init__(self, url: str, upstream: Scripted, rules: UpstreamRules, keeps: bool = True) -> None:
        self.ledger = RedisLedger(Link(url), Vault([b"k" * 32]))
        self.gate = Gate({rules.name: Known(rules, upstream)}, self.ledger, SystemClock(), keeps_credentials=keeps)
        self.sweeper = Sweeper(self.gate, self.ledger, SystemClock())

    async def post(self, *headers: Header, step: bytes = b"charge", body: bytes = b'{"ref": "r-1"}') -> Passed:
        identity = ((b"workflow-id", b"order-1"), (b"workflow-step", step), (b"content-type", b"application/json"))
        who = self.gate.identify(Arrival("billing", "POST", b"/charges", identity + headers))
        assert isinstance(who, Identified)
        return await self.gate.perform(who, body)

    async def state(self, call: str) -> State:
        entry = await self.ledger.entry(call)
        assert entry is not None
        return entry.record.state

    async def until(self, call: str, *states: State) -> None:
        async with asyncio.timeout(20):
            while await self.state(call) not in states:
                await asyncio.sleep(0.01)


@asynccontextmanager
async def running(*processes: Process) -> AsyncIterator[None]:
    tasks = [asyncio.create_task(process.sweeper.run()) for process in processes]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for process in processes:
            await process.gate.runner.aclose()
            await process.ledger.aclose()


NO_WAIT: Header = (b"prefer", b"wait=0")
BILLING = UpstreamRules("billing", "http://billing.test")


def lived(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(work(), 40))


def test_a_deferred_call_is_completed_without_its_caller_and_its_repeat_is_told_the_reply(store_url: str):
    async def work() -> None:
        upstream = Scripted(LATER, CREATED)
        process = Process(store_url, upstream, BILLING)
        async with running(process):
            first = await process.post(NO_WAIT)
            assert isinstance(first.reply.answer, Problem)
            assert (first.reply.answer.slug, first.reply.answer.status) == ("deferred", 503)
            assert first.reply.location and first.reply.retry_after is not None

            await process.until(first.call, State.SUCCEEDED)
            again = await process.post(NO_WAIT)

            assert again.reply.answer == CREATED and again.reply.replayed
            assert len(upstream.sent) == 2
            assert upstream.times[1] - upstream.times[0] >= 1.0

    lived(work)


def test_a_call_is_sent_within_a_quarter_second_of_its_time_also_by_a_process_that_did_not_defer_it(
    store_url: str,
):
    async def work() -> None:
        upstream = Scripted(LATER, CREATED)
        deferring, sweeping = (Process(store_url, upstream, BILLING) for _ in range(2))
        async with running(sweeping):
            call = (await deferring.post(NO_WAIT)).call
            entry = await deferring.ledger.entry(call)
            assert entry is not None
            due = entry.record.not_before

            await sweeping.until(call, State.SUCCEEDED)

            assert 0 <= upstream.times[1] - due < 0.25
            await deferring.ledger.aclose()

    lived(work)


def test_processes_share_due_calls_and_send_each_once(store_url: str):
    async def work() -> None:
        upstream = Scripted(Response(503, ((b"retry-after", b"1"),)))
        processes = [Process(store_url, upstream, BILLING) for _ in range(3)]
        calls = [(await processes[0].post(NO_WAIT, step=b"s%d" % n)).call for n in range(3 * HANDS)]
        upstream._answers = [CREATED]
        upstream.sent.clear()
        performed = [0, 0, 0]
        for n, process in enumerate(processes):
            go_on = process.gate.go_on

            async def counted(call: str, pending: Any, n: int = n, go_on: Any = go_on) -> Any:
                performed[n] += 1
                await asyncio.sleep(0.02)
                return await go_on(call, pending)

            process.gate.go_on = counted  # type: ignore[method-assign]
        async with running(*processes):
            for call in calls:
                await processes[0].until(call, State.SUCCEEDED)

        assert len(upstream.sent) == len(calls)
        assert all(performed) and sum(performed) <= len(calls) * 1.1

    lived(work)


def test_an_upstream_that_stays_away_is_asked_with_growing_pauses(store_url: str):
    async def work() -> None:
        down = Fault(Phase.CONNECT, "refused")
        upstream = Scripted(LATER, down, down, CREATED)
        process = Process(store_url, upstream, BILLING)
        async with running(process):
            call = (await process.post(NO_WAIT)).call

            await process.until(call, State.SUCCEEDED)

            first, second = upstream.times[2] - upstream.times[1], upstream.times[3] - upstream.times[2]
            assert 1.0 <= first <= 2.5 and 2.0 <= second <= 4.5

    lived(work)


def test_a_call_whose_deadline_passes_while_it_waits_is_exhausted_and_not_sent(store_url: str):
    async def work() -> None:
        upstream = Scripted(Response(429, ((b"retry-after", b"60"),)))
        process = Process(store_url, upstream, UpstreamRules("billing", "http://billing.test", deadline=0.5))
        async with running(process):
            call = (await process.post(NO_WAIT)).call

            await process.until(call, State.EXHAUSTED)

            assert len(upstream.sent) == 1

    lived(work)


def test_a_cancelled_call_is_not_sent(store_url: str):
    async def work() -> None:
        upstream = Scripted(LATER, CREATED)
        process = Process(store_url, upstream, BILLING)
        call = (await process.post(NO_WAIT)).call
        await process.ledger.cancel(call, b"")
        async with running(process):
            await asyncio.sleep(1.5)  # its time, and a look: nothing happens

            assert await process.state(call) is State.CANCELLED
            assert len(upstream.sent) == 1

    lived(work)


# Credentials


def test_the_callers_credentials_are_kept_sealed_while_a_call_waits_and_forgotten_after(store_url: str):
    async def work() -> None:
        upstream = Scripted(LATER, CREATED)
        process = Process(store_url, upstream, BILLING)
        secret = b"Bearer s3cr3t-of-the-caller"
        call = (await process.post(NO_WAIT, (b"authorization", secret))).call
        key = f"gimbal:{{s{int(call[:2], 16)}}}:call:{call}"
        with redis.Redis.from_url(store_url) as store:
            assert store.hexists(key, "credentials") and secret not in store.dump(key)
            async with running(process):
                await process.until(call, State.SUCCEEDED)
            assert not store.hexists(key, "credentials")

        assert upstream.sent[1].header(b"authorization") == secret

    lived(work)


@pytest.mark.parametrize(
    ("header", "keeps"),
    [
        ((b"authorization", b"Bearer token"), False),
        ((b"authorization", b"AWS4-HMAC-SHA256 Credential=a/b, Signature=c"), True),
    ],
    ids=["a store without a key", "a signature over time"],
)
def test_a_call_that_needs_its_caller_is_not_swept_but_goes_on_with_it(
    store_url: str, header: Header, keeps: bool
):
    async def work() -> None:
        upstream = Scripted(LATER, CREATED)
        process = Process(store_url, upstream, BILLING, keeps)
        first = await process.post((b"prefer", b"wait=0, respond-async"), header)
        await process.until(first.call, State.WAITING)
        async with running(process):
            assert isinstance(first.reply.answer, Problem)
            again = await process.post(NO_WAIT, header)
            assert isinstance(again.reply.answer, Problem)
            assert again.reply.answer.status == 503 and "repeat it" in again.reply.answer.detail
            await asyncio.sleep(1.3)
            entry = await process.ledger.entry(first.call)
            assert entry is not None and entry.record.credentials is Credentials.CALLER
            assert len(upstream.sent) == 1

            last = await process.post((b"prefer", b"wait=3"), header)

            assert last.reply.answer == CREATED

    lived(work)


def test_who_asks_for_an_answer_later_is_promised_one_at_once(store_url: str):
    async def work() -> None:
        upstream = Scripted(CREATED, takes=0.3)
        process = Process(store_url, upstream, BILLING)
        async with running(process):
            promised = await process.post((b"prefer", b"respond-async"))

            assert isinstance(promised.reply.answer, Problem)
            assert (promised.reply.answer.status, promised.reply.location) == (202, True)
            await process.until(promised.call, State.SUCCEEDED)

    lived(work)


# Doubts


def test_a_silent_holder_of_a_keyed_call_is_replaced_and_its_call_completed(store_url: str):
    async def work() -> None:
        upstream = Scripted(CREATED)
        rules = UpstreamRules("billing", "http://billing.test", idempotency=Idempotency("header"))
        process = Process(store_url, upstream, rules)
        other = Process(store_url, Scripted(LOST), rules)
        who = other.gate.identify(
            Arrival("billing", "POST", b"/charges", ((b"workflow-id", b"w"), (b"workflow-step", b"s")))
        )
        assert isinstance(who, Identified)
        call, about, _ = await other.gate._call(who, b"{}")
        await other.ledger.claim(call.id, about, Ask(call.fingerprint, send=True, window=3600, lease=0.3))
        async with running(process):
            await process.until(call.id, State.SUCCEEDED)

            assert len(upstream.sent) == 1
        await other.ledger.aclose()

    lived(work)


def with_lookup(absent_after: float = math.inf, assume: Assume | None = None) -> UpstreamRules:
    lookup = Lookup("/charges?ref={body.ref}", "/data/0", absent_after)
    rule = OperationRule("POST /charges", lookup=lookup, assume=assume)
    return UpstreamRules("billing", "http://billing.test", operations=(rule,))


def found(body: bytes) -> Response:
    return Response(200, ((b"content-type", b"application/json"),), body)


def test_a_lost_answer_is_settled_by_the_look_up_and_told_to_its_caller(store_url: str):
    async def work() -> None:
        upstream = Scripted(LOST, get=[found(b'{"data": [{"id": 7, "ref": "r-1"}]}')])
        process = Process(store_url, upstream, with_lookup())
        async with running(process):
            told = await process.post()

            assert isinstance(told.reply.answer, Response)
            assert (told.reply.outcome, told.reply.answer.status) == (Outcome.SUCCESS, 200)
            assert told.reply.answer.body == b'{"id":7,"ref":"r-1"}'
            assert upstream.asked[0].target == b"/charges?ref=r-1"
            entry = await process.ledger.entry(told.call)
            assert entry is not None and entry.record.state is State.SUCCEEDED
            assert b"/data/0 is there" in b"".join(entry.transcript)
            assert len(upstream.sent) == 1

    lived(work)


def test_absence_counts_only_after_its_time_and_then_the_call_is_sent_again(store_url: str):
    async def work() -> None:
        upstream = Scripted(LOST, CREATED, get=[found(b'{"data": []}')])
        process = Process(store_url, upstream, with_lookup(absent_after=1.5))
        async with running(process):
            told = await process.post(NO_WAIT)
            assert told.reply.outcome is Outcome.IN_DOUBT

            await process.until(told.call, State.SUCCEEDED)

            assert upstream.times[1] - upstream.times[0] >= 1.5
            assert len(upstream.asked) >= 2 and len(upstream.sent) == 2

    lived(work)


def test_a_doubt_its_holder_left_is_found_and_settled_without_a_second_effect(store_url: str):
    async def work() -> None:
        upstream = Scripted(CREATED, get=[found(b'{"data": [{"id": 7, "ref": "r-1"}]}')])
        process = Process(store_url, upstream, with_lookup())
        who = process.gate.identify(
            Arrival("billing", "POST", b"/charges", ((b"workflow-id", b"w"), (b"workflow-step", b"s")))
        )
        assert isinstance(who, Identified)
        call, about, _ = await process.gate._call(who, b'{"ref": "r-1"}')
        await process.ledger.claim(call.id, about, Ask(call.fingerprint, send=True, lease=0.3))
        async with running(process):
            await process.until(call.id, State.SUCCEEDED)

            assert upstream.sent == [] and len(upstream.asked) == 1

    lived(work)


def test_a_doubt_nothing_can_settle_is_looked_at_once_and_left_to_a_person(store_url: str):
    async def work() -> None:
        process = Process(store_url, Scripted(LOST), BILLING)
        told = await process.post()
        assert told.reply.outcome is Outcome.IN_DOUBT
        async with running(process):
            entry = await process.ledger.entry(told.call)
            assert entry is not None and entry.record.due == math.inf
            assert (await process.ledger.resolve(told.call, True, None, b"")).record.state is State.SUCCEEDED

    lived(work)


@pytest.mark.parametrize(("assumed", "sendings"), [(Assume.APPLIED, 1), (Assume.NOT_APPLIED, 2)])
def test_what_is_declared_of_a_doubt_holds_where_nothing_proves_it(store_url: str, assumed: Assume, sendings: int):
    async def work() -> None:
        upstream = Scripted(LOST, CREATED)
        rule = OperationRule("POST /charges", assume=assumed)
        rules = UpstreamRules("billing", "http://billing.test", operations=(rule,))
        process = Process(store_url, upstream, rules)
        async with running(process):
            told = await process.post()

            assert told.reply.outcome is Outcome.SUCCESS
            assert len(upstream.sent) == sendings

    lived(work)


# Jobs


def test_an_accepted_job_is_followed_to_its_end_within_the_callers_patience(store_url: str):
    async def work() -> None:
        accepted = Response(202, ((b"location", b"/jobs/1"), (b"retry-after", b"0")), b"")
        running_, done = found(b'{"status": "running"}'), found(b'{"status": "done", "n": 3}')
        upstream = Scripted(accepted, get=[running_, done])
        process = Process(store_url, upstream, BILLING)
        async with running(process):
            told = await process.post()

            assert told.reply.answer == done
            assert [request.target for request in upstream.asked] == [b"/jobs/1", b"/jobs/1"]
            assert len(upstream.sent) == 1

    lived(work)


def test_an_accepted_job_outlives_its_caller_and_its_end_is_recorded(store_url: str):
    async def work() -> None:
        accepted = Response(202, ((b"operation-location", b"http://billing.test/jobs/1"),), b"")
        done = found(b'{"status": "Succeeded"}')
        upstream = Scripted(accepted, get=[found(b'{"status": "Running"}'), done])
        process = Process(store_url, upstream, BILLING)
        async with running(process):
            told = await process.post(NO_WAIT)
            assert isinstance(told.reply.answer, Problem)
            assert told.reply.answer.slug == "deferred"
            assert await process.state(told.call) is State.ACCEPTED

            await process.until(told.call, State.SUCCEEDED)

            assert (await process.post()).reply.answer == done
            assert len(upstream.sent) == 1

    lived(work)


def test_a_202_without_a_place_to_ask_is_a_success(store_url: str):
    async def work() -> None:
        accepted = Response(202, ((b"location", b"https://elsewhere.test/jobs/1"),), b"")
        process = Process(store_url, Scripted(accepted), BILLING)
        async with running(process):
            assert (await process.post()).reply.answer == accepted

    lived(work)


def test_an_end_in_good_order_waits_for_the_answer_of_what_is_being_sent(store_url: str):
    async def work() -> None:
        upstream = Scripted(LATER, CREATED, takes=0.5)
        process = Process(store_url, upstream, BILLING)
        async with running(process):
            call = (await process.post(NO_WAIT)).call
            async with asyncio.timeout(20):
                while len(upstream.sent) < 2:
                    await asyncio.sleep(0.02)
        link = Process(store_url, upstream, BILLING)
        assert await link.state(call) is State.SUCCEEDED
        await link.ledger.aclose()

    lived(work)


def test_a_call_of_an_upstream_that_is_not_configured_here_is_put_off(store_url: str):
    async def work() -> None:
        process = Process(store_url, Scripted(LATER), BILLING)
        call = (await process.post(NO_WAIT)).call
        other = Process(store_url, Scripted(CREATED), UpstreamRules("other", "http://other.test"))
        async with running(other):
            await asyncio.sleep(1.5)
            entry = await process.ledger.entry(call)

            assert entry is not None
            assert entry.record.state is State.WAITING and entry.record.not_before > time.time() + 30
        await process.ledger.aclose()

    lived(work)


def test_a_doubt_whose_change_was_not_heard_of_is_still_settled_by_a_late_answer(store_url: str):
    """A sweeper that looked meanwhile does not outdate the holder, whose answer is the best evidence."""

    async def work() -> None:
        process = Process(store_url, Scripted(LOST), BILLING)
        who = process.gate.identify(
            Arrival("billing", "POST", b"/charges", ((b"workflow-id", b"w"), (b"workflow-step", b"s")))
        )
        assert isinstance(who, Identified)
        call, about, _ = await process.gate._call(who, b"{}")
        await process.ledger.claim(call.id, about, Ask(call.fingerprint, send=True, lease=0.2))
        async with running(process):
            await process.until(call.id, State.IN_DOUBT)
            await asyncio.sleep(0.3)

            done = Change(State.SUCCEEDED, Outcome.SUCCESS, Effect.ALL)
            await process.ledger.change(call.id, 1, done, reply=CREATED)

            assert await process.state(call.id) is State.SUCCEEDED

    lived(work)

"""One suite for every ledger; then what only Redis promises: agreement, expiry, secrecy, its connection."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import pytest
import redis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from discovery.exchange import Request, Response
from gateway import ledger as ledger_module
from gateway._lua import NOTES
from gateway.ledger import RedisLedger
from gateway.link import Link, Script
from gateway.ports import About, Entry
from gateway.problems import LedgerUnavailable
from gateway.testing import MemoryLedger
from gateway.vault import Vault
from policies.claims import (
    ALWAYS,
    KEY_ONLY,
    LEASE,
    LONGEST_KEPT,
    Ask,
    Busy,
    Callback,
    Change,
    Credentials,
    Doubtful,
    Granted,
    Kept,
    Later,
    Mismatch,
    Outdated,
    Record,
    Recorded,
    Replays,
    State,
    StepKey,
    call_id,
    shard_of,
)
from policies.outcome import Effect, Outcome

START = 1_800_000_000.0
SEND = Ask("fp", send=True)
DONE = Change(State.SUCCEEDED, Outcome.SUCCESS, Effect.ALL)
REFUSED = Change(State.FAILED, Outcome.REFUSED, Effect.NONE)
CREATED = Response(201, ((b"Content-Type", b"application/json"),), b'{"id": 1}', b"Created")
SECRET = b"4111-1111-1111-1111"


class Clock:
    """A time that tests move."""

    def __init__(self) -> None:
        self.time = START

    def now(self) -> float:
        return self.time


class Bench:
    """A ledger whose methods are called without `await`, and its clock."""

    def __init__(self, runner: asyncio.Runner, ledger: Any, clock: Clock) -> None:
        self.runner, self.ledger, self.clock = runner, ledger, clock

    def __getattr__(self, name: str) -> Callable[..., Any]:
        method = getattr(self.ledger, name)
        assert inspect.iscoroutinefunction(method)
        return lambda *a, **k: self.runner.run(asyncio.wait_for(method(*a, **k), 20))

    def pass_time(self, seconds: float) -> None:
        self.clock.time += seconds


def step(name: str, id: str = "order-1", kept: float | None = None, body: bytes = b"{}") -> tuple[str, About]:
    key = StepKey("sync", id, name) if kept is None else StepKey(KEY_ONLY, "billing", name)
    request = Request("POST", b"/charges?x=%2F", ((b"X", b"1"), (b"x", b"2")), body)
    return call_id(key), About(key, "billing", "POST /charges", request, kept, "00-trace", "alice")


def open_ledger(url: str, clock: Clock | None, **link: float) -> RedisLedger:
    return RedisLedger(Link(url, **link), Vault([b"k" * 32]), clock)


@pytest.fixture
def redis_bench(store_url: str) -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        clock = Clock()

        async def make() -> RedisLedger:
            return open_ledger(store_url, clock)

        bench = Bench(runner, runner.run(make()), clock)
        yield bench
        bench.aclose()


@pytest.fixture
def memory_bench() -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        clock = Clock()
        yield Bench(runner, MemoryLedger(clock), clock)


@pytest.fixture(params=["memory", "redis"])
def bench(request: pytest.FixtureRequest) -> Bench:
    return request.getfixturevalue(f"{request.param}_bench")


# The port


def test_a_recorded_reply_is_told_to_a_repeat_byte_for_byte(bench: Bench):
    call, about = step("charge")
    bench.claim(call, about, SEND)
    bench.change(call, 1, DONE, reply=CREATED)

    repeat = bench.claim(call, about, SEND)

    assert isinstance(repeat.result, Recorded)
    assert repeat.reply == CREATED


def test_a_busy_step_and_another_request_are_told_apart(bench: Bench):
    call, about = step("charge")
    bench.claim(call, about, SEND)

    busy = bench.claim(call, about, SEND)
    other = bench.claim(call, step("charge", body=b"{1}")[1], replace(SEND, fingerprint="other"))

    assert isinstance(busy.result, Busy) and busy.result.until == START + LEASE
    assert isinstance(other.result, Mismatch) and other.request == about.request


def test_a_resumed_call_goes_on_with_the_frozen_request_and_what_came_so_far(bench: Bench):
    call, about = step("charge")
    bench.claim(call, about, SEND)
    wait = Change(State.WAITING, Outcome.PARTIAL, Effect.SOME, not_before=START + 60)
    bench.change(call, 1, wait, reply=CREATED, items=b"3 of 5")

    early = bench.claim(call, about, SEND)
    bench.pass_time(60)
    resumed = bench.claim(call, step("charge", body=b"{2}")[1], SEND)

    assert isinstance(early.result, Later) and early.result.not_before == START + 60
    assert isinstance(resumed.result, Granted) and resumed.result.resumed
    assert (resumed.request, resumed.reply, resumed.items) == (about.request, CREATED, b"3 of 5")


def test_a_new_generation_replaces_the_request_and_keeps_the_transcript(bench: Bench):
    call, about = step("charge")
    bench.claim(call, about, SEND)
    bench.change(call, 1, REFUSED, reply=Response(402), transcript=b'{"n":1}\n{"n":2}', items=b"i")
    other = step("charge", body=b'{"fixed": true}')[1]

    again = bench.claim(call, other, replace(SEND, fingerprint="other"))
    bench.change(call, 2, DONE, reply=CREATED, transcript=b'{"n":3}')

    assert again.result.record.generation == 2 and not again.result.resumed
    entry = bench.entry(call)
    assert (entry.about, entry.reply, entry.items) == (other, CREATED, b"")
    assert entry.transcript == (b'{"n":1}', b'{"n":2}', b'{"n":3}')


def test_a_stale_holder_changes_neither_record_nor_reply(bench: Bench):
    call, about = step("charge")
    keyed = replace(SEND, window=3600.0)
    bench.claim(call, about, keyed)
    bench.pass_time(LEASE)
    bench.claim(call, about, keyed)

    late = bench.change(call, 1, DONE, reply=CREATED, transcript=b"{}", items=b"i")

    assert isinstance(late, Outdated) and late.record.fence == 2
    entry = bench.entry(call)
    assert (entry.record.state, entry.reply, entry.items, entry.transcript) == (State.SENDING, None, b"", ())


def test_renewals_say_which_leases_still_hold(bench: Bench):
    (one, about_one), (two, about_two) = step("one"), step("two")
    bench.claim(one, about_one, SEND)
    bench.claim(two, about_two, SEND)
    bench.pass_time(1.5)

    assert bench.renew([(one, 1), (two, 2), (step("none")[0], 1)], LEASE) == [True, False, False]
    assert bench.entry(one).record.lease_until == START + 1.5 + LEASE


def test_silence_is_noticed_in_its_time_and_not_before(bench: Bench):
    call, about = step("charge")
    bench.claim(call, about, SEND)
    bench.pass_time(LEASE - 0.001)

    assert bench.calls(State.IN_DOUBT) == []
    bench.pass_time(0.001)
    assert [entry.id for entry in bench.calls(State.IN_DOUBT)] == [call]
    assert isinstance(bench.claim(call, about, SEND).result, Doubtful)


def test_repeats_stop_at_the_very_end_of_the_window(bench: Bench):
    call, about = step("charge")
    keyed = replace(SEND, window=60.0)
    bench.claim(call, about, keyed)
    bench.pass_time(59.5)
    resumed = bench.claim(call, about, keyed)
    bench.change(call, 2, Change(State.WAITING, effect=Effect.UNKNOWN))
    bench.pass_time(0.5)

    assert isinstance(resumed.result, Granted) and resumed.result.resumed
    assert isinstance(bench.claim(call, about, keyed).result, Doubtful)


def test_due_calls_are_told_by_shard(bench: Bench):
    call, about = step("charge")
    shard = shard_of("sync", "order-1")
    bench.claim(call, about, SEND)
    bench.change(call, 1, Change(State.WAITING, Outcome.RATE_LIMITED, not_before=START + 60))

    assert bench.due(shard) == []
    bench.pass_time(60)
    assert bench.due(shard) == [call]
    assert bench.due((shard + 1) % 256) == []


def test_a_person_settles_cancels_and_hastens(bench: Bench):
    doubt, wait = step("doubt"), step("wait")
    for call, about in (doubt, wait):
        bench.claim(call, about, SEND)
    bench.change(doubt[0], 1, Change(State.IN_DOUBT, Outcome.IN_DOUBT, Effect.UNKNOWN))
    bench.change(wait[0], 1, Change(State.WAITING, Outcome.RATE_LIMITED, not_before=START + 999))

    settled = bench.resolve(doubt[0], True, CREATED, b'{"by":"ann"}')
    hastened = bench.hasten(wait[0], b"{}")
    cancelled = bench.cancel(wait[0], b"{}")

    assert isinstance(settled, Kept) and bench.claim(*doubt, SEND).reply == CREATED
    assert hastened.record.not_before == START
    assert cancelled.record.state is State.CANCELLED
    assert bench.entry(doubt[0]).transcript == (b'{"by":"ann"}',)
    assert isinstance(bench.cancel(doubt[0], b""), Outdated)
    assert bench.cancel(step("none")[0], b"") == Outdated(None)


def test_calls_are_listed_newest_first_by_state(bench: Bench):
    calls = []
    for n, wish in enumerate([DONE, REFUSED, Change(State.IN_DOUBT, effect=Effect.UNKNOWN), None]):
        call, about = step(f"s{n}", id=f"order-{n}")
        bench.pass_time(1)
        bench.claim(call, about, SEND)
        if wish:
            bench.change(call, 1, wish)
        calls.append(call)

    assert [entry.id for entry in bench.calls()] == calls[::-1]
    assert [entry.id for entry in bench.calls(limit=2)] == calls[:1:-1]
    assert [entry.id for entry in bench.calls(limit=2, before=place(bench.entry(calls[2])))] == calls[1::-1]
    assert bench.calls(before=place(bench.entry(calls[0]))) == []
    for state, call in zip((State.SUCCEEDED, State.FAILED, State.IN_DOUBT, State.SENDING), calls, strict=True):
        assert [entry.id for entry in bench.calls(state)] == [call]


@pytest.mark.parametrize("state", [None, State.IN_DOUBT, State.WAITING, State.SUCCEEDED])
def test_a_list_goes_on_where_it_ended_and_shows_each_call_once(bench: Bench, state):
    wishes = {
        State.IN_DOUBT: Change(State.IN_DOUBT, effect=Effect.UNKNOWN),
        State.WAITING: Change(State.WAITING, not_before=START + 500),
    }
    wish = wishes.get(state, DONE)
    for n in range(7):  # three in a workflow, two at a moment; who waits is due in another order
        call, about = step(f"s{n}", id=f"order-{n // 3}")
        bench.pass_time(n % 2)
        bench.claim(call, about, SEND)
        bench.change(call, 1, replace(wish, not_before=max(0.0, wish.not_before - 10 * n)))

    seen: list[Entry] = []
    while part := bench.calls(state, 2, place(seen[-1]) if seen else None):
        seen += part

    assert len({entry.id for entry in seen}) == len(seen) == 7
    assert seen == bench.calls(state)


def place(entry: Entry) -> tuple[float, str]:
    return entry.created, entry.id


def test_a_workflow_counts_its_steps_and_keeps_its_history(bench: Bench):
    call, about = step("charge", id="Größe/1 {x}")
    note, about_note = step("GET /me 1", id="Größe/1 {x}")
    bench.claim(call, about, SEND)
    bench.pass_time(1)
    bench.note(note, about_note, Response(200, (), b"me"), b'{"n":1}')
    bench.change(call, 1, DONE, reply=CREATED)

    workflow, entries = bench.workflow("sync", "Größe/1 {x}")

    assert workflow.states == {State.SUCCEEDED: 1}
    assert (workflow.id, workflow.started, workflow.active, workflow.ended) == ("Größe/1 {x}", START, START + 1, 0)
    assert [entry.id for entry in entries] == [call, note]
    assert entries[1].reply == Response(200, (), b"me") and entries[1].transcript == (b'{"n":1}',)
    assert bench.workflows() == [workflow]
    assert bench.workflow("sync", "other") is None


def test_a_workflow_ends_only_when_nothing_is_open_and_a_new_step_opens_it_again(bench: Bench):
    call, about = step("charge")
    bench.claim(call, about, SEND)
    assert bench.end("sync", "order-1", 60) is False
    bench.change(call, 1, DONE)
    bench.pass_time(10)

    assert bench.end("sync", "order-1", 60) is True
    assert bench.workflow("sync", "order-1")[0].ended == START + 10
    bench.claim(*step("ship"), SEND)
    assert bench.workflow("sync", "order-1")[0].ended == 0


def test_a_due_call_is_told_to_one_taker_and_the_heads_say_when_the_next_is_due(bench: Bench):
    call, about = step("charge")
    shard = int(call[:2], 16)
    bench.claim(call, about, SEND)
    bench.change(call, 1, Change(State.WAITING, Outcome.RATE_LIMITED, not_before=START + 60))
    assert bench.heads()[shard] == pytest.approx(60)
    assert bench.heads()[(shard + 1) % 256] == ALWAYS
    bench.pass_time(60)

    assert bench.take(shard, 8, hold=2.0) == ([call], pytest.approx(2.0))
    assert bench.take(shard, 8, hold=2.0)[0] == []
    bench.pass_time(2)
    assert bench.take(shard, 8, hold=2.0)[0] == [call]


def test_a_claim_whose_answer_was_lost_is_granted_again_to_its_owner_alone(bench: Bench):
    call, about = step("charge")
    mine = replace(SEND, owner="me")
    first = bench.claim(call, about, mine)

    again, other = bench.claim(call, about, mine), bench.claim(call, about, replace(SEND, owner="you"))

    assert isinstance(again.result, Granted)
    assert again.result.record == first.result.record
    assert isinstance(other.result, Busy)
    bench.pass_time(LEASE)
    assert isinstance(bench.claim(call, about, mine).result, Doubtful)


def test_without_a_caller_nothing_is_begun_anew(bench: Bench):
    call, about = step("charge")
    bench.claim(call, about, replace(SEND, send=False))
    bench.change(call, 1, Change(State.WAITING, Outcome.RATE_LIMITED))
    bench.cancel(call, b"")

    alone = bench.claim(call, about, replace(SEND, alone=True, settle=True))

    assert isinstance(alone.result, Recorded)
    assert bench.entry(call).record.state is State.CANCELLED


def test_a_callers_credentials_are_kept_until_the_call_ends(bench: Bench):
    call, about = step("charge")
    bench.claim(call, about, SEND)
    kept = ((b"authorization", b"Bearer t"),)
    wait = Change(State.WAITING, Outcome.RATE_LIMITED, credentials=Credentials.KEPT)
    bench.change(call, 1, wait, credentials=kept)
    assert bench.pending(call).credentials == kept
    bench.claim(call, about, replace(SEND, alone=True))

    bench.change(call, 2, DONE)

    assert bench.pending(call).credentials == ()


def test_idle_workflows_are_reaped(bench: Bench):
    shard = shard_of("sync", "order-1")
    call, about = step("charge")
    bench.claim(call, about, SEND)
    bench.change(call, 1, DONE)
    bench.pass_time(99)
    assert bench.reap(shard, 100, 60) == 0

    bench.pass_time(1)
    assert bench.reap(shard, 100, 60) == 1
    assert bench.reap(shard, 100, 60) == 0


def test_unnamed_steps_are_counted_by_run(bench: Bench):
    def met(run: str, marker: str = "") -> int:
        return bench.occurrence("sync", "order-1", run, "fp", marker)

    assert (met("r1", "a"), met("r1", "a"), met("r1")) == (1, 1, 1)
    bench.delivered("sync", "order-1", "r1", "fp", 1)
    assert (met("r1", "a"), met("r1", "b"), met("r1", "b")) == (1, 2, 2)
    assert (met("r2"), met("")) == (1, 1)
    bench.delivered("sync", "order-1", "", "fp", 1)
    assert met("") == 1


# Both ledgers decide alike

EDGES: list[Callable[[Record], float]] = [
    lambda record: record.lease_until,
    lambda record: record.repeat_until,
    lambda record: record.not_before,
    lambda record: record.deadline,
]
WISHES = st.builds(
    Change,
    state=st.sampled_from(State),
    outcome=st.sampled_from([None, Outcome.SUCCESS, Outcome.TRANSIENT]),
    effect=st.sampled_from(Effect),
    not_before=st.sampled_from([0.0, START, START + LEASE, START + 60.0]),
    keep=st.sampled_from([0.0, LEASE]),
    deadline=st.sampled_from([None, 0.0, START + 30.0]),
    settles=st.booleans(),
    credentials=st.sampled_from([None, *Credentials]),
    anew=st.booleans(),
)
ASKS = st.builds(
    Ask,
    fingerprint=st.sampled_from(["fp", "fp", "fp", "other"]),
    send=st.booleans(),
    window=st.sampled_from([0.0, LEASE, 60.0, ALWAYS]),
    deadline=st.sampled_from([0.0, START + LEASE, START + 60.0]),
    replays=st.sampled_from(Replays),
    early=st.booleans(),
    settle=st.booleans(),
    alone=st.booleans(),
    credentials=st.sampled_from(Credentials),
    owner=st.sampled_from(["", "a", "b"]),
    callback=st.sampled_from(Callback),
)
CLAIMS = st.tuples(st.just("claim"), st.integers(0, 2), ASKS)
MOVES = st.one_of(
    CLAIMS,
    st.tuples(st.just("change"), st.integers(0, 2), WISHES),
    st.tuples(st.just("renew"), st.integers(0, 2), st.just(LEASE)),
    st.tuples(st.just("person"), st.sampled_from(["applied", "not-applied", "cancel", "hasten"]), st.none()),
    st.tuples(st.just("pass"), st.sampled_from(EDGES), st.sampled_from([0.0, -1e-6, 1e-6])),
    st.tuples(st.just("due"), st.none(), st.none()),
    st.tuples(st.just("take"), st.booleans(), st.none()),
)


def play(memory: Bench, real: Bench, moves: list[tuple[str, Any, Any]], kept: float | None) -> None:
    """Let three actors make `moves` on one step of both ledgers, and compare what each is told and keeps.

    Time passes up to an edge of the record (its lease's end, say), or by a microsecond less or more.
    """
    call, about = step("charge", kept=kept)
    fences = [0, 0, 0]
    for move, who, what in moves:
        if move == "pass":
            entry = memory.entry(call)
            edge = who(entry.record) + what
            if memory.clock.time < edge < ALWAYS:
                memory.clock.time = real.clock.time = edge
            continue
        told = [_move(bench, call, about, fences, move, who, what) for bench in (memory, real)]
        assert told[0] == told[1]
        if move == "claim" and isinstance(told[0].result, Granted):
            fences[who] = told[0].result.record.fence
        assert memory.entry(call) == real.entry(call)
    assert memory.workflow("sync", "order-1") == real.workflow("sync", "order-1")


def _move(bench: Bench, call: str, about: About, fences: list[int], move: str, who: Any, what: Any) -> Any:
    match move:
        case "claim":
            return bench.claim(call, about, what)
        case "change":
            line = b'{"by":%d}' % who
            return bench.change(call, fences[who], what, reply=Response(200 + who), transcript=line, items=b"i")
        case "renew":
            return bench.renew([(call, fences[who])], what)
        case "due":
            return bench.due(int(call[:2], 16))
        case "take":
            names, head = bench.take(int(call[:2], 16), 1, 1.0)
            for end in names:
                if who and "." in end:
                    bench.told(end)
            return names, round(head, 3)
        case "person" if who in ("cancel", "hasten"):
            return getattr(bench, who)(call, b"{}")
        case _:
            return bench.resolve(call, who == "applied", None, b"{}")


def compare(real: Bench, url: str, examples: int, phases: Sequence[Phase] = tuple(Phase)) -> None:

    @settings(
        max_examples=examples,
        phases=phases,
        deadline=None,
        derandomize=True,
        database=None,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(CLAIMS, st.lists(MOVES, min_size=1, max_size=12), st.sampled_from([None, 60.0]))
    def alike(first: tuple[str, Any, Any], moves: list[tuple[str, Any, Any]], kept: float | None) -> None:
        store.flushall()
        clock = Clock()
        real.clock.time = START
        play(Bench(real.runner, MemoryLedger(clock), clock), real, [first, *moves], kept)

    with redis.Redis.from_url(url) as store:
        alike()


def test_lua_and_python_decide_alike_whatever_actors_do_and_when(redis_bench: Bench, store_url: str):
    compare(redis_bench, store_url, 250)


@pytest.mark.slow
def test_lua_and_python_decide_alike_at_length(redis_bench: Bench, store_url: str):
    compare(redis_bench, store_url, 20_000)


KEEP = "\nkeep(old, new, now)"
FORGET = "\n  if new.effect == 'unknown' then redis.call('DEL', call) else keep(old, new, now) end"
PLANTED = {
    "dropped fence": ("CHANGE", "or record.fence ~= fence then", "then"),
    "unconditional complete": ("CHANGE", "if not HELD[record.state] and not settles", "if false"),
    "mark after send": ("CLAIM", KEEP, "\nkeep(old, with(new, {state = 'claimed'}), now)"),
    "delete on exception": ("CHANGE", "\n  keep(old, new, now)", FORGET),
    "renewal without a fence": ("RENEW", "or record.fence ~= fence or", "or"),
    "a forgotten doubt": ("CHANGE", "doubted = unknown", "doubted = false"),
    "a lease that outlives its end": ("CLAIM", "record.lease_until <= now then", "record.lease_until < now then"),
}


@pytest.mark.parametrize(("name", "was", "is_"), PLANTED.values(), ids=PLANTED.keys())
def test_every_planted_fault_in_the_scripts_is_found(
    redis_bench: Bench, store_url: str, monkeypatch: pytest.MonkeyPatch, name: str, was: str, is_: str
):
    text = getattr(ledger_module, name).text
    assert was in text
    monkeypatch.setattr(ledger_module, name, Script(text.replace(was, is_)))

    with pytest.raises(AssertionError):
        compare(redis_bench, store_url, 1_000, phases=[Phase.generate])


# What only the ledger in Redis promises


def immortal(url: str) -> set[str]:
    """Return the keys without an expiry."""
    with redis.Redis.from_url(url, decode_responses=True) as client:
        return {key for key in client.scan_iter() if client.ttl(key) == -1}


def test_no_key_outlives_its_workflow_without_an_expiry(redis_bench: Bench, store_url: str):
    for n, wish in enumerate([DONE, REFUSED, Change(State.EXHAUSTED), Change(State.WAITING)]):
        call, about = step(f"s{n}", id=f"order-{n % 2}")
        redis_bench.claim(call, about, SEND)
        redis_bench.change(call, 1, wish, reply=CREATED, transcript=b"{}")
    waiting = call
    redis_bench.note(*step("GET", id="order-0"), CREATED, b"{}")
    redis_bench.occurrence("sync", "order-0", "r", "fp", "m")
    alone = step("key", kept=60.0)
    redis_bench.claim(*alone, SEND)
    redis_bench.change(alone[0], 1, Change(State.EXHAUSTED))
    assert immortal(store_url)

    redis_bench.cancel(waiting, b"")
    assert redis_bench.end("sync", "order-0", 60) and redis_bench.end("sync", "order-1", 30)

    assert immortal(store_url) == set()


def test_what_is_open_never_expires(redis_bench: Bench, store_url: str):
    alone = step("key", kept=60.0)
    redis_bench.claim(*alone, SEND)
    redis_bench.change(alone[0], 1, REFUSED)
    assert not any(":call:" in key for key in immortal(store_url))

    redis_bench.claim(*alone, SEND)

    assert any(":call:" in key for key in immortal(store_url))


def test_a_workflow_opened_again_keeps_all_its_records(redis_bench: Bench, store_url: str):
    one, two = step("one"), step("two")
    redis_bench.claim(*one, SEND)
    redis_bench.change(one[0], 1, DONE, reply=CREATED)
    redis_bench.end("sync", "order-1", 60)

    redis_bench.claim(*two, SEND)

    assert {key for key in immortal(store_url) if ":call:" in key} == {
        f"gimbal:{{s{shard_of('sync', 'order-1')}}}:call:{call}" for call, _ in (one, two)
    }


def test_history_and_transcript_are_capped(redis_bench: Bench, store_url: str):
    call, about = step("charge")
    redis_bench.claim(call, about, SEND)
    for n in range(20):
        redis_bench.change(
            call, 1, Change(State.SENDING, keep=LEASE), transcript=b'{"n":%d,"x":"%s"}' % (n, b"x" * 9000)
        )
    for n in range(NOTES + 3):
        redis_bench.pass_time(0.001)
        redis_bench.note(*step(f"GET {n}"), CREATED, b"")

    lines = redis_bench.entry(call).transcript
    _, entries = redis_bench.workflow("sync", "order-1")

    assert 50_000 < sum(map(len, lines)) < 65_536 and lines[-1].startswith(b'{"n":19,')
    assert len(entries) == NOTES + 1
    assert redis_bench.entry(step("GET 2")[0]) is None
    assert redis_bench.entry(step("GET 3")[0]) is not None


def test_bodies_and_headers_cannot_be_read_in_the_store(redis_bench: Bench, store_url: str):
    call, about = step("charge", body=SECRET)
    redis_bench.claim(call, about, SEND)
    redis_bench.change(
        call, 1, DONE, reply=Response(200, ((b"a", SECRET),), SECRET), transcript=SECRET, items=SECRET
    )

    with redis.Redis.from_url(store_url) as client:
        stored = b"".join(client.dump(key) for key in client.scan_iter())

    assert SECRET not in stored and b"succeeded" in stored


def test_a_record_moved_to_another_call_does_not_open(redis_bench: Bench, store_url: str):
    one, two = step("one"), step("two")
    for call, about in (one, two):
        redis_bench.claim(call, about, SEND)
        redis_bench.change(call, 1, DONE, reply=CREATED)
    with redis.Redis.from_url(store_url) as client:
        keys = [f"gimbal:{{s{shard_of('sync', 'order-1')}}}:call:{call}" for call, _ in (one, two)]
        client.hset(keys[1], "reply", client.hget(keys[0], "reply"))

    with pytest.raises(LedgerUnavailable, match="changed"):
        redis_bench.claim(*two, SEND)


def test_every_key_of_a_call_is_in_its_shard(redis_bench: Bench, store_url: str):
    redis_bench.claim(*step("charge"), SEND)
    redis_bench.occurrence("sync", "order-1", "r", "fp", "m")

    with redis.Redis.from_url(store_url, decode_responses=True) as client:
        tags = {key.partition("}")[0] for key in client.scan_iter()}

    assert tags == {f"gimbal:{{s{shard_of('sync', 'order-1')}"}


def test_a_key_that_was_replaced_opens_still_and_one_that_is_gone_hides_no_other_call(store_url: str):
    old, new = b"o" * 32, b"n" * 32

    async def work() -> None:
        before = RedisLedger(Link(store_url), Vault([old]))
        await before.claim(*step("first"), SEND)
        rotated = RedisLedger(Link(store_url), Vault([new, old]))
        await rotated.change(step("first")[0], 1, DONE, reply=CREATED)
        await rotated.claim(*step("second"), SEND)
        again = await rotated.claim(*step("first"), SEND)
        after = RedisLedger(Link(store_url), Vault([new]))
        first, second = await after.entry(step("first")[0]), await after.entry(step("second")[0])
        listed = await after.calls()
        settled = await after.cancel(step("first")[0], b"{}")

        assert again.reply == CREATED
        assert first is not None and second is not None
        assert "another key" in first.unreadable and not second.unreadable
        assert first.record.state is State.SUCCEEDED
        assert {entry.id for entry in listed} == {first.id, second.id}
        assert isinstance(settled, Outdated)
        for ledger in (before, rotated, after):
            await ledger.aclose()

    asyncio.run(asyncio.wait_for(work(), 20))


def test_credentials_of_a_doubt_nobody_looks_into_are_not_kept(bench: Bench):
    call, about = step("charge")
    kept = Change(State.IN_DOUBT, not_before=START + 5, credentials=Credentials.KEPT)
    bench.claim(call, about, SEND)
    bench.change(call, 1, kept, credentials=((b"authorization", SECRET),))
    assert bench.pending(call).credentials == ((b"authorization", SECRET),)
    assert bench.pending(call).record.deadline == START + LONGEST_KEPT

    bench.change(call, 1, Change(State.IN_DOUBT))

    assert bench.pending(call).credentials == ()
    assert bench.pending(call).record.credentials is Credentials.CALLER


def test_retry_looks_into_a_doubt_now_but_not_into_that_of_a_batch(bench: Bench):
    call, about = step("charge")
    bench.claim(call, about, SEND)
    bench.change(call, 1, Change(State.IN_DOUBT))
    batch, about = step("batch")
    bench.claim(batch, about, SEND)
    bench.change(batch, 1, Change(State.IN_DOUBT, effect=Effect.SOME))

    assert bench.hasten(call, b"{}").record.not_before == START
    assert isinstance(bench.hasten(batch, b"{}"), Outdated)

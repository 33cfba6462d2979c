"""The rules of the ledger: each by example, then all in every world that two or three actors can make."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from policies import claims
from policies.claims import (
    ALWAYS,
    HELD,
    TERMINAL,
    Ask,
    Busy,
    Change,
    Count,
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
    cancel,
    change,
    claim,
    deliver,
    hasten,
    lapse,
    noted,
    occur,
    renew,
    resolve,
    shard_of,
    upstream_key,
)
from policies.outcome import Effect, Outcome

SEND = Ask("fp", send=True)
KEYED = Ask("fp", send=True, window=60.0)
DONE = Change(State.SUCCEEDED, Outcome.SUCCESS, Effect.ALL)
REFUSED = Change(State.FAILED, Outcome.REFUSED, Effect.NONE)
LOST = Change(State.IN_DOUBT, Outcome.IN_DOUBT, Effect.UNKNOWN)


def granted(ask: Ask = SEND, now: float = 100.0, record: Record | None = None) -> Record:
    record, result = claim(record, ask, now)
    assert isinstance(result, Granted), result
    return record


def changed(record: Record, wish: Change, now: float = 101.0) -> Record:
    kept, result = change(record, record.fence, wish, now)
    assert isinstance(result, Kept), result
    assert kept is not None
    return kept


# Claims


def test_the_first_claim_is_granted_and_marks_the_intent():
    record, result = claim(None, SEND, 100.0)

    assert result == Granted(record, resumed=False)
    assert (record.state, record.effect, record.first_sent) == (State.SENDING, Effect.UNKNOWN, 100.0)
    assert record.lease_until == 105.0


def test_a_second_claim_is_told_until_when_the_step_is_busy():
    record = granted()

    assert claim(record, SEND, 104.9) == (record, Busy(record, 105.0))


def test_another_request_is_a_mismatch_once_the_first_may_have_had_an_effect():
    other = replace(SEND, fingerprint="other")
    unsent, sent = granted(replace(SEND, send=False)), granted()

    assert isinstance(claim(unsent, other, 101.0)[1], Busy)
    assert isinstance(claim(sent, other, 101.0)[1], Mismatch)


def test_a_silent_holder_that_may_have_sent_leaves_a_doubt():
    record, result = claim(granted(), SEND, 105.0)

    assert result == Doubtful(record)
    assert (record.state, record.effect, record.outcome) == (State.IN_DOUBT, Effect.UNKNOWN, Outcome.IN_DOUBT)


def test_a_silent_holder_that_sent_nothing_is_replaced():
    record = granted(replace(SEND, send=False))

    after, result = claim(record, SEND, 105.0)

    assert result == Granted(after, resumed=True)
    assert (after.generation, after.fence, after.state) == (1, 2, State.SENDING)


def test_a_silent_holder_is_replaced_while_the_upstream_keeps_its_key():
    record = granted(KEYED)

    inside, again = claim(record, KEYED, 159.0)
    outside, doubt = claim(record, KEYED, 160.0)

    assert again == Granted(inside, resumed=True)
    assert (inside.generation, inside.doubted) == (1, True)
    assert doubt == Doubtful(outside)


def test_an_effect_is_replayed_whoever_asks_and_whenever():
    record = changed(granted(), DONE)

    assert claim(record, SEND, 1e9) == (record, Recorded(record))
    assert isinstance(claim(record, replace(SEND, fingerprint="other"), 1e9)[1], Mismatch)


def test_what_had_no_effect_starts_a_new_generation_even_with_another_request():
    record = changed(granted(), REFUSED)

    after = granted(replace(SEND, fingerprint="other"), 102.0, record)

    assert (after.generation, after.fingerprint, after.attempt) == (2, "other", 1)


def test_a_key_on_its_own_is_told_the_recorded_refusal():
    ask = replace(SEND, replays=Replays.DEFINITE)
    record = changed(granted(ask), REFUSED)

    assert claim(record, ask, 102.0) == (record, Recorded(record))


def test_a_waiting_call_is_claimed_in_its_time_or_by_a_person():
    record = changed(granted(), Change(State.WAITING, Outcome.RATE_LIMITED, not_before=200.0))

    assert claim(record, SEND, 199.0) == (record, Later(record, 200.0))
    assert granted(SEND, 200.0, record).generation == 1
    assert granted(replace(SEND, early=True), 150.0, record).generation == 1


def test_a_wait_of_known_effect_outlives_the_window_for_repeats():
    wish = Change(State.WAITING, Outcome.PARTIAL, Effect.SOME, not_before=200.0)
    record = changed(granted(), wish)

    assert granted(SEND, 1e6, record).generation == 1


def test_a_wait_past_its_deadline_is_exhausted_and_the_next_claim_starts_anew():
    ask = replace(SEND, deadline=150.0)
    record = changed(granted(ask), Change(State.WAITING, Outcome.RATE_LIMITED, not_before=200.0))

    assert lapse(record, 150.0).state is State.EXHAUSTED
    assert granted(replace(ask, deadline=300.0), 151.0, record).generation == 2


def test_what_was_accepted_is_taken_over_as_it_is_and_in_its_time():
    record = changed(granted(), Change(State.ACCEPTED, effect=Effect.ALL, not_before=200.0))

    assert isinstance(claim(record, SEND, 199.0)[1], Later)
    taken = granted(SEND, 200.0, record)
    assert (taken.state, taken.fence, taken.attempt) == (State.ACCEPTED, 2, 1)


# Changes


def test_a_stale_fence_changes_nothing():
    record = granted(KEYED)
    taken = granted(KEYED, 105.0, record)

    for wish in (DONE, REFUSED, LOST, Change(State.SENDING)):
        assert change(taken, record.fence, wish, 106.0) == (taken, Outdated(taken))
    assert renew(taken, record.fence, 5.0, 106.0) == (taken, Outdated(taken))


@pytest.mark.parametrize("window", [0.0, 60.0])
def test_a_late_definite_answer_settles_its_own_doubt(window: float):
    record = granted(replace(SEND, window=window))

    late = changed(lapse(record, 105.0), DONE, 110.0)

    assert (late.state, late.effect) == (State.SUCCEEDED, Effect.ALL)


def test_no_mark_is_set_after_the_lease():
    record = granted(replace(SEND, send=False))

    assert isinstance(change(record, 1, Change(State.SENDING), 105.0)[1], Outdated)
    assert changed(record, Change(State.SENDING), 104.9).lease_until == 105.0


def test_an_unanswered_sending_is_followed_by_another_only_where_repeats_are_safe():
    again = Change(State.SENDING, effect=Effect.UNKNOWN, keep=5.0)

    assert isinstance(change(granted(), 1, again, 101.0)[1], Outdated)
    assert changed(granted(KEYED), again).doubted
    assert changed(granted(replace(SEND, window=ALWAYS)), again).doubted


def test_a_later_refusal_says_nothing_of_an_unanswered_sending_unless_it_speaks_for_all():
    twice = changed(granted(KEYED), Change(State.SENDING, effect=Effect.UNKNOWN, keep=5.0))

    assert changed(twice, REFUSED).state is State.IN_DOUBT
    assert changed(twice, Change(State.WAITING, not_before=110.0)).effect is Effect.UNKNOWN
    assert changed(twice, replace(REFUSED, settles=True)).state is State.FAILED
    assert changed(twice, DONE).effect is Effect.ALL


def test_an_end_of_unknown_effect_is_a_doubt():
    record = changed(granted(), Change(State.EXHAUSTED, Outcome.TRANSIENT, Effect.UNKNOWN))

    assert (record.state, record.outcome) == (State.IN_DOUBT, Outcome.IN_DOUBT)


def test_a_renewal_moves_the_lease_of_its_holder():
    record, result = renew(granted(), 1, 5.0, 103.0)

    assert result == Kept(record)
    assert record.lease_until == 108.0


# Persons


def test_a_person_settles_a_doubt_either_way():
    doubt = lapse(granted(), 105.0)

    applied, _ = resolve(doubt, True, 106.0)
    free, _ = resolve(doubt, False, 106.0)

    assert isinstance(claim(applied, SEND, 107.0)[1], Recorded)
    assert granted(SEND, 107.0, free).generation == 2
    assert isinstance(resolve(applied, False, 108.0)[1], Outdated)


def test_giving_up_a_wait_that_may_have_taken_effect_leaves_a_doubt_that_is_not_repeated():
    clear = changed(granted(), Change(State.WAITING, not_before=200.0))
    unclear = changed(granted(KEYED), Change(State.WAITING, effect=Effect.UNKNOWN, not_before=200.0))

    assert cancel(clear, 102.0)[0].state is State.CANCELLED
    doubt, _ = cancel(unclear, 102.0)
    assert isinstance(claim(doubt, KEYED, 103.0)[1], Doubtful)


def test_retry_now_makes_a_wait_due():
    record = changed(granted(), Change(State.WAITING, not_before=200.0))

    hastened, _ = hasten(record, 110.0)

    assert granted(SEND, 110.0, hastened).generation == 1


@pytest.mark.parametrize("rule", [hasten, cancel, lambda record, now: resolve(record, True, now)])
def test_what_is_recorded_with_an_effect_cannot_be_moved_by_persons(rule: Callable[..., object]):
    record = changed(granted(), DONE)

    assert rule(record, 200.0) == (record, Outdated(record))


@pytest.mark.parametrize("state", State)
def test_every_state_that_time_moves_says_when(state: State):
    record = Record(state, "fp", lease_until=50.0, not_before=40.0)

    assert (record.due < ALWAYS) == (state in HELD | {State.WAITING, State.IN_DOUBT})


# Occurrences


def test_an_occurrence_advances_only_after_a_definite_reply_was_delivered():
    count, first = occur(None, "")
    count, still = occur(count, "")
    count = deliver(count, 1)
    count, second = occur(count, "")

    assert (first, still, second) == (1, 1, 2)


def test_an_sdk_repeats_the_occurrence_its_marker_named():
    count, _ = occur(None, "a")
    count, _ = occur(count, "b")
    count = deliver(count, 1)
    count, second = occur(count, "c")

    assert second == 2
    assert [occur(count, marker)[1] for marker in "abc"] == [1, 1, 2]


def test_markers_remembered_are_few_and_a_stale_delivery_is_ignored():
    count: Count | None = None
    for n in range(100):
        count, _ = occur(count, f"m{n}")

    assert count is not None and len(count.markers) == claims.MARKERS
    assert deliver(replace(count, occurrence=3), 2) == replace(count, occurrence=3)


# Names


def test_a_workflow_lies_in_one_shard_and_bare_keys_spread():
    steps = {call_id(StepKey("sync", "order-1", f"step-{n}"))[:2] for n in range(50)}
    keys = {call_id(StepKey(claims.KEY_ONLY, "billing", f"key-{n}"))[:2] for n in range(50)}

    assert steps == {f"{shard_of('sync', 'order-1'):02x}"}
    assert len(keys) > 30


def test_parts_of_a_step_do_not_run_together():
    assert call_id(StepKey("a", "b", "c")) != call_id(StepKey("a", "bc", ""))
    assert call_id(StepKey("ab", "c", "d")) != call_id(StepKey("a", "bc", "d"))


def test_the_upstream_key_is_a_uuid_that_only_a_new_generation_changes():
    one = upstream_key("18ab", 1)

    assert one == upstream_key("18ab", 1) != upstream_key("18ab", 2)
    assert (len(one), one[14], one[19] in "89ab") == (36, "8", True)


@pytest.mark.parametrize("outcome", Outcome)
def test_a_note_is_terminal(outcome: Outcome):
    assert noted(outcome).state in TERMINAL


# Every world
#
# Time is counted in ticks; a lease is two of them. Actors claim, mark, send, hear (or not), commit, die and
# oversleep in every order, ask again for what they were granted, go on without a caller and look into doubts; a
# sweeper notices silence, a person (or a look) settles doubts truthfully. The upstream counts
# effects, by key where it honours keys. What an actor knows is only what the rules told it. Worlds that no rule
# can tell apart are one (`normal`), so their number is finite though time is not.

LEASE = 2
NOW = 100
"""The present, always: as time passes, everything else moves into the past."""


@dataclass(frozen=True)
class Actor:
    """What one process knows: `until` is the end of the lease it was granted; `heard` what came of its sending."""

    doing: str = "idle"  # idle, holds (nothing sent), may-send (marked), heard, looks (into a doubt)
    fence: int = 0
    generation: int = 0
    until: float = 0.0
    heard: str = ""  # all, none, lost, unsent


@dataclass(frozen=True)
class World:
    record: Record | None
    actors: tuple[Actor, ...]
    effects: tuple[tuple[int, int, int], ...] = ()  # generation, when its key was first seen, how many


@dataclass(frozen=True)
class Rules:
    """The rules under test, as functions that a mutant may replace."""

    claim: Callable[..., tuple[Record | None, object]] = claim
    change: Callable[..., tuple[Record | None, object]] = change
    window: float = 0.0  # of the upstream's key; 0: it honours none
    sends: bool = True
    alone: bool = False  # actors also come without a caller, and look into doubts


class Broken(AssertionError):
    """An invariant does not hold."""


def explore(rules: Rules, actors: int) -> int:
    """Visit every world that can be reached; raise `Broken` at the first that must not be. Return their number."""
    first = World(None, (Actor(),) * actors)
    seen, todo = {first}, deque([first])
    while todo:
        world = todo.popleft()
        for after in steps(world, rules):
            check(world, after)
            after = normal(after)
            if after not in seen:
                seen.add(after)
                todo.append(after)
    return len(seen)


def check(before: World, after: World) -> None:
    if before.record and not after.record:
        raise Broken("a call was forgotten")
    if sum(count for *_, count in after.effects) > 1:
        raise Broken("two effects")
    if sum(actor.doing in ("holds", "may-send") and actor.until > NOW for actor in after.actors) > 1:
        raise Broken("two live holders")
    was, record = before.record, after.record
    if (
        was
        and was.state in TERMINAL
        and was.effect is not Effect.NONE
        and (was.state, was.effect) != (record.state, record.effect)
    ):
        raise Broken("a recorded effect was replaced")
    if record and record.state in TERMINAL:
        happened = any(after.effects)
        if happened != (record.effect is Effect.ALL):
            raise Broken("the record says other than what happened")


def normal(world: World) -> World:
    """Return the world with all forgotten that no rule can tell: how old a fence is, who of the alike is who."""
    record = world.record
    fence = record.fence if record else 0
    generations = {actor.generation for actor in world.actors} | {generation for generation, *_ in world.effects}
    rank = {name: place for place, name in enumerate(sorted(generations | {record.generation if record else 0}))}
    actors = [
        replace(actor, fence=int(actor.fence == fence) + 1, generation=rank[actor.generation])
        for actor in world.actors
    ]
    effects = tuple((rank[generation], seen, count) for generation, seen, count in world.effects)
    if record:
        owner = "its holder" if record.owner else ""
        record = replace(
            record, fence=2, generation=rank[record.generation], attempt=0, doubt_since=0.0, owner=owner
        )
    return World(record, tuple(sorted(actors, key=repr)), effects)


def later(world: World, rules: Rules) -> World:
    """Let a tick pass. What is over is over, however long."""
    oldest = NOW - int(rules.window)
    record = world.record
    if record:
        record = replace(
            record,
            lease_until=max(record.lease_until - 1, NOW) if record.lease_until else 0,
            not_before=max(record.not_before - 1, NOW) if record.not_before else 0,
            first_sent=max(record.first_sent - 1, oldest) if record.first_sent else 0,
        )
    return World(
        record,
        tuple(replace(actor, until=max(actor.until - 1, NOW)) for actor in world.actors),
        tuple((generation, max(seen - 1, oldest), count) for generation, seen, count in world.effects),
    )


def steps(world: World, rules: Rules) -> Iterator[World]:
    record = world.record
    quiet = all(actor.doing != "may-send" or actor.until <= NOW for actor in world.actors)
    yield later(world, rules)
    if record:
        yield replace(world, record=lapse(record, NOW))
        yield replace(world, record=hasten(record, NOW)[0])
        yield replace(world, record=cancel(record, NOW)[0])
        if quiet:  # a person looks only then
            yield replace(world, record=resolve(record, any(world.effects), NOW)[0])
    for place, actor in enumerate(world.actors):
        for after, acted in acts(replace(world, actors=()), actor, rules, quiet):
            actors = list(world.actors)
            actors[place] = acted
            yield replace(after, actors=tuple(actors))


def acts(world: World, actor: Actor, rules: Rules, quiet: bool) -> Iterator[tuple[World, Actor]]:
    """`quiet`: nobody can be sending any more."""
    if actor.doing != "idle":
        yield world, Actor()  # it dies
    match actor.doing:
        case "idle":
            # The key's window less a lease: a request marked in time arrives in time (`Rules.window`).
            safe = max(0.0, rules.window - LEASE)
            ask = Ask("fp", send=rules.sends, window=safe, lease=LEASE, owner="somebody")
            yield from granted_or_not(world, actor, rules, ask)
            if rules.alone:
                yield from granted_or_not(world, actor, rules, replace(ask, settle=True))
                if world.record:
                    yield from granted_or_not(world, actor, rules, replace(ask, settle=True, alone=True))
        case "holds" | "may-send" if world.record and actor.fence == world.record.fence and actor.until > NOW:
            # The answer to its claim was lost, and it asks again.
            mine = Ask("fp", send=rules.sends, lease=LEASE, owner=world.record.owner)
            if not isinstance(rules.claim(world.record, mine, NOW)[1], Granted):
                raise Broken("a holder was refused its own claim")
        case _:
            pass
    match actor.doing:
        case "looks":
            sure = Change(State.SUCCEEDED, Outcome.SUCCESS, Effect.ALL, settles=True)
            if any(world.effects):
                yield from commit(world, actor, rules, sure)
            elif quiet:  # absence counts only once nothing can arrive any more
                yield from commit(world, actor, rules, Change(State.WAITING, not_before=NOW, settles=True))
            for again in (0.0, NOW):
                yield from commit(
                    world, actor, rules, Change(State.IN_DOUBT, effect=Effect.UNKNOWN, not_before=again)
                )
        case "holds":
            yield from mark(world, actor, rules, Effect.NONE)
        case "may-send" if actor.until > NOW:  # the wire refuses later ones
            for heard in ("all", "lost"):
                yield (
                    replace(world, effects=arrive(world, actor, rules)),
                    replace(actor, doing="heard", heard=heard),
                )
            if not rules.window:
                yield world, replace(actor, doing="heard", heard="none")
            yield world, replace(actor, doing="heard", heard="lost")
            yield world, replace(actor, doing="heard", heard="unsent")
        case "may-send":
            yield from commit(world, actor, rules, Change(State.FAILED, Outcome.TRANSIENT, Effect.NONE))
        case "heard" if actor.heard == "all":
            yield from commit(world, actor, rules, DONE)
        case "heard" if actor.heard == "lost":
            yield from commit(world, actor, rules, LOST)
            yield from commit(world, actor, rules, Change(State.WAITING, effect=Effect.UNKNOWN, not_before=NOW))
            if rules.window:
                yield from mark(world, actor, rules, Effect.UNKNOWN)
        case "heard":
            yield from commit(world, actor, rules, Change(State.EXHAUSTED, Outcome.TRANSIENT, Effect.NONE))
            yield from mark(world, actor, rules, Effect.NONE)


def granted_or_not(world: World, actor: Actor, rules: Rules, ask: Ask) -> Iterator[tuple[World, Actor]]:
    record, result = rules.claim(world.record, ask, NOW)
    after = replace(world, record=record)
    if not isinstance(result, Granted):
        yield after, actor
        return
    if ask.alone and world.record and result.record.generation != world.record.generation:
        raise Broken("something was begun anew without a caller")
    mine = result.record
    doing = {State.SENDING: "may-send", State.IN_DOUBT: "looks"}.get(mine.state, "holds")
    yield after, Actor(doing, mine.fence, mine.generation, mine.lease_until)


def mark(world: World, actor: Actor, rules: Rules, before: Effect) -> Iterator[tuple[World, Actor]]:
    wish = Change(State.SENDING, effect=before, keep=LEASE)
    record, result = rules.change(world.record, actor.fence, wish, NOW)
    if isinstance(result, Kept):
        mine = result.record
        yield replace(world, record=record), replace(actor, doing="may-send", until=mine.lease_until, heard="")
    else:
        yield replace(world, record=record), Actor()


def commit(world: World, actor: Actor, rules: Rules, wish: Change) -> Iterator[tuple[World, Actor]]:
    yield replace(world, record=rules.change(world.record, actor.fence, wish, NOW)[0]), Actor()


def arrive(world: World, actor: Actor, rules: Rules) -> tuple[tuple[int, int, int], ...]:
    """The request reaches the upstream: an effect more, unless its key is still remembered."""
    for generation, seen, _ in world.effects:
        if generation == actor.generation and seen + rules.window > NOW:
            return world.effects
    return (*world.effects, (actor.generation, NOW, 1))


KEPT = 4.0
"""Ticks an upstream keeps a key: long enough for a resumed call, short enough to outlive."""


@pytest.mark.parametrize(
    ("actors", "rules"),
    [
        (2, Rules(window=KEPT)),
        (2, Rules(window=KEPT, sends=False)),
        (2, Rules(alone=True)),
        (3, Rules()),
        (3, Rules(sends=False)),
        pytest.param(2, Rules(window=KEPT, alone=True), marks=pytest.mark.slow),
        pytest.param(3, Rules(alone=True), marks=pytest.mark.slow),
        pytest.param(3, Rules(window=KEPT, alone=True, sends=False), marks=pytest.mark.slow),
        pytest.param(3, Rules(window=KEPT), marks=pytest.mark.slow),
        pytest.param(3, Rules(window=KEPT, sends=False), marks=pytest.mark.slow),
    ],
)
def test_no_world_doubles_forgets_or_lies(actors: int, rules: Rules):
    assert explore(rules, actors) > 1000


def no_fence(record: Record | None, fence: int, wish: Change, now: float) -> tuple[Record | None, object]:
    return change(record, record.fence if record else fence, wish, now)


def always_complete(record: Record | None, fence: int, wish: Change, now: float) -> tuple[Record | None, object]:
    if record and wish.state in TERMINAL:
        record = replace(record, state=State.SENDING, fence=fence)
    return change(record, fence, wish, now)


def unmarked_claim(record: Record | None, ask: Ask, now: float) -> tuple[Record | None, object]:
    """The mark after the send: what the claimant is told is not what is kept."""
    kept, result = claim(record, ask, now)
    if isinstance(result, Granted):
        return replace(kept, state=State.CLAIMED, effect=Effect.NONE, first_sent=0.0), result
    return kept, result


def delete_on_exception(
    record: Record | None, fence: int, wish: Change, now: float
) -> tuple[Record | None, object]:
    kept, result = change(record, fence, wish, now)
    return (None, result) if wish.effect is Effect.UNKNOWN and isinstance(result, Kept) else (kept, result)


def forgets_doubts(record: Record | None, fence: int, wish: Change, now: float) -> tuple[Record | None, object]:
    return change(replace(record, doubted=False) if record else None, fence, wish, now)


def late_mark(record: Record | None, fence: int, wish: Change, now: float) -> tuple[Record | None, object]:
    if record and wish.state is State.SENDING:
        record = replace(record, lease_until=ALWAYS)
    return change(record, fence, wish, now)


def eternal_keys(record: Record | None, ask: Ask, now: float) -> tuple[Record | None, object]:
    return claim(record, replace(ask, window=ALWAYS), now)


def begins_alone(record: Record | None, ask: Ask, now: float) -> tuple[Record | None, object]:
    return claim(record, replace(ask, alone=False), now)


def forgets_owners(record: Record | None, ask: Ask, now: float) -> tuple[Record | None, object]:
    return claim(record, replace(ask, owner=""), now)


MUTANTS = {
    "dropped fence": Rules(change=no_fence, window=KEPT),
    "unconditional complete": Rules(change=always_complete, window=KEPT),
    "mark after send": Rules(claim=unmarked_claim),
    "delete on exception": Rules(change=delete_on_exception),
    "a refusal forgets an earlier doubt": Rules(change=forgets_doubts, window=KEPT),
    "something is begun without a caller": Rules(claim=begins_alone, alone=True),
    "a lost answer costs a holder its claim": Rules(claim=forgets_owners),
    "keys last for ever": Rules(claim=eternal_keys, window=KEPT),
}


@pytest.mark.parametrize("rules", MUTANTS.values(), ids=MUTANTS.keys())
def test_every_planted_fault_in_the_rules_breaks_some_world(rules: Rules):
    with pytest.raises(Broken):
        explore(rules, actors=2)

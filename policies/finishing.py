"""Finishing a batch that took effect in part: only what is unfinished is sent again, and one answer comes of it.

A part of the life of a call (`policies.lifecycle`). After each round the ledger keeps the merged answer and each
item's state, so whoever resumes reads from there what is still to be sent. Items refused for good stay refused
and are named; where an answer is lost, the items it was about are in doubt, and those that are done stay done.
"""

from __future__ import annotations

from dataclasses import replace
from hashlib import blake2b

import orjson

from discovery.exchange import Fault, Response
from policies.actions import Call, Commit, Heard, Held, Life, Look, Send, Wait, do
from policies.adapting import delivered, in_shape, original_of
from policies.answers import deferred, doubtful
from policies.batch import Item
from policies.claims import LEASE, Change, Outdated, State
from policies.credentials import goes_on, keeping
from policies.disposition import BACKOFF
from policies.keys import key_for, with_key
from policies.outcome import Effect, Outcome, Reading, classify
from policies.partial import merge, unfinished
from policies.reply import Reply
from policies.rules import Rules


def finish(
    call: Call, rules: Rules, held: Held, first: Response, reading: Reading, attempts: int, patience_ends: float
) -> Life[Reply | None]:
    """Send what `first`, read as `reading`, left unfinished, and again, until nothing is left to cure.

    None: the record moved on without us; ask it again.
    """
    tries = 0
    wait: float | None = None
    while True:
        rest = unfinished(held.request, reading) if tries < rules.attempts else None
        if rest is None:
            return (yield from _end(call, first, reading, attempts))
        moment = yield from do(Look())
        wait = _longest(reading, wait)
        delay = BACKOFF.delay(tries + 1, moment.chance) if wait is None else wait
        pending = _count(reading)
        if moment.now + delay > patience_ends:
            until = moment.now + held.offset + delay
            kept, credentials = keeping(call)
            due = Change(State.PARTIAL, Outcome.PARTIAL, Effect.SOME, not_before=until, credentials=kept)
            why = f"{pending} items are still to be sent"
            told = items_of(reading, "waiting")
            done = yield from do(Commit(due, why, reply=first, items=told, credentials=credentials))
            if isinstance(done, Outdated):
                return None
            return deferred(call, attempts, delay, why, Outcome.PARTIAL, alone=goes_on(done.record))
        paused = Change(State.PARTIAL, Outcome.PARTIAL, Effect.SOME, keep=LEASE)
        held_on = yield from do(Commit(paused, reading.why, reply=first, items=items_of(reading, "waiting")))
        if isinstance(held_on, Outdated):
            return None
        yield from do(Wait(delay, f"{pending} items are still to be sent"))
        mark = Change(State.SENDING, effect=Effect.SOME, keep=LEASE)
        marked = yield from do(Commit(mark, f"sending {pending} items again", items=items_of(reading, "sending")))
        if isinstance(marked, Outdated):
            return None
        key = key_for(call.id, held.record.generation, rules.idempotency, _name(reading))
        answer = yield from do(Send(with_key(rest, rules.idempotency, key)))
        attempts += 1
        tries += 1
        moment = yield from do(Look())
        second = classify(rest, answer, moment.date)
        yield from do(Heard(answer, second))
        wait = second.wait
        match answer:
            case Response() if second.outcome not in (Outcome.TRANSIENT, Outcome.RATE_LIMITED, Outcome.IN_DOUBT):
                first, items = merge(reading, first, rest, answer, second)
                if items == reading.items:  # refused as a whole: asking again would be told the same
                    return (yield from _end(call, first, reading, attempts))
                reading = replace(reading, items=items)
            case _ if second.effect is not Effect.NONE and moment.now >= held.repeat_until:
                return (yield from _in_doubt(call, rules, first, reading, attempts, second.why, answer))
            case _:
                continue


def go_on(call: Call, rules: Rules, held: Held, first: Response, patience_ends: float) -> Life[Reply | None]:
    """Go on with a batch somebody else left: what was kept of its answer says what is still to be sent."""
    if held.record.state is State.IN_DOUBT:
        return doubtful(call, rules, held.record.attempt, "some items may or may not have taken effect", None)
    moment = yield from do(Look())
    reading = classify(held.request, first, moment.date)
    return (yield from finish(call, rules, held, first, reading, held.record.attempt, patience_ends))


def items_of(reading: Reading, pending: str) -> bytes:
    """Return the items as the ledger keeps them: what is done, refused, still to be sent or in doubt, and why."""
    return orjson.dumps(
        [{"key": _key(item), "state": _state(item, pending), "why": item.why} for item in reading.items]
    )


def _end(call: Call, first: Response, reading: Reading, attempts: int) -> Life[Reply | None]:
    whole = all(item.ok for item in reading.items)
    outcome = Outcome.SUCCESS if whole else Outcome.PARTIAL
    end = Change(State.SUCCEEDED, outcome, Effect.ALL if whole else Effect.SOME)
    why = "every item took effect" if whole else reading.why
    answered = yield from in_shape(call, first)
    original = original_of(first, answered)
    told = items_of(reading, "refused")
    done = yield from do(Commit(end, why, reply=answered.response, items=told, original=original))
    return None if isinstance(done, Outdated) else delivered(answered, outcome, attempts)


def _in_doubt(
    call: Call, rules: Rules, first: Response, reading: Reading, attempts: int, why: str, answer: Response | Fault
) -> Life[Reply | None]:
    why = f"{_count(reading)} of {len(reading.items)} items may or may not have taken effect: {why}"
    doubt = Change(State.IN_DOUBT, Outcome.IN_DOUBT, Effect.SOME)
    done = yield from do(Commit(doubt, why, reply=first, items=items_of(reading, "in-doubt")))
    return None if isinstance(done, Outdated) else doubtful(call, rules, attempts, why, answer)


def _state(item: Item, pending: str) -> str:
    if item.ok:
        return "succeeded"
    if item.ok is None:
        return "in-doubt"
    return pending if item.retry else "refused"


def _key(item: Item) -> str:
    return item.key or ("" if item.index is None else str(item.index))


def _count(reading: Reading) -> int:
    return sum(1 for item in reading.items if item.retry and item.ok is False)


def _longest(reading: Reading, wait: float | None) -> float | None:
    waits = [item.wait for item in reading.items if item.retry and item.wait is not None]
    return max([*waits, *([] if wait is None else [wait])], default=None)


def _name(reading: Reading) -> str:
    """Return a name for the items still to be sent: the same ones go out under the same key."""
    places = [item.place for item in reading.items if item.retry and item.ok is False]
    return blake2b("\n".join(places).encode(), digest_size=8).hexdigest()

"""Bugs planted on purpose: the classic ways to lose or double an effect. A proof that misses one proves nothing.

Each changes this process's gateway and is planted by `tests.hostile.soak.nursery` alone.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from discovery.exchange import Fault, Response
from gateway import ledger
from gateway.gate import Gate
from gateway.ledger import RedisLedger
from gateway.ledger_values import call_key
from gateway.link import Script
from gateway.pace import Pace
from gateway.runner import Runner
from gateway.wire_connection import Connection
from policies import claims, lifecycle, settling
from policies.actions import Claim, Commit, Send
from policies.claims import Change, Kept, Record, State

FENCE = "if not record or record.fence ~= fence then return record, false end"
HELD_BY_ANOTHER = "if HELD[state] and record.lease_until > now then"
HELD = "if not HELD[record.state] and not settles and not anew and not again then return record, false end"


def mark_after_send() -> None:
    """The intent is made durable after the request, not before it."""
    perform = Runner.perform

    def late(life: Any) -> Any:
        result: Any = None
        mark = None
        while True:
            try:
                act = life.send(result)
            except StopIteration as end:
                return end.value
            match act:
                case Claim(ask=ask):
                    result = yield replace(act, ask=replace(ask, send=False))
                case Commit(change=Change(state=State.SENDING)):
                    mark, result = act, Kept(Record(State.SENDING, ""))
                case Send():
                    result = yield act
                    if mark is not None:
                        yield mark
                        mark = None
                case _:
                    result = yield act

    async def performed(self: Runner, life: Any, *arguments: Any) -> Any:
        return await perform(self, late(life), *arguments)

    Runner.perform = performed  # type: ignore[method-assign]


def dropped_fence() -> None:
    """Whoever once held a step may write as long as somebody does."""
    _rewrite({FENCE: "if not record then return record, false end"})


def unconditional_complete() -> None:
    """An end is written whatever the record says, as a plain SET would."""
    _rewrite({FENCE: "if not record then return record, false end", HELD: ""})


def delete_on_exception() -> None:
    """A call whose answer was lost is forgotten, so that it 'can be retried'."""
    change = RedisLedger.change

    async def changed(self: RedisLedger, call: str, fence: int, wish: Change, **rest: Any) -> Any:
        done = await change(self, call, fence, wish, **rest)
        if wish.state is State.IN_DOUBT:
            await self._link.do("DEL", call_key(call))
        return done

    RedisLedger.change = changed  # type: ignore[method-assign]


def new_key_on_retry() -> None:
    """Each life of a call mints an idempotency key of its own, as SDKs do."""

    def fresh(*_: Any) -> str:
        return os.urandom(16).hex()

    assert lifecycle.upstream_key is claims.upstream_key
    lifecycle.upstream_key = fresh


def ignoring_not_after() -> None:
    """A request leaves although the lease it was to leave under has ended."""
    start = Connection.start

    def started(self: Connection, *arguments: Any, **options: Any) -> Any:
        return start(self, *arguments, **{**options, "not_after": None})

    Connection.start = started  # type: ignore[method-assign]


def told_before_kept() -> None:
    """The caller is told a moment before the store has it."""
    commit = Runner._commit

    async def later(self: Runner, action: Commit, call: Any, told: Any) -> None:
        await asyncio.sleep(0.5)
        await commit(self, action, call, told)

    async def committed(self: Runner, action: Commit, call: Any, told: Any) -> Any:
        if action.change.state not in claims.TERMINAL:
            return await commit(self, action, call, told)
        self.background(later(self, action, call, told))
        return Kept(replace(told.held.record, state=action.change.state))

    Runner._commit = committed  # type: ignore[method-assign]


def retry_unkeyed() -> None:
    """What went unanswered is sent again, whether or not the upstream knows keys."""
    claim = RedisLedger.claim

    async def claimed(self: RedisLedger, call: str, about: Any, ask: Any, *rest: Any) -> Any:
        return await claim(self, call, about, replace(ask, window=claims.ALWAYS), *rest)

    RedisLedger.claim = claimed  # type: ignore[method-assign]


def delivered_swallowed() -> None:
    """Nobody notes that a reply was delivered."""

    async def delivered(*_: Any) -> None:
        pass

    Gate.delivered = delivered  # type: ignore[method-assign]


def doubled_sweeper() -> None:
    """Due calls are told to every process, and whoever sweeps one takes it from whoever has it."""
    _rewrite(
        {
            "redis.call('ZADD', shard .. 'due', now + tonumber(ARGV[3]), member)": "",
            HELD_BY_ANOTHER: "if ask.alone and state == 'sending' then return resume(record, ask, now, same) end\n"
            + HELD_BY_ANOTHER,
        }
    )


def ignoring_retry_after() -> None:
    """A stated wait is taken for none."""
    classify = lifecycle.classify

    def hasty(*arguments: Any) -> Any:
        return replace(classify(*arguments), wait=0.0)

    lifecycle.classify = hasty
    Pace.heard = lambda *_: 0.0  # type: ignore[method-assign]


def forgotten_wait() -> None:
    """A call that waits is in no index, so that nobody finds it when its time has come."""
    _rewrite({"return math.min(starts, ends, safe)": "return ALWAYS"})


def assumed_applied() -> None:
    """No answer is taken for success."""
    send = Runner._send

    async def sent(self: Runner, *arguments: Any) -> Any:
        answer = await send(self, *arguments)
        return Response(201, (), b"assumed") if isinstance(answer, Fault) else answer

    Runner._send = sent  # type: ignore[method-assign]


def altered_reply() -> None:
    """What is recorded is not quite what was told."""
    seal = RedisLedger._seal_reply

    def sealed(self: RedisLedger, call: str, reply: Any) -> bytes:
        return seal(self, call, replace(reply, body=reply.body + b" ") if reply else None)

    RedisLedger._seal_reply = sealed  # type: ignore[method-assign]


def absence_at_once() -> None:
    """A look-up that finds nothing proves something before its time."""
    judge = settling.judge
    settling.judge = lambda *arguments: judge(*arguments[:-1], claims.ALWAYS)  # type: ignore[assignment]


def _rewrite(words: dict[str, str]) -> None:
    """Put other words into every script of the ledger that has them; at least one must."""
    met = dict.fromkeys(words, False)
    for name, script in list(vars(ledger).items()):
        if isinstance(script, Script):
            text = script.text
            for old, new in words.items():
                met[old] |= old in text
                text = text.replace(old, new)
            setattr(ledger, name, Script(text))
    assert all(met.values()), f"no script says: {met}"


MUTANTS: dict[str, Callable[[], None]] = {
    "mark-after-send": mark_after_send,
    "dropped-fence": dropped_fence,
    "unconditional-complete": unconditional_complete,
    "delete-on-exception": delete_on_exception,
    "new-key-on-retry": new_key_on_retry,
    "ignoring-not-after": ignoring_not_after,
    "told-before-kept": told_before_kept,
    "retry-unkeyed": retry_unkeyed,
    "delivered-swallowed": delivered_swallowed,
    "doubled-sweeper": doubled_sweeper,
    "ignoring-retry-after": ignoring_retry_after,
    "forgotten-wait": forgotten_wait,
    "assumed-applied": assumed_applied,
    "altered-reply": altered_reply,
    "absence-at-once": absence_at_once,
}

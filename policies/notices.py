"""Signed notices to receivers of one's own: how one is signed, and the part of a life that delivers it.

A notice is a call of the ledger like any other: kept before it is sent, sent by whoever finds it due, again
after a growing pause until its receiver says 2xx, and given up after three days. A receiver may get it more than
once, always under the same `webhook-id`. Form and signature are Standard Webhooks' (standardwebhooks.com, 1.0).
"""

from __future__ import annotations

import base64
import binascii
import hmac
from collections.abc import Container
from dataclasses import dataclass, field, replace

from discovery.exchange import Fault, Request, Response
from policies.actions import Call, Claim, Commit, Heard, IsClear, Life, Look, Pace, Send, do
from policies.claims import ALWAYS, LEASE, Ask, Change, Granted, Kept, Replays, State
from policies.outcome import Effect, Outcome, Reading
from policies.reply import Problem, Reply
from policies.retry import Backoff
from policies.waits import read_pace

PAUSES = Backoff(base=5.0, cap=3600.0)
"""Seconds between tries: a restart is over in some, and a receiver that is down for a day is asked hourly."""

GIVEN_UP = 3 * 86400.0
"""Seconds after which a notice is given up: a weekend, and a day to mend what it showed."""

PLACE = 10.0
"""Seconds a notice waits for a place in its receiver's pace before it is put off."""

KEPT = 1024
"""Bytes kept of a receiver's answer: enough to see what it complained of."""

HARMLESS = "; its receiver knows a repeat by its webhook-id"


@dataclass(frozen=True, slots=True)
class Receiver:
    """Where notices go. A name has a colon, so that it is no upstream's: nobody can call it from outside."""

    name: str
    url: str
    secret: str = field(repr=False)
    timeout: float = 15.0


DEFAULT = "default"
"""The receiver for the workflow type, or the upstream, of that name, and for all that have none of their own."""


def callback_name(type: str) -> str:
    """Return the name of the receiver that is the callback of workflows of `type`."""
    return f"callback:{type}"


def callback_of(type: str, known: Container[str]) -> str | None:
    """Return the receiver among `known` that is told of ends in workflows of `type`; None: there is none."""
    return _first_of((callback_name(type), callback_name(DEFAULT)), known)


def drift_name(upstream: str) -> str:
    """Return the name of the receiver that is told what changed at `upstream`."""
    return f"drift:{upstream}"


def drift_receiver_of(upstream: str, known: Container[str]) -> str | None:
    """Return the receiver among `known` that is told what changed at `upstream`; None: there is none."""
    return _first_of((drift_name(upstream), drift_name(DEFAULT)), known)


def _first_of(names: tuple[str, str], known: Container[str]) -> str | None:
    return next((name for name in names if name in known), None)


def key_of(secret: str) -> bytes:
    """Return the bytes to sign with: behind `whsec_` in base64, else the text itself. Raises `ValueError`."""
    if not secret.startswith("whsec_"):
        return secret.encode()
    try:
        return base64.b64decode(secret.removeprefix("whsec_"), validate=True)
    except binascii.Error as error:
        raise ValueError(f"what follows whsec_ is no base64 ({error})") from None


def signature(secret: str, id: str, timestamp: int, body: bytes) -> str:
    """Return the value of `webhook-signature`: version 1, HMAC-SHA256 of `id.timestamp.body`."""
    said = b"%s.%d.%s" % (id.encode(), timestamp, body)
    return "v1," + base64.b64encode(hmac.digest(key_of(secret), said, "sha256")).decode()


def signed(request: Request, secret: str, id: str, date: float) -> Request:
    """Return `request` with the three headers of a notice; `date` is that of this sending."""
    stamp = int(date)
    headers = (
        *request.headers,
        (b"webhook-id", id.encode()),
        (b"webhook-timestamp", b"%d" % stamp),
        (b"webhook-signature", signature(secret, id, stamp, request.body).encode()),
    )
    return replace(request, headers=headers)


def deliver(call: Call, secret: str) -> Life[Reply]:
    """Send a notice once; what its receiver did not take waits for another try, until its deadline."""
    clear = yield from do(IsClear())
    ask = Ask(call.fingerprint, clear, ALWAYS, replays=Replays.DEFINITE, alone=True, owner=call.owner)
    claimed = yield from do(Claim(ask))
    moment = yield from do(Look())
    match claimed.result:
        case Granted(record):
            offset = record.lease_until - LEASE - moment.now
        case told:
            return _reply(f"{told.record.state.value} already", Outcome.TRANSIENT, told.record.attempt)
    short = yield from do(Pace(moment.now + PLACE))
    if short > 0:
        why = "the receiver's pace"
        yield from do(Commit(_later(moment.now + offset + short, Outcome.RATE_LIMITED), why))
        return _reply(why, Outcome.RATE_LIMITED, record.attempt)
    if record.state is not State.SENDING:
        marked = yield from do(Commit(Change(State.SENDING, keep=LEASE, settles=True), "sending"))
        if not isinstance(marked, Kept):
            return _reply("another delivers it", Outcome.TRANSIENT, record.attempt)
        record = marked.record
    moment = yield from do(Look())
    answer = yield from do(Send(signed(call.request, secret, call.id, moment.date)))
    moment = yield from do(Look())
    reading = read_receipt(answer, moment.date)
    yield from do(Heard(answer, reading))
    kept = answer if isinstance(answer, Response) else None
    if kept is not None and len(kept.body) > KEPT:
        kept = replace(kept, body=kept.body[:KEPT])
    if reading.outcome is Outcome.TRANSIENT:
        pause = max(reading.wait or 0.0, PAUSES.delay(record.attempt, 0.5 + moment.chance / 2))
        now = moment.now + offset
        wish = _later(now + pause, reading.outcome, 0.0 if record.deadline else now + GIVEN_UP)
        why = f"{reading.why}; tried again in {pause:.0f} s"
    else:
        state = State.SUCCEEDED if reading.outcome is Outcome.SUCCESS else State.FAILED
        wish, why = Change(state, reading.outcome, reading.effect, settles=True), reading.why
    yield from do(Commit(wish, why, reply=kept))
    return _reply(why, reading.outcome, record.attempt)


def read_receipt(answer: Response | Fault, now: float) -> Reading:
    """Return what a receiver's answer says of a notice: taken (2xx), wanted no more (410), or not taken yet."""
    match answer:
        case Response(status=status) | Fault(status=int() as status) if 200 <= status < 300:
            return Reading(Outcome.SUCCESS, Effect.ALL, f"status {status}")
        case Response(status=410):
            return Reading(Outcome.REFUSED, Effect.NONE, "status 410: its receiver wants no more of these")
        case Response(status=status, headers=headers):
            wait = read_pace(headers, now).wait
            return Reading(Outcome.TRANSIENT, Effect.NONE, f"status {status}{HARMLESS}", wait)
        case Fault(phase=phase, detail=detail):
            return Reading(Outcome.TRANSIENT, Effect.NONE, f"no answer ({phase.value}): {detail}{HARMLESS}")


def _later(at: float, outcome: Outcome, deadline: float = 0.0) -> Change:
    """`deadline`: a new one, for a notice that a person sends again after it was given up."""
    return Change(State.WAITING, outcome, not_before=at, deadline=deadline or None, settles=True)


def _reply(why: str, outcome: Outcome, attempts: int) -> Reply:
    """Nobody waits for it; the transcript has the story."""
    return Reply(Problem("deferred", 503, "A notice", why), outcome, attempts)

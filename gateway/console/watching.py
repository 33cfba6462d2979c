"""What the capability of one call opens: 202 while it is under way, then the recorded reply itself."""

from __future__ import annotations

import math
from dataclasses import replace

from discovery.exchange import Header, Headers, Json, Response
from gateway.console.messages import ConsoleAnswer, json_answer, not_found, problem_answer
from gateway.ports import Clock, Entry, Ledger
from gateway.prefer import Prefer
from gateway.wire_head import forwardable
from policies.claims import TERMINAL, State, lapse
from policies.reply import Problem

PATIENCE = 60.0
"""Seconds a watcher is held at most: below the idle limits of common proxies."""

POLL = 0.1
"""Seconds between looks, at first; a watcher that waits longer is looked for less often, up to ten times."""

NO_SCRIPT: Headers = (
    (b"content-security-policy", b"sandbox"),
    (b"x-content-type-options", b"nosniff"),
    (b"cache-control", b"no-store"),
)
"""On what a watcher is told: a recorded reply is the upstream's, and must not act as a page of our origin."""


async def watch(ledger: Ledger, clock: Clock, call: str, prefer: Prefer) -> ConsoleAnswer:
    """Return the call's reply, or how it stands once the patience that `prefer` states is over."""
    until = clock.monotonic() + min(PATIENCE, prefer.wait or 0.0)
    pause = POLL
    while True:
        entry = await ledger.entry(call)
        if entry is None:
            gone = not_found(f"There is no call {call!r}; its record may have expired.")
            return problem_answer(gone)
        entry = replace(entry, record=lapse(entry.record, clock.now()))
        left = until - clock.monotonic()
        if not _open(entry) or left <= 0:
            return told(entry, clock.now())
        await clock.sleep(min(pause, left))
        pause = min(pause * 1.2, 10 * POLL)


def told(entry: Entry, now: float) -> ConsoleAnswer:
    """Return what a watcher is told of the call as it stands."""
    record = entry.record
    fate: Headers = ((b"gimbal-call", entry.id.encode()),)
    if record.outcome is not None:
        fate += ((b"gimbal-outcome", f"{record.outcome.value};attempts={record.attempt};replayed".encode()),)
    if _open(entry):
        after = max(1, math.ceil(record.not_before - now))
        facts: dict[str, Json] = {
            "call": entry.id,
            "state": record.state.value,
            "not_before": record.not_before or None,
            "retry_after": after,
        }
        return json_answer(facts, 202, fate[0], (b"retry-after", b"%d" % after))
    if entry.reply is not None and record.state is not State.IN_DOUBT:
        return _recorded(entry.reply, fate)
    return problem_answer(_problem(entry), *fate)


def _open(entry: Entry) -> bool:
    """Will it go on by itself, or with the next call of its step?"""
    return entry.record.state not in TERMINAL and entry.record.state is not State.IN_DOUBT


def _recorded(reply: Response, fate: Headers) -> ConsoleAnswer:
    headers = forwardable(reply.headers)
    length: tuple[Header, ...] = ()
    if reply.status in (204, 304):
        headers = tuple(header for header in headers if header[0].lower() != b"content-length")
    elif reply.header(b"content-length") is None:
        length = ((b"content-length", b"%d" % len(reply.body)),)
    replayed = (b"idempotent-replayed", b"true")
    return ConsoleAnswer(reply.status, (*headers, *length, *fate, replayed), reply.body)


def _problem(entry: Entry) -> Problem:
    call = entry.id
    members: dict[str, Json] = {"call": call}
    match entry.record.state:
        case State.IN_DOUBT:
            members["phase"] = "unknown"
            members["resolvers"] = [f"gimbal resolve {call} --applied", f"gimbal resolve {call} --not-applied"]
            detail = (
                "It was sent, and no definite answer is known. It is not repeated blindly; a person settles it."
            )
            return Problem("in-doubt", 502, "It may or may not have taken effect", detail, members)
        case State.SUCCEEDED:
            detail = "This call took effect, as was settled later; the upstream's own answer was lost."
            return Problem("reply-missing", 502, "It took effect, but its answer is not known", detail, members)
        case State.CANCELLED:
            detail = (
                "The waiting call was given up; nothing took effect. Repeat the step if it is wanted after all."
            )
            return Problem("cancelled", 410, "The call was given up", detail, members)
        case _:
            detail = "Retries, budget or deadline are used up; nothing took effect. Repeat the step later."
            return Problem("exhausted", 502, "Retries are used up", detail, members)

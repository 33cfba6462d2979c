"""What follows from an answer: deliver it, try again, wait for long, or stop and say that nobody knows.

`decide()` weighs what happened (a `Reading`) against whether repeating is safe, how often it was tried and
how long the caller is willing to wait. It has two clocks: seconds inside the caller's patience, and a
durable wait beyond it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from discovery.constant import constant
from policies.outcome import Effect, Outcome, Reading
from policies.retry import Backoff

BACKOFF = Backoff()

PATIENT = Backoff(base=1.0, cap=300.0)
"""Between the tries of a call whose caller is gone: it has until its deadline, and the upstream gets some air."""


@constant
class Situation:
    """Where a call stands when an answer comes. Seconds, on one clock."""

    tries: int  # sendings that count, this one included; a wait the upstream stated gives its sending back
    attempts: int  # how many may count
    now: float
    patience_ends: float
    repeat_until: float  # until when the same bytes may be sent again whatever happened (same clock as `now`)
    chance: float = 0.5
    budget_left: bool = True
    alone: int = 0  # sendings so far of a call whose caller is gone; 0: somebody waits for the answer


@constant
class Deliver:
    """It is definite: record it and hand it over."""


@dataclass(frozen=True, slots=True)
class Retry:
    """Send the same bytes again after `delay` seconds, inside the caller's patience."""

    delay: float
    counts: bool
    why: str


@dataclass(frozen=True, slots=True)
class Defer:
    """It is safe to send again, but not before `delay` seconds have passed, which the caller won't wait."""

    delay: float
    why: str


@dataclass(frozen=True, slots=True)
class Doubt:
    """It may have taken effect, and repeating it is not safe."""

    why: str


@dataclass(frozen=True, slots=True)
class GiveUp:
    """Retries or budget are used up; nothing took effect, or repeating stays harmless."""

    why: str


Disposition: TypeAlias = Deliver | Retry | Defer | Doubt | GiveUp


def decide(reading: Reading, at: Situation) -> Disposition:
    """Return what to do about an answer that was read as `reading`."""
    match reading.outcome:
        case Outcome.SUCCESS | Outcome.VALIDATION | Outcome.REFUSED | Outcome.PARTIAL:
            return Deliver()
        case Outcome.IN_DOUBT:
            return Doubt(reading.why)
        case Outcome.TRANSIENT | Outcome.RATE_LIMITED:
            return _again(reading, at)


def _again(reading: Reading, at: Situation) -> Disposition:
    safe = reading.effect is Effect.NONE or at.now < at.repeat_until
    if not safe:
        return Doubt(reading.why)
    if reading.wait is not None:
        delay = reading.wait + at.chance * min(1.0, reading.wait / 10)  # never early, and not all at once
        if at.now + delay > at.patience_ends:
            return _defer(reading, at, delay, f"{reading.why}; the upstream asks to wait {reading.wait:g} s")
        return Retry(delay, counts=False, why=f"{reading.why}; waiting the {reading.wait:g} s it asks for")
    if at.alone:
        delay = PATIENT.delay(at.alone, 0.5 + at.chance / 2)
        return _defer(reading, at, delay, f"{reading.why}; tried again in {delay:.0f} s")
    if at.tries >= at.attempts:
        return GiveUp(f"{reading.why}; {at.tries} attempts are used up")
    if not at.budget_left:
        return GiveUp(f"{reading.why}; the upstream's retry budget is used up")
    delay = BACKOFF.delay(at.tries, at.chance)
    if at.now + delay > at.patience_ends:
        return _defer(reading, at, delay, f"{reading.why}; the caller's patience ends before the next try")
    return Retry(delay, counts=True, why=f"{reading.why}; safe to repeat")


def _defer(reading: Reading, at: Situation, delay: float, why: str) -> Disposition:
    if reading.effect is not Effect.NONE and at.now + delay >= at.repeat_until:
        return Doubt(f"{reading.why}; the key's window ends before it may be repeated")
    return Defer(delay, why)

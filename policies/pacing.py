"""What answers teach about pace: how long a limit holds calls back, and when an upstream is left alone.

A limit is a credential's: it is told in headers, on successful answers too, or shown by a 429. A breaker is
its upstream's: it opens when failures come one after another, whoever calls. A budget (`policies.retry`)
bounds the repeats while only a share of the calls fails.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from discovery.exchange import Fault, Headers, Phase, Response
from policies.outcome import Outcome, Reading
from policies.retry import Backoff
from policies.waits import read_pace

LONGEST = 3600.0
"""Seconds one answer can hold back all others at most: then one call finds out whether it still holds."""

PAUSE = Backoff(base=1.0, cap=60.0)
"""After limits that name no time: the first second is what most limits are counted in, a minute the rest."""

_NAMES = (b"ratelimit", b"x-ratelimit", b"x-rate-limit")


def held_back(answer: Response | Fault, reading: Reading, date: float, limits: int, chance: float) -> float:
    """Return the seconds in which no other call should go out under this credential; 0: no reason to wait.

    `date` is epoch seconds. `limits` counts the answers in a row, this one included, that named a limit but
    no time: the pause they teach grows.
    """
    if reading.outcome is Outcome.RATE_LIMITED:
        stated = reading.wait
        return min(LONGEST, stated) if stated is not None else PAUSE.delay(limits, 0.5 + chance / 2)
    if isinstance(answer, Response) and speaks_of_limits(answer.headers):
        pace = read_pace(answer.headers, date)
        return min(LONGEST, pace.reset) if pace.spent and pace.reset is not None else 0.0
    return 0.0


def speaks_of_limits(headers: Headers) -> bool:
    """Tell at little cost whether any of `headers` is one of the limit headers."""
    return any(name[:1] in b"rRxX" and name.lower().startswith(_NAMES) for name, _ in headers)


# The breaker

RUN = 20
"""Failures in a row that open a breaker: the attempts of four calls, so that no one call's bad luck does."""

REST = Backoff(base=1.0, cap=30.0)
"""Seconds between probes: an upstream that restarts is back in one; patience by default is 30."""


@dataclass(frozen=True, slots=True)
class Breaker:
    """Closed until `RUN` failures came in a row; then open until `until`, when one call may go out as a probe.

    An answer that is no failure closes it, whichever call it is for; a failed probe opens it for longer. A probe
    that is never heard of holds the others no longer than a pause does. Seconds on one clock.
    """

    failures: int = 0
    openings: int = 0  # in a row; 0: closed
    until: float = 0.0
    probing: bool = False

    @property
    def closed(self) -> bool:
        return not self.openings

    def failed(self, now: float, chance: float) -> Breaker:
        """Return the breaker after a failure. Those of calls that were under way when it opened tell nothing."""
        if self.closed and self.failures + 1 < RUN:
            return replace(self, failures=self.failures + 1)
        if not self.closed and not self.probing:
            return self
        openings = self.openings + 1
        return Breaker(self.failures + 1, openings, now + REST.delay(openings, 0.75 + chance / 4))

    def probe(self, now: float) -> Breaker:
        """Return the breaker once a call went out whose answer will decide."""
        return replace(self, until=now + REST.delay(self.openings, 1.0), probing=True)


CLOSED = Breaker()


def breaker_after(
    breaker: Breaker, answer: Response | Fault, reading: Reading, now: float, chance: float
) -> Breaker:
    """Return `breaker` as it is after `answer`.

    A failure is a status in the 500s or no answer, where no time to come back was stated. What the gateway itself
    kept from being sent, and what cannot be read, says nothing of the upstream.
    """
    match answer:
        case Fault(phase=Phase.UNSENT | Phase.POOL):
            return breaker
        case _ if reading.outcome is Outcome.IN_DOUBT:
            return breaker
        case Response(status=status) if status < 500 or reading.wait is not None:
            return CLOSED
        case _ if reading.outcome is Outcome.TRANSIENT:
            return breaker.failed(now, chance)
        case _:
            return CLOSED

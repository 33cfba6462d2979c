"""The truth, from the upstream's own count, and whether what the gateway did and said agrees with it.

The invariants are I1 to I7 of the test plan (docs/promises.md says them in full):

    I1  a request without a key has at most one effect
    I2  a request under a key the upstream honours has exactly one once it is said to have succeeded
    I3  success is only said of what took effect; doubts are counted, and how many the truth would have spared
    I4  no accepted call is forgotten
    I5  every answer to a step is the first definite one, byte for byte
    I6  nothing is sent again before the time the upstream asked for
    I7  what is said to have succeeded is not sent again
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from fixtures.upstreams.counting import Counting
from gateway.runner import COMMIT_PATIENCE

EARLY = 0.05
"""Seconds by which a repeat may seem early: the two ends read different clocks."""

SETTLED = 1.0
"""Seconds after the store is back in which what was owed to it is still on its way."""

QUIET = 1.0
"""Seconds nothing of a request may be under way at the upstream before its count is taken for final."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a workflow: what is asked of which upstream. `ref` names it there."""

    ref: str
    upstream: str  # "shop": no keys; "till": honours keys
    modes: str
    method: str = "POST"

    @property
    def once(self) -> bool:
        """Must its effect be single? (An idempotent method may be repeated.)"""
        return self.method == "POST"

    @property
    def wait(self) -> float:
        """Seconds the upstream asks to wait after its first answer; 0: it does not."""
        first = self.modes.partition(",")[0]
        status, _, wait = first.partition(":")
        return float(wait) if status in ("429", "503") and wait else 0.0


@dataclass
class Told:
    """What callers were told of one step."""

    answers: set[bytes] = field(default_factory=set)  # of success
    sendings: int = 0  # at the upstream when success was first told
    at: float = 0.0  # monotonic time of that
    doubts: int = 0


@dataclass
class Oracle:
    """Keeps what was told of each step, and compares it with what the upstream counted."""

    upstream: Counting
    told: dict[str, Told] = field(default_factory=dict)
    steps: dict[str, Step] = field(default_factory=dict)
    outages: list[tuple[float, float]] = field(default_factory=list)  # of the store, as `Engine` notes them
    asked_anew: set[str] = field(default_factory=set)
    """Steps asked anew although success was told, while the store was away: see `owed`."""
    doubts: Counter[str] = field(default_factory=Counter)
    """Doubts told, by truth: `took effect`, `arrived, no effect`, `never arrived` (the needless ones)."""

    def succeeded(self, step: Step, body: bytes) -> None:
        """A caller was told that `step` took effect."""
        self.steps[step.ref] = step
        told = self.told.setdefault(step.ref, Told())
        if not told.answers:
            told.sendings = self.upstream.sendings[step.ref]
            told.at = time.monotonic()
        told.answers.add(body)

    async def truth(self, step: Step) -> bool:
        """Return whether `step` took effect, once nothing of it can be under way any more."""
        self.steps[step.ref] = step
        self.told.setdefault(step.ref, Told()).doubts += 1
        quiet = 0.0
        while quiet < QUIET:
            await asyncio.sleep(0.1)
            quiet = 0.0 if self.upstream.busy[step.ref] else quiet + 0.1
        await self.upstream.caught_up()
        took = self.upstream.effects[step.ref] > 0
        arrived = self.upstream.sendings[step.ref] > 0
        self.doubts["took effect" if took else "arrived, no effect" if arrived else "never arrived"] += 1
        return took

    def owed(self, told: Told) -> bool:
        """Was success told while the store had been away for longer than an answer is held back for its sake?

        The gateway owes the store that answer. If it is killed before the store is back, a repeat may ask anew:
        docs/promises.md. The effect is as single as ever.
        """
        return any(gone + COMMIT_PATIENCE - EARLY < told.at < back + SETTLED for gone, back in self.outages)

    def violations(self, steps: Iterable[Step] | None = None) -> list[str]:
        """Return what broke an invariant, of `steps` or of every step anybody was told of."""
        found: list[str] = []
        for step in self.steps.values() if steps is None else steps:
            told = self.told.get(step.ref, Told())
            effects, sendings = self.upstream.effects[step.ref], self.upstream.sendings[step.ref]
            if step.once and effects > 1:
                found.append(f"{'I2' if step.upstream == 'till' else 'I1'} doubled: {step} had {effects} effects")
            if told.answers and not effects:
                found.append(f"I3 lost: {step} is said to have succeeded and had no effect")
            owed = self.owed(told)
            if owed and (len(told.answers) > 1 or sendings > told.sendings):
                self.asked_anew.add(step.ref)
            if len(told.answers) > 1 and not owed:
                found.append(f"I5 changed: {step} was answered in {len(told.answers)} ways: {told.answers}")
            came = self.upstream.came[step.ref]
            if step.wait and len(came) > 1 and came[1] - came[0] < step.wait - EARLY:
                found.append(f"I6 early: {step} was sent again after {came[1] - came[0]:.3f} s")
            if told.answers and sendings > told.sendings and not owed:
                found.append(f"I7 repeated: {step} was sent {sendings - told.sendings} times after its success")
        return found

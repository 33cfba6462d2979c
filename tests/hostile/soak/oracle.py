"""The truth, from the upstream's own count, and whether what the gateway did and said agrees with it.

The invariants are I1 to I7 of the test plan (docs/promises.md says them in full):

    I1  a request without a key has at most one effect
    I2  a request under a key the upstream honours has exactly one once it is said to have succeeded
    I3  success is only said of what took effect; doubts are counted, and how many the truth would have spared
    I4  no accepted call is forgotten
    I5  every answer to a step is the first definite one, byte for byte
    I6  nothing is sent again before the time the upstream asked for
    I7  what is said to have succeeded is not sent again

Nothing is excused here but what cannot be otherwise, and each excuse is a line below that says why.
"""

from __future__ import annotations

import asyncio
import json
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from fixtures.upstreams.counting import Counting

EARLY = 0.05
"""Seconds by which a repeat may seem early: the two ends read different clocks."""

QUIET = 1.0
"""Seconds nothing of a request may be under way at the upstream before its count is taken for final."""

ITEMS = ("a", "b", "c")
"""Of a batch. The second one is told 429 when it first comes."""


@dataclass(frozen=True, slots=True)
class Step:
    """One step of a workflow: what is asked of which upstream. `ref` names it there.

    The upstreams: "shop" knows no keys; "till" honours them; "desk" knows none, but can be asked what it has
    done, and the gateway is told how; "shelf" takes batches, under keys.
    """

    ref: str
    upstream: str
    modes: str
    method: str = "POST"
    times: int = 1  # more than 1: equal calls one after the other, without a step's name

    @property
    def once(self) -> bool:
        """Must its effect be single? (An idempotent method may be repeated.)"""
        return self.method == "POST"

    @property
    def keyed(self) -> bool:
        return self.upstream in ("till", "shelf")

    @property
    def wait(self) -> float:
        """Seconds the upstream asks to wait after its first answer; 0: it does not."""
        first = self.modes.partition(",")[0]
        status, _, wait = first.partition(":")
        return float(wait) if status in ("429", "503") and wait else 0.0

    @property
    def counted(self) -> tuple[str, ...]:
        """What the upstream counts the effects of."""
        return tuple(f"{self.ref}.{item}" for item in ITEMS) if self.upstream == "shelf" else (self.ref,)

    @property
    def body(self) -> bytes:
        if self.upstream != "shelf":
            return self.ref.encode()
        statuses = [[201], [429, 201], [201]]
        items = [{"ref": ref, "statuses": each} for ref, each in zip(self.counted, statuses, strict=True)]
        return json.dumps(items).encode()


@dataclass
class Told:
    """What callers were told of one step."""

    answers: defaultdict[int, set[bytes]] = field(
        default_factory=lambda: defaultdict(set)
    )  # of each time's success
    sendings: int = 0  # at the upstream when the last time's success was first told


@dataclass
class Oracle:
    """Keeps what was told of each step, and compares it with what the upstream counted."""

    upstream: Counting
    told: defaultdict[str, Told] = field(default_factory=lambda: defaultdict(Told))
    doubts: Counter[str] = field(default_factory=Counter)
    """Doubts told, by truth: `took effect`, `arrived, no effect`, `never arrived` (the needless ones)."""
    doubts_under_keys: int = 0
    """Of these, doubts of what could have been sent again: the caller's patience, or the deadline, was over."""

    def succeeded(self, step: Step, body: bytes, time: int = 1) -> None:
        """A caller was told that `step` took effect, for the `time`-th of its times."""
        told = self.told[step.ref]
        if time == step.times and not told.answers[time]:
            told.sendings = self.upstream.sendings[step.ref]
        told.answers[time].add(body)

    async def truth(self, step: Step, time: int = 1) -> bool:
        """Return whether `step` took effect, once nothing of it can be under way any more."""
        quiet = 0.0
        while quiet < QUIET:
            await asyncio.sleep(0.1)
            quiet = 0.0 if self.upstream.busy[step.ref] else quiet + 0.1
        await self.upstream.caught_up()
        took = all(self.upstream.effects[ref] >= time for ref in step.counted)
        arrived = self.upstream.sendings[step.ref] > 0
        self.doubts["took effect" if took else "arrived, no effect" if arrived else "never arrived"] += 1
        self.doubts_under_keys += step.keyed
        return took

    def violations(self, steps: Iterable[Step]) -> list[str]:
        """Return what broke an invariant."""
        return [violation for step in steps for violation in self._violations(step)]

    def _violations(self, step: Step) -> Iterable[str]:
        told = self.told[step.ref]
        done = bool(told.answers[step.times])
        for ref in step.counted:
            effects = self.upstream.effects[ref]
            if step.once and effects > step.times:
                yield f"{'I2' if step.keyed else 'I1'} doubled: {ref} of {step} had {effects} effects"
            if done and effects < step.times:
                yield f"I3 lost: {step} is said to have succeeded; {ref} had {effects} effects"
        for answers in told.answers.values():
            if len(answers) > 1:
                yield f"I5 changed: {step} was answered in {len(answers)} ways: {answers}"
        came = self.upstream.came[step.ref]
        if step.wait and len(came) > 1 and came[1] - came[0] < step.wait - EARLY:
            yield f"I6 early: {step} was sent again after {came[1] - came[0]:.3f} s"
        sendings = self.upstream.sendings[step.ref]
        if done and sendings > told.sendings:
            yield f"I7 repeated: {step} was sent {sendings - told.sendings} times after its success"

    def strangers(self, steps: Iterable[Step]) -> list[str]:
        """Return what took effect at the upstream and is no part of any of `steps`."""
        known = {ref for step in steps for ref in step.counted}
        return [f"I1 doubled: nobody asked for {ref}" for ref in self.upstream.effects.keys() - known]

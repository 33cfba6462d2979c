"""A workflow that does not give up: it takes its steps in order, and begins anew whatever happens.

It keeps nothing between its runs but its name: what was done before is for the gateway to know. Where it is told
of a doubt it asks the oracle, as a person would look at the upstream, and says the truth to the gateway.
"""

from __future__ import annotations

import asyncio
import json
import random
import time as clock
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from tests.hostile.soak.asking import HUNG, Answer, ask
from tests.hostile.soak.oracle import Oracle, Step
from tests.hostile.soak.world import Running, World

AGAIN = frozenset({"in-progress", "deferred", "ledger-unavailable", "exhausted", "upstream-unreachable"})
"""Problems a caller answers by repeating the step."""

AWAY = frozenset({"ledger-unavailable", "in-progress"})
"""What a repeat of a finished step may be told for a moment: the store is away, or its look-up is under way."""

LONG = 10.0
"""Seconds a call may be put off before we lose patience: the pauses of what nobody waits for grow to minutes."""

SUCCESS = {"shop": (200, 201), "till": (200, 201), "desk": (200, 201), "shelf": (200,)}
"""What says success: 200 is what a look-up found, how a job ended, or a batch of which every item took effect."""


@dataclass
class Caller:
    """Who runs workflows: counts what it asked and was told. `violations` are answers nobody should get."""

    world: World
    oracle: Oracle
    gateways: Callable[[], list[Running]]
    dice: random.Random = field(default_factory=random.Random)
    hangs_up: float = 0.0  # of its calls, the part it does not wait for
    calls: int = 0
    replays: int = 0
    accepted: dict[str, str] = field(default_factory=dict)
    """Steps the gateway goes on with alone, as it last said: the call of each."""
    told: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)

    async def live(self, workflow: str, steps: list[Step], until: float) -> bool:
        """Run `workflow` until all its steps are done, then once more; False: not by `until` (the loop's time)."""
        for again in (False, True):
            while not await self.run(workflow, steps, again):
                if asyncio.get_running_loop().time() > until:
                    return False
                await asyncio.sleep(self.dice.uniform(0.01, 0.1))
        return True

    async def entrust(self, workflow: str, step: Step, until: float) -> bool:
        """Take `step` with no patience until it is done, or the gateway says that it goes on alone."""
        self.accepted.pop(step.ref, None)
        while not await self.take(workflow, step, Prefer="wait=0"):
            if step.ref in self.accepted:
                return True
            if asyncio.get_running_loop().time() > until:
                return False
            await asyncio.sleep(self.dice.uniform(0.05, 0.2))
        return True

    async def look_on(self, workflow: str, step: Step, until: float) -> bool:
        """Wait for what was entrusted, and ask for nothing before it has ended; then hear what came of it.

        False: it was forgotten. What is in doubt was not: a person settles that, and takes the step up again.
        """
        loop = asyncio.get_running_loop()
        while step.ref in self.accepted and not await self._ended(step):
            if loop.time() > until:
                self.violations.append(f"I4 forgotten: {step} was accepted, and nobody goes on with it")
                return False
            await asyncio.sleep(0.1)
        return await self.live(workflow, [step], until)

    async def _ended(self, step: Step) -> bool:
        """Did what is done without its caller take effect, or does the gateway say that it cannot know?

        What waits for long, after many tries that were killed, a person hastens.
        """
        if self.world.upstream.effects[step.ref]:
            return True
        call = self.accepted[step.ref]
        for gateway in self._living()[:1]:
            told = await ask(gateway.url, "GET", f"/-/calls/{call}.json", self.world.admin)
            if told is None or told.status != 200:
                return False
            said = json.loads(told.body)
            if said["state"] == "waiting" and said["not_before"] > clock.time() + LONG:
                await ask(gateway.url, "POST", f"/-/calls/{call}/retry", self.world.admin)
            return bool(said["state"] == "in-doubt")
        return False

    async def run(self, workflow: str, steps: list[Step], again: bool = False) -> bool:
        """Take each step; False at the first that did not succeed."""
        run = {"Workflow-Run": f"{self.dice.getrandbits(64):x}"}
        for step in steps:
            for time in range(1, step.times + 1):
                if not await self.take(workflow, step, again, time, **run):
                    return False
        return True

    async def take(self, workflow: str, step: Step, again: bool = False, time: int = 1, **headers: str) -> bool:
        """Take one step at any gateway that lives. True: it is said to have succeeded."""
        gateways = self._living()
        if not gateways:
            return False
        gateway = self.dice.choice(gateways)
        self.calls += 1
        identity = {"Workflow-Id": workflow, "X-Ref": step.ref, "Content-Type": "application/json", **headers}
        if step.times == 1:
            identity["Workflow-Step"] = step.ref
        path = f"/{step.upstream}/{step.modes}/things"
        asking = asyncio.create_task(ask(gateway.url, step.method, path, identity, step.body))
        if self.dice.random() < self.hangs_up:
            await asyncio.wait({asking}, timeout=self.dice.uniform(0, 0.3))
            if not asking.done():
                asking.cancel()
                self.told["hung up"] += 1
                return False
        answer = await asking
        if answer is None:
            self.told["no answer"] += 1
            return False
        if answer is HUNG and not gateway.stopped:
            self.violations.append(f"unexpected: {step} is told nothing at all by {gateway}")
            gateway.say_tasks()
            return False
        return await self._told(step, answer, again, time)

    async def _told(self, step: Step, answer: Answer, again: bool, time: int) -> bool:
        problem = answer.problem
        self.told[problem or str(answer.status)] += 1
        if answer.status in SUCCESS[step.upstream] and not problem:
            self.replays += "idempotent-replayed" in answer.headers
            self.oracle.succeeded(step, answer.body, time)
            return True
        if again and problem not in AWAY:
            self.violations.append(f"I5 changed: {step} had succeeded, and is now told {answer}")
        if problem == "deferred" and json.loads(answer.body)["alone"]:
            self.accepted[step.ref] = answer.headers["gimbal-call"]
        if problem == "in-doubt":
            await self.settle(step, answer.headers["gimbal-call"], time)
        elif problem not in AGAIN:
            self.violations.append(f"unexpected: {step} is told {answer}")
        return False

    async def settle(self, step: Step, call: str, time: int = 1) -> None:
        """Look at the upstream and say what is true; nobody minds who was settled already."""
        applied = await self.oracle.truth(step, time)
        said: dict[str, Any] = {"applied": applied, "because": "the upstream counts"}
        if applied:
            said["response"] = {"status": SUCCESS[step.upstream][-1], "body": f"settled: {step.ref}"}
        headers = {**self.world.admin, "Content-Type": "application/json"}
        for gateway in self._living():
            told = await ask(gateway.url, "POST", f"/-/calls/{call}/resolve", headers, json.dumps(said).encode())
            if told is not None and told.status in (200, 204, 303, 409):
                return

    def _living(self) -> list[Running]:
        return [one for one in self.gateways() if one.alive and one.url]

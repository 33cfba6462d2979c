"""A workflow that does not give up: it takes its steps in order, and begins anew whatever happens.

It keeps nothing between its runs but its name: what was done before is for the gateway to know. Where it is told
of a doubt it asks the oracle, as a person would look at the upstream, and says the truth to the gateway.
"""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.hostile.soak.oracle import Oracle, Step
from tests.hostile.soak.world import Answer, Running, World, ask

AGAIN = frozenset(
    {"in-progress", "deferred", "ledger-unavailable", "exhausted", "upstream-unreachable", "key-reused"}
)
"""Problems a caller answers by repeating the step. (`key-reused` is a violation; see `_told`.)"""

AWAY = frozenset({"ledger-unavailable", "in-progress"})
"""What a repeat of a finished step may be told for a moment."""

ALONE = 20.0
"""Seconds in which what was put off for a second or two has to end without its caller, leases included."""


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
    accepted: set[str] = field(default_factory=set)  # steps the gateway goes on with alone, as it last said
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

    async def leave(self, workflow: str, step: Step, until: float) -> bool:
        """Take `step` with no patience until the gateway says that it goes on alone; then only look on.

        False: it has not come to its end by `until`. A doubt is settled as by a person, and taken up again.
        """
        loop = asyncio.get_running_loop()
        self.accepted.discard(step.ref)
        while not await self.take(workflow, step, Prefer="wait=0"):
            looks = loop.time() + ALONE
            while step.ref in self.accepted and loop.time() < looks:
                await asyncio.sleep(0.1)
                if self.world.upstream.effects[step.ref]:
                    return await self.live(workflow, [step], until)  # it is told what became of it
            if step.ref in self.accepted and not await self._in_doubt(step):
                self.violations.append(f"I4 forgotten: {step} was accepted and did not go on within {ALONE:g} s")
                return False
            self.accepted.discard(step.ref)
            if loop.time() > until:
                return False
            await asyncio.sleep(0.1)
        return True

    async def _in_doubt(self, step: Step) -> bool:
        """Does the gateway say that it does not know? Then settle it."""
        for gateway in self.gateways():
            if not (gateway.alive and gateway.url):
                continue
            told = await ask(gateway.url, "GET", "/-/calls.json?state=in-doubt", self.world.admin)
            if told is not None and told.status == 200:
                every = json.loads(told.body)["calls"]
                found = [call["id"] for call in every if call["workflow"]["step"] == step.ref]
                for call in found:
                    await self.settle(step, call)
                return bool(found)
        return False

    async def run(self, workflow: str, steps: list[Step], again: bool = False) -> bool:
        """Take each step; False at the first that did not succeed."""
        for step in steps:
            if not await self.take(workflow, step, again):
                return False
        return True

    async def take(self, workflow: str, step: Step, again: bool = False, **headers: str) -> bool:
        """Take one step at any gateway that lives. True: it is said to have succeeded."""
        gateways = [one for one in self.gateways() if one.alive and one.url]
        if not gateways:
            return False
        gateway = self.dice.choice(gateways)
        self.calls += 1
        identity = {"Workflow-Id": workflow, "Workflow-Step": step.ref, "X-Ref": step.ref, **headers}
        path = f"/{step.upstream}/{step.modes}/things"
        asking = asyncio.create_task(ask(gateway.url, step.method, path, identity, step.ref.encode()))
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
        return await self._told(step, answer, gateway, again)

    async def _told(self, step: Step, answer: Answer, gateway: Running, again: bool) -> bool:
        problem = answer.problem
        self.told[problem or str(answer.status)] += 1
        if answer.status == 201 and not problem:
            self.replays += "idempotent-replayed" in answer.headers
            self.oracle.succeeded(step, answer.body)
            return True
        if again and problem not in AWAY:
            self.violations.append(f"I5 changed: {step} had succeeded, and is now told {answer}")
        if problem == "deferred" and json.loads(answer.body)["alone"]:
            self.accepted.add(step.ref)
        if problem == "in-doubt":
            await self.settle(step, answer.headers["gimbal-call"])
        elif problem not in AGAIN:
            self.violations.append(f"unexpected: {step} is told {answer}")
        elif problem == "key-reused":
            self.violations.append(f"unexpected: {step} did not change, and is told so: {answer}")
        return False

    async def settle(self, step: Step, call: str) -> None:
        """Look at the upstream and say what is true; nobody minds who was settled already."""
        applied = await self.oracle.truth(step)
        said: dict[str, object] = {"applied": applied, "because": "the upstream counts"}
        if applied:
            said["response"] = {"status": 201, "body": f"settled: {step.ref}"}
        headers = {**self.world.admin, "Content-Type": "application/json"}
        for gateway in self.gateways():
            if gateway.alive and gateway.url:
                told = await ask(
                    gateway.url, "POST", f"/-/calls/{call}/resolve", headers, json.dumps(said).encode()
                )
                if told is not None and told.status in (200, 204, 303, 409):
                    return

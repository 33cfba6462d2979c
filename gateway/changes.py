"""Changes of upstreams, judged and kept: what `gimbal drift`, `drift.json`, the console and webhooks tell.

`judge()` reads what is remembered of an upstream's traffic, adds what it tells to the chronicle that replicas
share, and returns the whole. Whoever asks judges; two that judge at once agree, since the slower one begins anew
with what the faster one has kept.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Collection
from dataclasses import asdict, dataclass
from typing import Any

from discovery import chronicle
from discovery.announcements import Announcement, announcement_as_object, announcements
from discovery.chronicle import Chronicle, Event
from discovery.drift import drifts_among, operations_of, templates_of
from discovery.drift_telling import tell
from discovery.drift_watch import Watch
from discovery.evidence import State
from discovery.exchange import Json
from discovery.store import ContractStore
from discovery.traffic import Evidence

ROUNDS = 5
"""Times a chronicle is judged anew because another replica was faster, before the other's is good enough."""


@dataclass(frozen=True, slots=True)
class Changes:
    """All that is told of an upstream: what changed, and what it announced."""

    events: tuple[Event, ...] = ()
    announced: tuple[Announcement, ...] = ()

    def facts(self, now: float) -> dict[str, Json]:
        """Return it as `drift.json` has it. Announcements stand apart: nothing has changed by them yet."""
        return {
            "drift": [as_object(one) for one in self.events],
            "announced": [announcement_as_object(one, now) for one in self.announced],
        }


async def judge(store: ContractStore, upstream: str, now: float | None = None) -> Changes | None:
    """Return what changed at `upstream`, kept from now on; None where nothing was learned of it."""
    at = time.time() if now is None else now
    evidence = await store.evidence(upstream)
    if evidence is None or (looks := await store.remembered(upstream)) is None:
        return None
    overrides = await store.overrides(upstream)
    revision = await store.latest(upstream)
    for _ in range(ROUNDS):
        known, state = await store.changes(upstream)
        before = chronicle.load(state) if state else Chronicle()
        after, announced = await asyncio.to_thread(_judged, before, evidence, looks, overrides, at, revision)
        if after == before or await store.change(upstream, known, after.state()):
            break
    return Changes(after.events, tuple(announced))


async def amend(
    store: ContractStore, upstream: str, change: Callable[[Chronicle], Chronicle]
) -> tuple[Event, ...]:
    """Replace the chronicle by what `change` makes of it; return its events."""
    while True:
        known, state = await store.changes(upstream)
        before = chronicle.load(state) if state else Chronicle()
        after = change(before)
        if after == before or await store.change(upstream, known, after.state()):
            return after.events


async def acknowledge(store: ContractStore, upstream: str, ids: Collection[str], now: float) -> list[Event]:
    """Keep that a person knows of the events whose ids begin so (`all`: of all of them); return those."""

    def meant(event: Event) -> bool:
        return "all" in ids or any(event.id.startswith(part) for part in ids)

    def change(kept: Chronicle) -> Chronicle:
        return chronicle.acknowledged(kept, [one.id for one in kept.events if meant(one)], now)

    return [one for one in await amend(store, upstream, change) if meant(one)]


def _judged(
    before: Chronicle, evidence: State, looks: State, overrides: list[str], now: float, revision: int
) -> tuple[Chronicle, list[Announcement]]:
    watch, template_of = Watch.load(looks), templates_of(Evidence.load(evidence), overrides)
    operations = operations_of(watch, template_of)
    told = drifts_among(operations, chronicle.news_since(before, operations))
    return chronicle.noted(before, told, operations, now, revision), announcements(watch, template_of)


def as_object(event: Event) -> dict[str, Any]:
    """Return an event as `gimbal drift --json` and `drift.json` have it."""
    drift = event.drift
    return {
        **asdict(drift),
        "evidence": dict(drift.evidence),
        "id": event.id,
        "confidence": event.confidence,
        "found": event.found,
        "revision": event.revision,
        "over": event.over,
        "acknowledged": event.acknowledged,
        "message": tell(drift, event.over),
    }

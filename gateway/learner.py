"""Learns off the path of a call: exchanges -> evidence -> revisions.

`observe()` takes an exchange in a microsecond or two and never waits, fails or grows: the queue is bounded in
number and bytes. As it fills, shapes that were seen before are taken in one by two, one by four, ...; unknown ones
as long as there is room. What was dropped is counted in `dropped`.

What is folded is added to the store every `FLUSH` seconds; a new revision is drawn when there is enough news,
and changes are looked for.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from discovery.contract import Contract
from discovery.drift_watch import Watch
from discovery.exchange import Exchange, Response
from discovery.openapi import document
from discovery.store import ContractStore
from discovery.traffic import Evidence, segments_of
from gateway.changes import Changes, judge
from gateway.leisure import TURN, Leisure
from gateway.problems import LedgerUnavailable
from policies.outcome import Outcome, Reading

QUEUE = 4096
"""Exchanges waiting to be learned: some four seconds of work."""

QUEUE_BYTES = 32 * 1024 * 1024
"""Bytes of their bodies."""

BODY_LIMIT = 1024 * 1024
"""Bytes of a body that is learned from; a larger one costs more than it can tell."""

FLUSH = 5.0
"""Seconds between additions to the store: what a crash can lose, and the news other replicas wait for."""

NEWS = 0.1
"""Share of new exchanges that is worth drawing templates and a document anew."""

JUDGING = 0.05
"""Share of the time that looking for changes takes at most."""

_TAKEN = {
    Outcome.SUCCESS: True,
    Outcome.PARTIAL: True,
    Outcome.VALIDATION: False,
    Outcome.REFUSED: False,
    Outcome.RATE_LIMITED: False,
}
"""What an outcome says of the request: accepted or refused. The others say nothing: as good as refused."""

_log = logging.getLogger("gimbal.learner")


def accepted(reading: Reading) -> bool:
    """Tell whether an answer shows that the request was as the upstream wants it."""
    return _TAKEN.get(reading.outcome, False)


@dataclass(slots=True)
class _News:
    """What was folded of one upstream since it was last added to the store, and revised."""

    evidence: Evidence
    watch: Watch
    folded: int = 0
    known: int = 0  # exchanges behind the last revision
    since: int = 0
    unjudged: bool = False
    judge_at: float = 0.0  # time.monotonic()


@dataclass(slots=True)
class Learner:
    """One per process. `bases` are the base URLs by upstream: their paths stand before every template."""

    store: ContractStore
    key: bytes
    bases: Mapping[str, str] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    failed: int = 0
    on_changes: Callable[[str, Changes], Awaitable[None]] | None = None
    _queue: deque[tuple[Exchange, bool]] = field(default_factory=deque)
    _bytes: int = 0
    _seen: set[tuple[str, str, tuple[str, ...], int]] = field(default_factory=set)
    _tick: int = 0
    _news: dict[str, _News] = field(default_factory=dict)
    _task: asyncio.Task[None] | None = None
    _wake: asyncio.Event = field(default_factory=asyncio.Event)

    def observe(self, exchange: Exchange, reading: Reading) -> None:
        """Take an exchange to be learned from, if there is room."""
        answer = exchange.answer
        if not isinstance(answer, Response):
            return
        size = len(answer.body) + len(exchange.request.body)
        shape = (exchange.upstream, exchange.request.method, segments_of(exchange.request.path), answer.status)
        if size > BODY_LIMIT or not self._room(shape, size):
            self.dropped[exchange.upstream] = self.dropped.get(exchange.upstream, 0) + 1
            return
        self._queue.append((exchange, accepted(reading)))
        self._bytes += size
        self._wake.set()

    def _room(self, shape: tuple[str, str, tuple[str, ...], int], size: int) -> bool:
        """Above half, every second known shape is let in, then every fourth; the end of it is for new ones."""
        if len(self._queue) >= QUEUE or self._bytes + size > QUEUE_BYTES:
            return False
        if shape not in self._seen:
            if len(self._seen) > 4 * QUEUE:
                self._seen.clear()
            self._seen.add(shape)
            return True
        filled = max(len(self._queue) / QUEUE, self._bytes / QUEUE_BYTES)
        if filled < 0.5:
            return True
        if filled >= 0.95:
            return False
        self._tick += 1
        return self._tick % (2 if filled < 0.75 else 4 if filled < 0.9 else 16) == 0

    def start(self) -> None:
        """Begin to learn; what others learned while we were away is judged first, if changes are told on."""
        if self.on_changes is not None:
            for upstream in self.bases:
                self._news[upstream] = _News(Evidence(self.key), Watch(self.key), unjudged=True)
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def aclose(self) -> None:
        """Learn what is queued, add it to the store, and stop."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
            self._task = None
        while self._queue:
            self._turn()
        await self.flush()
        for upstream in list(self._news):
            await self.revise(upstream)
            if self._news[upstream].unjudged:
                await self.judge(upstream)

    async def _run(self) -> None:
        due = time.monotonic() + FLUSH
        leisure = Leisure()
        while True:
            self._wake.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0 if self._queue else max(0.05, due - time.monotonic())):
                    await self._wake.wait()
            while self._queue and time.monotonic() < due:
                self._turn()
                await asyncio.sleep(leisure.rest())
            if time.monotonic() >= due:
                await self.flush()
                for upstream, news in list(self._news.items()):
                    if news.since >= max(1, NEWS * news.known):
                        await self.revise(upstream)
                    if news.unjudged and time.monotonic() >= news.judge_at:
                        await self.judge(upstream)
                due = time.monotonic() + FLUSH

    def _turn(self) -> None:
        """Fold what is queued, for `TURN` seconds at most."""
        end = time.monotonic() + TURN
        while self._queue and time.monotonic() < end:
            exchange, taken = self._queue.popleft()
            self._bytes -= len(exchange.request.body)
            if isinstance(exchange.answer, Response):
                self._bytes -= len(exchange.answer.body)
            news = self._news.get(exchange.upstream)
            if news is None:
                news = self._news[exchange.upstream] = _News(Evidence(self.key), Watch(self.key))
            try:
                news.evidence.fold(exchange, taken, self._prefix(exchange.upstream))
                news.watch.fold(exchange, self._prefix(exchange.upstream))
                news.folded += 1
            except Exception:
                self.failed += 1
                _log.exception("could not learn from an exchange with %s", exchange.upstream)

    def _prefix(self, upstream: str) -> str:
        return urlsplit(self.bases.get(upstream, "")).path.rstrip("/")

    async def flush(self) -> None:
        """Add what was folded to the store. While that is away, it is kept."""
        for upstream, news in self._news.items():
            if not news.folded:
                continue
            evidence, watch, count = news.evidence, news.watch, news.folded
            news.evidence, news.watch, news.folded = Evidence(self.key), Watch(self.key), 0
            try:
                await self.store.remember(upstream, watch.state())
                watch = Watch(self.key)
                await self.store.add(upstream, evidence.state())
                news.since += count
                news.unjudged = True
            except LedgerUnavailable as error:
                evidence.merge(news.evidence)
                watch.merge(news.watch)
                news.evidence, news.watch, news.folded = evidence, watch, news.folded + count
                _log.warning("what was learned of %s waits for the store: %s", upstream, error)

    async def revise(self, upstream: str) -> int | None:
        """Draw the contract anew from all evidence, and keep it if it says something new; return its number."""
        news = self._news.get(upstream)
        if news is not None and not news.since:
            return None
        try:
            number, count = await revise(self.store, upstream, self.bases.get(upstream, ""), time.time())
        except LedgerUnavailable as error:
            _log.warning("the contract of %s was not revised: %s", upstream, error)
            return None
        if news is not None:
            news.known, news.since = count, 0
        return number

    async def judge(self, upstream: str) -> None:
        """Look for changes in what was learned since, and keep them; then rest for many times as long."""
        news = self._news[upstream]
        began = time.monotonic()
        try:
            changes = await judge(self.store, upstream)
            if changes is not None and self.on_changes is not None:
                await self.on_changes(upstream, changes)
            news.unjudged = False
        except LedgerUnavailable as error:
            _log.warning("the changes of %s were not judged: %s", upstream, error)
        ended = time.monotonic()
        news.judge_at = ended + (ended - began) / JUDGING


async def revise(store: ContractStore, upstream: str, base_url: str, now: float) -> tuple[int, int]:
    """Keep the contract as it follows from all evidence; return its number and the exchanges behind it."""
    state = await store.evidence(upstream)
    if state is None:
        return 0, 0
    overrides = await store.overrides(upstream)
    told, count = await asyncio.to_thread(_drawn, state, upstream, base_url, overrides)
    return await store.revise(upstream, Contract(told).digest, now, told, count), count


def _drawn(
    state: dict[str, object], upstream: str, base_url: str, overrides: list[str]
) -> tuple[dict[str, object], int]:
    evidence = Evidence.load(state)
    return document(evidence, upstream, [base_url] if base_url else [], overrides), evidence.count

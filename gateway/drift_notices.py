"""Tells receivers of one's own what changed at an upstream: a signed notice an event, once.

A notice is a call of the ledger (`gateway.notices`): kept before it is sent, and sent until its receiver takes it.
That an event was handed over is kept in the chronicle; who dies in between hands it over again, under the same id.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime
from functools import partial

import orjson

from discovery.chronicle import Event, notified
from discovery.store import ContractStore
from gateway.changes import Changes, amend, as_object
from gateway.notices import Notices
from policies.notices import drift_receiver_of

FRESH = 7 * 86400.0
"""Seconds after which what was found is no news: a receiver that is configured today is not told of last year."""

KIND = "drift.found"


class DriftNotices:
    """The receivers of changes among those of `notices`."""

    def __init__(self, notices: Notices, store: ContractStore) -> None:
        self._notices = notices
        self._store = store

    async def tell(self, upstream: str, changes: Changes) -> None:
        """Hand over what is new of `upstream`. Raises `LedgerUnavailable`; then the rest is handed over later."""
        receiver = drift_receiver_of(upstream, self._notices.receivers)
        now = time.time()
        due = [one for one in changes.events if one.notified is None and one.found >= now - FRESH]
        if receiver is None or not due:
            return
        for event in due:
            subject = f"{upstream}.{event.id}"
            await self._notices.enqueue(receiver, subject, subject, KIND, body_of(upstream, event))
        ids = [event.id for event in due]
        await amend(self._store, upstream, partial(notified, ids=ids, now=now))


def body_of(upstream: str, event: Event) -> bytes:
    """Return the notice's body: the change as `gimbal drift --json` has it."""
    at = datetime.fromtimestamp(event.found, UTC).isoformat(timespec="milliseconds")
    change = as_object(event)
    data = {"upstream": upstream, "change": change, "url": f"/-/upstreams/{upstream}/drift.json"}
    return orjson.dumps({"type": KIND, "timestamp": at, "data": data})

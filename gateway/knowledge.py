"""What is known of upstreams, for whoever asks: contracts as OpenAPI documents, drift as plain objects."""

from __future__ import annotations

import asyncio
import time
from dataclasses import asdict

from discovery.contract_telling import in_depth, operations_of
from discovery.exchange import Json
from discovery.store import ContractStore
from discovery.traffic import Evidence
from gateway.changes import judge


class Knowledge:
    """The console's `Contracts` port over a `ContractStore`."""

    def __init__(self, store: ContractStore) -> None:
        self._store = store

    async def openapi(self, upstream: str, revision: int | None) -> dict[str, Json] | None:
        found = await self._store.revision(upstream, revision)
        return None if found is None else found.document

    async def operations(self, upstream: str) -> list[Json] | None:
        """Return the operations that were seen of `upstream`, at a glance."""
        state = await self._store.evidence(upstream)
        if state is None:
            return None
        overrides = await self._store.overrides(upstream)
        found = await asyncio.to_thread(lambda: operations_of(Evidence.load(state), overrides))
        return [asdict(one) for one in found]

    async def operation(self, upstream: str, method: str, path: str) -> dict[str, Json] | None:
        """Return all that is known of one operation, `discovery.contract_telling.InDepth` as plain JSON."""
        state = await self._store.evidence(upstream)
        if state is None:
            return None
        overrides = await self._store.overrides(upstream)
        found = await asyncio.to_thread(lambda: in_depth(Evidence.load(state), overrides, method, path))
        return None if found is None else asdict(found)

    async def drift(self, upstream: str) -> dict[str, Json] | None:
        """Return what changed (`drift`) and what the upstream announced (`announced`)."""
        found = await judge(self._store, upstream)
        return None if found is None else found.facts(time.time())

"""ContractStore: the port contracts are kept behind.

Evidence is added, never replaced: replicas add what each has seen, in any order and without asking each other, and
all read the same sum. Every method raises when the store is away (`gateway.problems.LedgerUnavailable`).
"""

from __future__ import annotations

from typing import Any, Protocol

from discovery.contract import Revision
from discovery.evidence import State


class ContractStore(Protocol):
    async def add(self, upstream: str, seen: State, source: str = "") -> None:
        """Add evidence (`Evidence.state()`); once only for each `source` that is named (the digest of a file).

        When it raises, it may have been added or not.
        """
        ...

    async def learned(self, upstream: str, source: str) -> bool:
        """Tell whether evidence of `source` was added."""
        ...

    async def evidence(self, upstream: str) -> State | None:
        """Return all evidence of `upstream` as one, or None when nothing was seen."""
        ...

    async def remember(self, upstream: str, looks: State) -> None:
        """Add the latest looks at answers (`Watch.state()`), for drift: later than all that are there."""
        ...

    async def remembered(self, upstream: str) -> State | None:
        """Return all looks that are kept, in order of their coming, or None."""
        ...

    async def changes(self, upstream: str) -> tuple[bytes, State | None]:
        """Return the chronicle of changes (`discovery.chronicle`), and what to name when replacing it."""
        ...

    async def change(self, upstream: str, known: bytes, changes: State) -> bool:
        """Replace the chronicle if it is still the one `known`; tell whether it was."""
        ...

    async def upstreams(self) -> list[str]:
        """Return the names of the upstreams something is known of."""
        ...

    async def overrides(self, upstream: str) -> list[str]:
        """Return the path templates a person has set; they hold before all evidence."""
        ...

    async def override(self, upstream: str, template: str, *, remove: bool = False) -> None: ...

    async def revise(
        self, upstream: str, digest: str, at: float, document: dict[str, Any], behind: int = 0
    ) -> int:
        """Keep `document` as a new revision unless the last one has the same digest; return the last one's number.

        `behind` is how many exchanges it was drawn from. What fewer are behind than behind the last one came late,
        from a replica that had not read what another has added since: it is passed over.
        """
        ...

    async def revisions(self, upstream: str) -> list[tuple[int, float, str]]:
        """Return number, time and digest of the revisions kept, oldest first."""
        ...

    async def latest(self, upstream: str) -> int:
        """Return the number of the last revision; 0: there is none."""
        ...

    async def revision(self, upstream: str, number: int | None = None) -> Revision | None:
        """Return one revision, by default the last."""
        ...

    async def forget(self, upstream: str) -> None:
        """Drop all that is known of `upstream`, what a person has set included."""
        ...

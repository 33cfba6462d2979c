"""What a workflow is told: an upstream's answer, verbatim or recorded, or a problem that the gateway states."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from discovery.constant import constant
from discovery.exchange import Json, Response
from policies.outcome import Outcome


@dataclass(frozen=True, slots=True)
class Problem:
    """An answer the gateway makes itself (RFC 9457). `slug` names the page that explains it."""

    slug: str
    status: int
    title: str
    detail: str
    members: dict[str, Json] = field(default_factory=dict)


@constant
class Original:
    """What an upstream answered where its workflow was told something else, or less than it was written for, or
    where its request was mended: `adapted` edits of both. `response` None: it was delivered as it came.

    `contract` is the revision of the upstream's contract it was judged by.
    """

    response: Response | None
    adapted: int = 0
    degraded: int = 0
    contract: int | None = None


@constant
class Reply:
    """The answer to one call, with the call's fate.

    `retry_after` (seconds) says when a repeat makes sense; `location` says that the call can be watched;
    `unconfirmed`, that the store has not confirmed the record as firmly as it was configured to.
    """

    answer: Response | Problem
    outcome: Outcome
    attempts: int = 0
    replayed: bool = False
    retry_after: float | None = None
    location: bool = False
    adapted: int = 0
    degraded: int = 0
    contract: int | None = None
    unconfirmed: bool = False

    def with_attempts(self, attempts: int) -> Reply:
        return replace(self, attempts=attempts)

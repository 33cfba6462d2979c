"""All we ask of the world: Ledger, Upstream, Clock, Journal.

`gateway.testing` has an implementation of each that needs no network, store or clock; the real ones are
`ledger.py`, `upstream.py`, and `journal.py`. One suite of tests runs against both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from discovery.constant import constant
from discovery.exchange import Fault, Headers, Request, Response
from discovery.hints import Hint
from policies.actions import Answered, Call, Claimed, Mended
from policies.claims import Ask, Change, ChangeResult, Record, State, StepKey
from policies.outcome import Outcome
from policies.repair import NeedsInput
from policies.reply import Original
from policies.rules import Rules


@constant
class About:
    """What a call is, beside its rules: told once, when its record (or a new generation) is made.

    `request` is the frozen request without the gateway's own or the caller's credentials.
    `kept` is seconds a terminal record is kept on its own; None: as long as its workflow.
    """

    step: StepKey
    upstream: str
    operation: str
    request: Request
    kept: float | None = None
    trace: str = ""
    caller: str = ""


@dataclass(frozen=True, slots=True)
class Entry:
    """One call as it is kept: what is shown of it is redacted by whoever shows it."""

    id: str
    about: About
    record: Record
    reply: Response | None
    transcript: tuple[bytes, ...]  # JSON objects, oldest first; see gateway.journal
    created: float
    updated: float
    items: bytes = b""
    original: Original | None = None  # what the upstream said, where `reply` says it in another shape
    sent: Request | None = None  # what went out last, where it is not `about.request`
    unreadable: str = ""  # why parts of it could not be read, in whose places nothing stands


@dataclass(frozen=True, slots=True)
class Pending:
    """What is needed to go on with a call without its caller. `credentials` are those kept for it."""

    about: About
    record: Record
    credentials: Headers = ()


@dataclass(frozen=True, slots=True)
class Workflow:
    """One workflow instance: its calls' states counted."""

    type: str
    id: str
    started: float
    active: float
    ended: float  # 0: open
    states: dict[State, int] = field(default_factory=dict)


class Ledger(Protocol):
    """The durable memory. Every method raises `LedgerUnavailable` when the store is away.

    A mutation that raised may or may not have taken place: the store's answer can be lost.
    """

    @property
    def epoch(self) -> int:
        """A number that changes when the store went away and came back, perhaps without its last writes."""
        ...

    async def claim(
        self, call: str, about: About, ask: Ask, credentials: Headers = (), sent: Request | None = None
    ) -> Claimed:
        """Claim; a claim of a new generation keeps `credentials`, sealed, until the call ends, and what is
        `sent` in it in place of the call's own request."""
        ...

    async def change(
        self,
        call: str,
        fence: int,
        wish: Change,
        *,
        reply: Response | None = None,
        transcript: bytes = b"",
        items: bytes = b"",
        credentials: Headers = (),
        original: Original | None = None,
        sent: Request | None = None,
    ) -> ChangeResult: ...

    async def renew(self, held: Sequence[tuple[str, int]], lease: float) -> list[bool]: ...

    async def occurrence(self, type: str, id: str, run: str, fingerprint: str, marker: str) -> int:
        """Return which occurrence of an unnamed step this is (from 1): see `interface`, step without a name."""
        ...

    async def delivered(self, type: str, id: str, run: str, fingerprint: str, occurrence: int) -> None: ...

    async def note(
        self,
        call: str,
        about: About,
        reply: Response,
        transcript: bytes,
        outcome: Outcome = Outcome.SUCCESS,
        original: Original | None = None,
    ) -> None:
        """Keep a safe call in its workflow's history; `call` is an id of its own (of a step no other call has)."""
        ...

    async def resolve(
        self, call: str, applied: bool, reply: Response | None, transcript: bytes
    ) -> ChangeResult: ...

    async def cancel(self, call: str, transcript: bytes) -> ChangeResult: ...

    async def hasten(self, call: str, transcript: bytes) -> ChangeResult: ...

    async def entry(self, call: str) -> Entry | None: ...

    async def calls(
        self, state: State | None = None, limit: int = 100, before: tuple[float, str] | None = None
    ) -> list[Entry]:
        """Return calls, newest first: in `state`, or of any state.

        `before`, the last entry's `created` and `id`, goes on where a list ended.
        """
        ...

    async def workflows(self, limit: int = 100) -> list[Workflow]: ...

    async def workflow(self, type: str, id: str) -> tuple[Workflow, list[Entry]] | None: ...

    async def history(self, type: str, id: str, limit: int) -> list[Entry]:
        """Return the latest calls of a workflow instance: steps and reads, in no order."""
        ...

    async def end(self, type: str, id: str, kept: float) -> bool:
        """End a workflow with nothing open: its records expire after `kept` seconds. False: something is open."""
        ...


class Waiting(Ledger, Protocol):
    """A ledger whose waiting calls can be found. Shards are numbered from 0 to 255."""

    async def heads(self) -> list[float]:
        """Return, for each shard, in how many seconds its next call is due; `inf`: none is."""
        ...

    async def take(self, shard: int, limit: int, hold: float) -> tuple[list[str], float]:
        """Let time do its work on `shard`; return calls whose time has come, each told to one taker only for
        `hold` seconds, and in how many seconds the next is due.

        Among them are ends that are owed to a callback: a call's id, a dot, and its record's `news`.
        """
        ...

    async def told(self, end: str, again: float | None = None) -> None:
        """An end is owed no more: a notice of it is in the ledger, or there is nothing left to tell.

        `again`: it still is, and somebody shall look at that time (epoch seconds).
        """
        ...

    async def pending(self, call: str) -> Pending | None: ...

    async def reap(self, shard: int, idle: float, kept: float) -> int:
        """End the workflows of `shard` that were idle for `idle` seconds with nothing open; return how many."""
        ...


class Adapting(Protocol):
    """What keeps workflow types on the shape they were written for."""

    async def adapt_answer(
        self, upstream: str, workflow: tuple[str, str], request: Request, response: Response, at: float
    ) -> Answered:
        """Return a success as its workflow (type and id) expects it. Raises nothing; waits for no store."""
        ...

    def fared(self, workflow: tuple[str, str], outcome: Outcome) -> None:
        """A call of the workflow ended so: what adapted answers led to shows in the calls after them."""
        ...


class Mending(Protocol):
    """What mends requests that an upstream which moved no longer takes. No method raises."""

    def accepted(self, call: Call, rules: Rules) -> None:
        """The upstream took a request as its workflow wrote it."""
        ...

    def teaches(self, upstream: str) -> bool:
        """Did refusals of the upstream teach anything yet?"""
        ...

    async def prepare(self, call: Call, rules: Rules) -> Mended | None:
        """Return the request as earlier refusals taught; None: it goes out as it was written."""
        ...

    async def amend(
        self,
        call: Call,
        rules: Rules,
        request: Request,
        answer: Response,
        hints: tuple[Hint, ...],
        before: Mended | None,
    ) -> Mended | NeedsInput | None: ...

    def taught(self, call: Call, rules: Rules, mended: Mended) -> None: ...


class Upstream(Protocol):
    """One named upstream. `send` never raises for what happens on the wire: it returns a `Fault`."""

    async def send(self, request: Request, *, timeout: float, not_after: float | None = None) -> Response | Fault:
        """Send and return the answer. No first byte leaves after `not_after` (the loop's monotonic time)."""
        ...

    async def aclose(self) -> None: ...


class Clock(Protocol):
    """Time and chance, for the runner alone."""

    def now(self) -> float: ...

    def monotonic(self) -> float: ...

    def chance(self) -> float:
        """Return a number in [0, 1)."""
        ...

    async def sleep(self, seconds: float) -> None: ...

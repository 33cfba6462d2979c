"""What a life asks for: its actions, and the call it is the life of.

`policies.lifecycle` yields these, `gateway.runner` performs them. `Act` is the union of all; an action nobody
performs does not type-check.
"""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeAlias, TypeVar, cast

from discovery.constant import constant
from discovery.exchange import Fault, Headers, Json, Request, Response
from discovery.hints import Hint
from policies.claims import Ask, Callback, Change, ChangeResult, ClaimResult, Record, Replays, StepKey
from policies.outcome import Reading
from policies.repair import Mend, NeedsInput
from policies.reply import Original

R = TypeVar("R")


@constant
class Call:
    """One request of a workflow. `step` is None where nothing is to be remembered."""

    id: str
    upstream: str
    request: Request  # as the workflow sent it, less the gateway's control headers
    frozen: Request  # the same less credentials: what the ledger keeps
    fingerprint: str
    patience: float  # seconds
    step: StepKey | None = None
    replays: Replays = Replays.EFFECTS
    identified: bool = False  # the caller said who it is: it is told in our words when an answer is not definite
    respond_async: bool = False
    workflow: tuple[str, str] | None = None  # type and id
    attended: bool = True  # False: its caller is gone, and the gateway goes on with it alone
    prepared: Mended | None = None  # its request as earlier refusals taught: it goes out in its place
    keeps: bool = True  # the caller's credentials may be kept, sealed, while the call waits
    owner: str = ""  # names this one life of the call
    callback: Callback = Callback.NONE


@dataclass(frozen=True, slots=True)
class Mended:
    """A request that goes out in place of the workflow's own: its `mends`, and `why` for each.

    `frozen` is `request` less credentials: what the ledger keeps. No mends: it is the workflow's own again.
    """

    request: Request
    frozen: Request
    mends: tuple[Mend, ...] = ()
    why: tuple[str, ...] = ()
    line: dict[str, Json] = field(default_factory=dict, compare=False)  # for the transcript
    last: bool = False  # it is not mended again


# Actions: what a life asks for. The type parameter is what it is sent back.


class Action(Generic[R]):
    __slots__ = ()


@constant
class Moment:
    """The time, and a number in [0, 1). `now` is monotonic, `date` is epoch seconds."""

    now: float
    date: float
    chance: float


@constant
class Look(Action[Moment]):
    """Look at the clock and roll the dice."""


@constant
class Claimed:
    """What came of a claim, with what the ledger keeps of the step."""

    result: ClaimResult
    request: Request | None = None
    reply: Response | None = None
    items: bytes = b""
    original: Original | None = None
    sent: Request | None = None
    forgotten: bool = False  # the store knows nothing of a step that we know was sent


@constant
class Claim(Action[Claimed]):
    """Ask the ledger for the right to act on the step.

    `sent` is what goes out in this generation where that is not the call's own request, less its credentials.
    """

    ask: Ask
    credentials: Headers = ()
    sent: Request | None = None


@dataclass(frozen=True, slots=True)
class Join(Action[None]):
    """Wait until the step's running twin ends, at most `seconds`."""

    seconds: float


@constant
class IsClear(Action[bool]):
    """Would the upstream's pace let a call through at once?"""


@constant
class Pace(Action[float]):
    """Wait for a place in the upstream's pace. Returns 0 when it is ours, else the seconds it would take:
    more than are left until `until` (monotonic)."""

    until: float


@constant
class Send(Action["Response | Fault"]):
    """Send to the upstream. No first byte leaves after the claim's lease."""

    request: Request


@dataclass(frozen=True, slots=True)
class Probe(Action["Response | Fault"]):
    """Ask the upstream something that has no effect: how a job stands, whether a thing is there."""

    request: Request


@constant
class Wait(Action[None]):
    """Let `seconds` pass."""

    seconds: float
    why: str


@constant
class Commit(Action[ChangeResult]):
    """Move the step's record under the claim's fence, with the reply a repeat will be told.

    `items` are what became of a batch's, as JSON (see `policies.finishing`). `original` is what the upstream said
    where the reply says it in another shape, `sent` what goes out from now on in place of the call's own request.
    """

    change: Change
    why: str
    reply: Response | None = None
    items: bytes = b""
    credentials: Headers = ()
    original: Original | None = None
    sent: Request | None = None


@constant
class Answered:
    """An answer in the shape its workflow was written for. `line` goes to the transcript where something was done;
    `broken` are places a person marked as required that are not there; `contract` is the revision known."""

    response: Response
    adapted: int = 0
    degraded: int = 0
    line: dict[str, Json] | None = None
    broken: tuple[str, ...] = ()
    contract: int | None = None


@constant
class Adapt(Action[Answered]):
    """Give a successful answer the shape that the call's workflow type is pinned to."""

    answer: Response


@dataclass(frozen=True, slots=True)
class Amend(Action[Mended | NeedsInput | None]):
    """Ask what evidence makes of a definite refusal: another request, what is to be asked, or nothing.

    `before` is how the refused request had been mended already.
    """

    request: Request
    answer: Response
    hints: tuple[Hint, ...]
    before: Mended | None = None


@dataclass(frozen=True, slots=True)
class Taught(Action[None]):
    """A mended request was accepted: for the instances that come after."""

    mended: Mended


@dataclass(frozen=True, slots=True)
class Spend(Action[bool]):
    """Take one retry from the upstream's budget. False: none is left."""


@dataclass(frozen=True, slots=True)
class Note(Action[None]):
    """Keep a call that is no step in its workflow's history."""

    reply: Response
    reading: Reading
    original: Original | None = None


@constant
class Heard(Action[None]):
    """What an answer was read as: for the transcript, the budget and the learner."""

    answer: Response | Fault
    reading: Reading


@dataclass(frozen=True, slots=True)
class Held:
    """A claimed step: its record, the request of this generation, and the ledger's clock beside ours."""

    record: Record
    request: Request
    offset: float  # the ledger's time less our monotonic time
    reply: Response | None = None  # what the upstream said when it accepted the request
    fresh: bool = False  # the ledger knew nothing of the step
    forgotten: bool = False  # though it was sent from here
    mended: Mended | None = None  # how what it sends was mended

    @property
    def repeat_until(self) -> float:
        return self.record.repeat_until - self.offset


Act: TypeAlias = (
    Look
    | Claim
    | Join
    | IsClear
    | Pace
    | Send
    | Probe
    | Wait
    | Commit
    | Adapt
    | Amend
    | Taught
    | Spend
    | Note
    | Heard
)
Life: TypeAlias = Generator[Act, Any, R]


def do(action: Action[R]) -> Life[R]:
    """Yield `action` and return what came of it, typed."""
    result: R = yield cast(Act, action)
    return result

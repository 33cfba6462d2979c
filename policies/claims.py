"""The rules of the ledger: who may act on a step, and what a repeat is told.

One record is kept per step. Whoever acts on it holds a *lease* (until when) and a *fence* (a number that
only grows; it outdates an older holder). Every function here takes the record as it is and the store's
time, and returns the record as it shall be with what to tell the asker. `gateway.ledger` holds the same
rules in Lua; a property test keeps the two together.

A *generation* is one logical request of the step. A new one starts only when the last had, for sure, no
effect; so its idempotency key may be new, and its request another. Inside a generation the request that
goes out is always the same.

What promises this makes:

- At most one live holder. A lapsed holder that had *nothing sent* is simply replaced; one that may have
  sent is replaced only while sending again cannot double the effect (`repeat_until`), and is in doubt after.
- A stale fence changes nothing, with one exception that adds knowledge: the last holder of a generation may
  still settle the doubt its own silence caused.
- A definite reply, once recorded with an effect, is never replaced.
- One sending without effect says nothing of an earlier one that went unanswered: the generation stays
  `doubted`, and no other can start, until an answer speaks for all of its sendings.
- A doubt is looked into under the fence it arose under, so that whoever knows first (its last holder's late
  answer, a look-up) settles it, and the others are outdated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from typing import TypeAlias

from discovery.constant import constant
from policies.outcome import Effect, Outcome

LEASE = 5.0
"""Seconds, renewed every 1.5 while its holder lives. Short, because a crashed step cannot
be resumed before it ends; three renewals may be missed before a live holder is doubted."""

RENEWAL = 1.5
"""Seconds between renewals of a held lease."""

LONGEST_KEPT = 7 * 86400.0
"""Seconds a call may go on with its caller's credentials where it has no deadline: tokens live shorter."""

ALWAYS = math.inf
"""`repeat_until` of a request that may be sent again at any time (an idempotent method)."""


class State(StrEnum):
    """Where a call stands. See `TERMINAL` and `HELD`."""

    NEW = "new"  # free to be sent; nobody owns it (a doubt that was settled as not applied)
    CLAIMED = "claimed"  # somebody owns it; nothing of this attempt was sent
    SENDING = "sending"  # the intent is durable; from here bytes may have left
    WAITING = "waiting"  # will be sent at `not_before`; safe to repeat
    ACCEPTED = "accepted"  # the upstream took it and finishes later
    PARTIAL = "partial"  # some items took effect, others are still to be sent
    SUCCEEDED = "succeeded"
    REJECTED = "rejected"  # invalid; no effect for sure
    FAILED = "failed"  # refused for another reason; definite
    IN_DOUBT = "in-doubt"  # may or may not have taken effect
    EXHAUSTED = "exhausted"  # retries, budget or deadline used up
    CANCELLED = "cancelled"


TERMINAL = frozenset({State.SUCCEEDED, State.REJECTED, State.FAILED, State.EXHAUSTED, State.CANCELLED})
"""No timer, lease or sweeper moves these. (A new generation may start where the effect was none.)"""

HELD = frozenset({State.CLAIMED, State.SENDING, State.ACCEPTED, State.PARTIAL})
"""States somebody acts in under a lease."""


class Replays(StrEnum):
    """Which endings a repeat of the step is told instead of being sent anew."""

    EFFECTS = "effects"  # a workflow's step: what had an effect is replayed, a refusal may be tried again
    DEFINITE = "definite"  # an Idempotency-Key on its own: every definite answer, errors too (draft-07 2.6)


class Credentials(StrEnum):
    """Who has what a call's request carries beside the frozen one."""

    NONE = "none"  # it carries none: whoever holds the step can send it
    CALLER = "caller"  # only its caller, who has to repeat the step for it to go on
    KEPT = "kept"  # sealed with the record, until the call ends


class Callback(StrEnum):
    """Whether the end of a call is told to the callback of its workflow's type."""

    NONE = "none"  # it has none
    WANTED = "wanted"  # it is, once somebody had to be let go before the end
    OWED = "owed"  # somebody was


@constant
class StepKey:
    """Whose step: workflow type, workflow instance, step name."""

    type: str
    id: str
    step: str


@constant
class Record:
    """What is kept of a step, as far as the rules go. Times are epoch seconds of the store's clock."""

    state: State
    fingerprint: str
    fence: int = 1
    generation: int = 1
    attempt: int = 0  # sendings in this generation
    lease_until: float = 0.0
    not_before: float = 0.0  # of a waiting call; of a doubt: when evidence is looked for, 0: never
    deadline: float = 0.0  # give up after this; 0: never
    first_sent: float = 0.0  # of this generation; 0: not yet
    window: float = 0.0  # seconds after `first_sent` in which a repeat is safe; ALWAYS: idempotent; 0: never
    replays: Replays = Replays.EFFECTS
    outcome: Outcome | None = None
    effect: Effect = Effect.NONE  # of the generation, not of its last sending
    doubted: bool = False  # a sending before the last may have taken effect
    some: bool = False  # a sending of this generation took effect in part: it is never begun anew
    doubt_since: float = 0.0  # when its latest doubt was noticed; nothing of it was sent after
    credentials: Credentials = Credentials.NONE
    owner: str = ""  # who claimed it last
    callback: Callback = Callback.NONE

    @property
    def news(self) -> str:
        """The name of an end that is owed to a callback, the same however often it is looked at; empty: none.

        A doubt that nobody but a person can settle counts.
        """
        ended = self.state in TERMINAL or (self.state is State.IN_DOUBT and not self.not_before)
        return f"{self.fence}.{self.state.value}" if ended and self.callback is Callback.OWED else ""

    @property
    def repeat_until(self) -> float:
        """Until when sending this generation's request again cannot double its effect."""
        return self.first_sent + self.window if self.first_sent else ALWAYS

    @property
    def due(self) -> float:
        """When somebody has to look at this record again; `ALWAYS`: time alone will not move it."""
        alone = self.credentials is not Credentials.CALLER  # it can go on without its caller
        match self.state:
            case State.CLAIMED | State.SENDING:
                return self.lease_until
            case State.ACCEPTED | State.PARTIAL if alone:
                return max(self.lease_until, self.not_before)
            case State.WAITING:
                starts, ends = self.not_before if alone else ALWAYS, self.deadline or ALWAYS
                return min(starts, ends, self.repeat_until if _unknown(self) else ALWAYS)
            case State.IN_DOUBT if self.not_before:
                return self.not_before if alone else max(self.not_before, self.repeat_until)
            case _:
                return ALWAYS


# What is asked


@constant
class Ask:
    """A claimant's wish. `send` marks the intent at once: its first byte follows without a wait.

    The mark is set when the granted record says `sending`, and only then: what was accepted, or took effect
    in part, is granted as it is, and needs a change to `sending` of its own before a byte may leave.

    `owner` names this one life: its own claim, asked again because the answer was lost, is granted again.
    `settle` asks for a doubt as well, to look for evidence; it is granted as it is. `alone` is asked without a
    caller: it goes on with what waits, within its deadline, and starts nothing anew.
    """

    fingerprint: str
    send: bool
    window: float = 0.0
    deadline: float = 0.0
    replays: Replays = Replays.EFFECTS
    lease: float = LEASE
    early: bool = False  # do not wait for `not_before` (a person said: run it now)
    settle: bool = False
    alone: bool = False
    credentials: Credentials = Credentials.NONE
    owner: str = ""
    callback: Callback = Callback.NONE


@constant
class Change:
    """How a holder moves its record. `keep` renews the lease by so many seconds; 0 leaves it as it is where
    the holder acts on (`claimed`, `sending`), and lets it go elsewhere.

    `effect` is that of the last sending; on the way to `sending`, of the sending before. `settles` says that
    the answer speaks for every sending of the generation (a definite answer under a key the upstream honours),
    or that evidence does: then a doubt may become `waiting`, as a new generation. `anew`: nothing of this
    generation took effect, and its holder goes on with another request, as the next.
    """

    state: State
    outcome: Outcome | None = None
    effect: Effect = Effect.NONE
    not_before: float = 0.0
    keep: float = 0.0
    deadline: float | None = None
    settles: bool = False
    credentials: Credentials | None = None  # None: as before
    anew: bool = False


# What a claimant is told


@constant
class Granted:
    """Yours to act on. `resumed`: the generation's stored request goes on, not the claimant's own copy."""

    record: Record
    resumed: bool


@constant
class Recorded:
    """It has ended; tell the repeat the recorded reply."""

    record: Record


@dataclass(frozen=True, slots=True)
class Busy:
    """Somebody else is acting on it, at least until `until` unless they end before."""

    record: Record
    until: float


@dataclass(frozen=True, slots=True)
class Later:
    """It is safe to send, but not before its time."""

    record: Record
    not_before: float


@dataclass(frozen=True, slots=True)
class Doubtful:
    """It may have taken effect, and nothing proves either way."""

    record: Record


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Same step, other request, and the first had an effect or may have had (or may yet have) one."""

    record: Record


ClaimResult: TypeAlias = Granted | Recorded | Busy | Later | Doubtful | Mismatch


@constant
class Kept:
    """The change took place."""

    record: Record


@dataclass(frozen=True, slots=True)
class Outdated:
    """The change did not take place: the record moved on without this holder (or is gone)."""

    record: Record | None


ChangeResult: TypeAlias = Kept | Outdated


# The rules


def claim(record: Record | None, ask: Ask, now: float) -> tuple[Record, ClaimResult]:
    """Decide a claim: the record to keep, and what to tell the claimant.

    A holder's silence is noticed first (`lapse`). What it may have sent is handed on as `resumed`.
    """
    if record is None:
        return _grant(_fresh(ask, fence=1, generation=1), ask, now, resumed=False)
    record = lapse(record, now)
    same = record.fingerprint == ask.fingerprint
    match record.state:
        case State.CLAIMED | State.SENDING if same and record.lease_until > now and _mine(record, ask):
            return record, Granted(record, resumed=True)
        case State.CLAIMED | State.SENDING | State.ACCEPTED | State.PARTIAL if record.lease_until > now:
            return record, (Busy(record, record.lease_until) if same or _none(record) else Mismatch(record))
        case State.WAITING if not same and _none(record) and not ask.alone:
            return _next_generation(record, ask, now, same)
        case State.WAITING | State.ACCEPTED | State.PARTIAL:
            return _resume(record, ask, now, same)
        case State.IN_DOUBT:
            if same and ask.settle and now < record.not_before:
                return record, Later(record, record.not_before)
            late = ask.alone and bool(record.deadline) and now >= record.deadline
            if same and now < record.repeat_until and not late:
                return _resume(replace(record, not_before=0.0), ask, now, same)
            if same and ask.settle:
                looking = replace(record, not_before=now + ask.lease)  # nobody else looks meanwhile
                return looking, Granted(looking, resumed=True)
            return record, (Doubtful(record) if same else Mismatch(record))
        case State.SUCCEEDED:
            return record, (Recorded(record) if same else Mismatch(record))
        case State.REJECTED | State.FAILED if record.replays is Replays.DEFINITE:
            return record, (Recorded(record) if same else Mismatch(record))
        case _ if _none(record) and not ask.alone:
            return _next_generation(record, ask, now, same)
        case _:
            return record, (Recorded(record) if same else Mismatch(record))


def change(record: Record | None, fence: int, wish: Change, now: float) -> tuple[Record | None, ChangeResult]:
    """Decide a holder's change: from held to anything, or from its own doubt to a definite end, to another
    look for evidence, or, where evidence says that nothing took effect, to a new generation that waits. Where a
    definite answer says so, its holder may begin a new generation itself.

    Going (back) to `sending` needs a living lease: no byte leaves after its end. It also needs that the
    sending before, if its effect is unknown, may be repeated. An end whose effect is unknown is a doubt.
    """
    if record is None or record.fence != fence:
        return record, Outdated(record)
    unknown = wish.effect is Effect.UNKNOWN or (record.doubted and wish.effect is Effect.NONE and not wish.settles)
    settles = _doubtful(record) and wish.state in TERMINAL and not unknown
    cleared = record.state is State.IN_DOUBT and wish.state is State.WAITING
    amended = wish.anew and record.state in HELD and wish.state is State.CLAIMED
    anew = (cleared or amended) and not unknown and not record.some
    again = record.state is State.IN_DOUBT and wish.state is State.IN_DOUBT
    if (record.state not in HELD and not (settles or anew or again)) or (wish.anew and not anew):
        return record, Outdated(record)
    sending = wish.state is State.SENDING
    if sending and (record.lease_until <= now or (unknown and now >= record.repeat_until)):
        return record, Outdated(record)
    kept = replace(
        record,
        state=wish.state,
        outcome=wish.outcome,
        effect=Effect.UNKNOWN if sending or unknown else wish.effect,
        doubted=unknown,
        some=record.some or wish.effect is Effect.SOME,
        not_before=wish.not_before,
        lease_until=_lease_after(record, wish, now),
        deadline=record.deadline if wish.deadline is None else wish.deadline,
        attempt=record.attempt + sending,
        first_sent=0.0 if anew else (record.first_sent or now) if sending else record.first_sent,
        generation=record.generation + anew,
        doubt_since=now if wish.state is State.IN_DOUBT and not again else record.doubt_since,
        credentials=wish.credentials or record.credentials,
    )
    if unknown and wish.state in TERMINAL:
        kept = _doubt(kept, now, now + LEASE)  # its holder looks for evidence itself, unless it dies
    if kept.state not in TERMINAL and not kept.lease_until:
        kept = replace(kept, callback=_let_go(record))
    kept = _bounded(kept, now)
    return kept, Kept(kept)


def renew(record: Record | None, fence: int, lease: float, now: float) -> tuple[Record | None, ChangeResult]:
    """Decide a renewal. A lapsed lease that nobody took over may be renewed by its holder."""
    if record is None or record.fence != fence or record.state not in HELD:
        return record, Outdated(record)
    kept = replace(record, lease_until=now + lease)
    return kept, Kept(kept)


def lapse(record: Record, now: float) -> Record:
    """Return what time alone makes of the record: a silent holder's call waits again or is in doubt.

    So does a wait whose deadline, or whose time for safe repeats, is over. The fence stays: a late
    definite answer of the silent holder still counts while nobody else acts.
    """
    if record.state in (State.CLAIMED, State.SENDING) and record.lease_until <= now:
        record = replace(record, state=State.WAITING, not_before=now, lease_until=0.0, callback=_let_go(record))
    if record.state is not State.WAITING:
        return record
    ended = bool(record.deadline) and now >= record.deadline
    if _unknown(record):
        return _doubt(record, now, now) if ended or now >= record.repeat_until else record
    if ended and _none(record):
        return replace(record, state=State.EXHAUSTED, not_before=0.0)
    return record


def resolve(record: Record | None, applied: bool, now: float) -> tuple[Record | None, ChangeResult]:
    """Decide what a person (or other evidence) says of a doubt: applied, or free to be sent anew.

    Of a batch that took effect in part only the unfinished items are free.
    """
    record = lapse(record, now) if record else None
    if record is None or record.state is not State.IN_DOUBT:
        return record, Outdated(record)
    if applied:
        state, outcome, effect = State.SUCCEEDED, Outcome.SUCCESS, Effect.ALL
    elif record.some:
        state, outcome, effect = State.PARTIAL, Outcome.PARTIAL, Effect.SOME
    else:
        state, outcome, effect = State.NEW, None, Effect.NONE
    kept = replace(
        record, state=state, outcome=outcome, effect=effect, doubted=False, not_before=0.0, fence=record.fence + 1
    )
    return kept, Kept(kept)


def cancel(record: Record | None, now: float) -> tuple[Record | None, ChangeResult]:
    """Decide a cancellation: only what waits, or is free, can be given up; a doubt stays a doubt."""
    record = lapse(record, now) if record else None
    if record is None or record.state not in (State.WAITING, State.NEW):
        return record, Outdated(record)
    kept = replace(record, state=State.CANCELLED, not_before=0.0, fence=record.fence + 1)
    if _unknown(record):
        # A person gave it up: repeats stop.
        kept = _bounded(replace(_doubt(kept, now, 0.0), window=0.0), now)
    return kept, Kept(kept)


def hasten(record: Record | None, now: float) -> tuple[Record | None, ChangeResult]:
    """Decide *retry now*: a waiting call is due at once, and so is the next look at a doubt (of a batch nobody can
    look for items); an exhausted call without effect waits again.
    """
    record = lapse(record, now) if record else None
    match record:
        case (
            Record(state=State.WAITING | State.ACCEPTED | State.PARTIAL) | Record(state=State.IN_DOUBT, some=False)
        ):
            kept = replace(record, not_before=now)
        case Record(state=State.EXHAUSTED, effect=Effect.NONE):
            gone = Credentials.CALLER if record.credentials is Credentials.KEPT else record.credentials
            kept = replace(record, state=State.WAITING, not_before=now, deadline=0.0, credentials=gone)
        case _:
            return record, Outdated(record)
    return kept, Kept(kept)


def noted(outcome: Outcome) -> Record:
    """Return the record of a safe call kept in a workflow's history: no rule moves it."""
    match outcome:
        case Outcome.SUCCESS | Outcome.PARTIAL:
            state = State.SUCCEEDED
        case Outcome.VALIDATION:
            state = State.REJECTED
        case Outcome.REFUSED:
            state = State.FAILED
        case _:
            state = State.EXHAUSTED
    return Record(state, fingerprint="", outcome=outcome)


# Parts of the rules


def _none(record: Record) -> bool:
    return record.effect is Effect.NONE


def _unknown(record: Record) -> bool:
    return record.effect is Effect.UNKNOWN


def _mine(record: Record, ask: Ask) -> bool:
    return bool(ask.owner) and record.owner == ask.owner


def _bounded(record: Record, now: float) -> Record:
    """Bound how long credentials are kept: until the deadline, and not with a doubt nobody looks into."""
    if record.credentials is not Credentials.KEPT:
        return record
    if record.state is State.IN_DOUBT and not record.not_before:
        return replace(record, credentials=Credentials.CALLER)
    return replace(record, deadline=record.deadline or now + LONGEST_KEPT)


def _let_go(record: Record) -> Callback:
    """Nobody acts on it any more, and it has not ended: whoever called it was told so, or heard nothing."""
    return Callback.OWED if record.callback is Callback.WANTED else record.callback


def _doubtful(record: Record) -> bool:
    """Nobody acts on it, and what was sent may have taken effect: its last holder may still know."""
    return record.state in (State.WAITING, State.IN_DOUBT) and _unknown(record)


def _lease_after(record: Record, wish: Change, now: float) -> float:
    if wish.state not in HELD:
        return 0.0
    if wish.keep:
        return now + wish.keep
    return record.lease_until if wish.state in (State.CLAIMED, State.SENDING) else 0.0


def _fresh(ask: Ask, fence: int, generation: int) -> Record:
    return Record(
        State.CLAIMED,
        ask.fingerprint,
        fence=fence,
        generation=generation,
        deadline=ask.deadline,
        window=ask.window,
        replays=ask.replays,
        credentials=ask.credentials,
        callback=ask.callback,
    )


def _grant(record: Record, ask: Ask, now: float, resumed: bool) -> tuple[Record, ClaimResult]:
    held = replace(
        record,
        state=State.SENDING if ask.send else State.CLAIMED,
        effect=Effect.UNKNOWN if ask.send else record.effect,
        doubted=_unknown(record),
        lease_until=now + ask.lease,
        attempt=record.attempt + ask.send,
        first_sent=(record.first_sent or now) if ask.send else record.first_sent,
        not_before=0.0,
        outcome=None,
        owner=ask.owner,
    )
    return held, Granted(held, resumed)


def _next_generation(record: Record, ask: Ask, now: float, same: bool) -> tuple[Record, ClaimResult]:
    """Nothing took effect: start anew, with the claimant's request. Unsent requests keep their generation."""
    unsent = same and not record.first_sent
    generation = record.generation if unsent else record.generation + 1
    return _grant(_fresh(ask, record.fence + 1, generation), ask, now, resumed=False)


def _resume(record: Record, ask: Ask, now: float, same: bool) -> tuple[Record, ClaimResult]:
    """Go on with the generation and its stored request, in its time."""
    if not same:
        return record, Mismatch(record)
    if now < record.not_before and not ask.early:
        return record, Later(record, record.not_before)
    promised = record.callback is Callback.OWED or ask.callback is Callback.NONE
    record = replace(record, fence=record.fence + 1, callback=record.callback if promised else ask.callback)
    if record.state in (State.ACCEPTED, State.PARTIAL):
        held = replace(record, lease_until=now + ask.lease, not_before=0.0, owner=ask.owner)
        return held, Granted(held, resumed=True)
    return _grant(record, ask, now, resumed=True)


def _doubt(record: Record, now: float, look: float) -> Record:
    """`look`: when somebody shall look for evidence; 0: never."""
    return replace(
        record,
        state=State.IN_DOUBT,
        outcome=Outcome.IN_DOUBT,
        effect=Effect.UNKNOWN,
        lease_until=0.0,
        not_before=look,
        doubt_since=now,
    )


# Which occurrence of an unnamed step


MARKERS = 32
"""SDK markers remembered for one unnamed step of a run: SDKs repeat within seconds, so a few are enough."""


@dataclass(frozen=True, slots=True)
class Count:
    """How often an unnamed step was met in a run, and the markers its latest calls carried, newest last."""

    occurrence: int = 1
    delivered: bool = False
    markers: tuple[tuple[str, int], ...] = ()


def occur(count: Count | None, marker: str) -> tuple[Count, int]:
    """Decide which occurrence a call is: the SDK's own repeats stay what they were; others advance
    once a definite reply to the one before was delivered.
    """
    if count is None:
        count = Count()
    elif marker and (met := dict(count.markers).get(marker)):
        return count, met
    elif count.delivered:
        count = replace(count, occurrence=count.occurrence + 1, delivered=False)
    if marker:
        count = replace(count, markers=(*count.markers, (marker, count.occurrence))[-MARKERS:])
    return count, count.occurrence


def deliver(count: Count | None, occurrence: int) -> Count | None:
    """Return the count after a definite reply to `occurrence` was delivered."""
    if count is None or count.occurrence != occurrence:
        return count
    return replace(count, delivered=True)


# Names


SHARDS = 256
"""Redis hash tags `{s0}` .. `{s255}`: few enough to sweep, many enough to spread over a cluster's nodes."""


KEY_ONLY = "idempotency-key"
"""`StepKey.type` of a step that is only an Idempotency-Key: it belongs to no workflow."""


def call_id(step: StepKey) -> str:
    """Return the call's id: two hex digits of shard, then a digest of the step. Same step, same id.

    A step without a workflow lies in a shard of its own digest's, so that keys spread.
    """
    parts = [part.encode() for part in (step.type, step.id, step.step)]
    framed = b"".join([len(part).to_bytes(4, "big") + part for part in parts])
    digest = blake2b(framed, digest_size=12)
    alone = step.type == KEY_ONLY
    shard = digest.digest()[0] if alone else shard_of(step.type, step.id)
    return f"{shard:02x}{digest.hexdigest()}"


def shard_of(type: str, id: str) -> int:
    """Return the shard of a workflow instance: all its records live in one Redis Cluster slot."""
    return blake2b(f"{type}\n{id}".encode(), digest_size=1).digest()[0]


def upstream_key(call: str, generation: int, item: str = "") -> str:
    """Return the idempotency key sent upstream: derived, so it survives a crash; never the caller's own.

    It has the form of a UUID (version 8, RFC 9562 5.8), which every vendor's length and alphabet admits.
    """
    raw = bytearray(blake2b(f"{call}\n{generation}\n{item}".encode(), digest_size=16).digest())
    raw[6] = raw[6] & 0x0F | 0x80
    raw[8] = raw[8] & 0x3F | 0x80
    text = raw.hex()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"

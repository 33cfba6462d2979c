"""One call through the gateway, whichever door it came in by: identity, rules, life, reply.

A door (`gateway.asgi`, `gateway.transport`) turns its kind of request into an `Arrival` and a `Reply` back
into its kind of answer; everything between is here and below.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from urllib.parse import urlsplit

from discovery.constant import constant
from discovery.exchange import Headers, Request
from gateway import identity
from gateway.browsers import TELLING, refusal
from gateway.forward import find_upstream
from gateway.identity import Claimant, Malformed
from gateway.ports import About, Adapting, Clock, Ledger, Mending, Pending
from gateway.problems import LedgerUnavailable
from gateway.runner import Observe, Runner
from gateway.streamed import Streamed, StreamingUpstream
from policies.actions import Call
from policies.answers import deferred
from policies.claims import KEY_ONLY, Callback, StepKey, shard_of
from policies.lifecycle import life_of
from policies.outcome import Outcome
from policies.reply import Problem, Reply
from policies.rules import Rules, UpstreamRules, rules_for

UNHELD = 0.02
"""Seconds between looks whether a step is held yet: a round trip to the store is shorter."""


@dataclass(frozen=True, slots=True)
class Known:
    """A named upstream: what is configured of it, and the way to it."""

    rules: UpstreamRules
    wire: StreamingUpstream


@constant
class Arrival:
    """A request as a door received it. `target` is relative to the upstream; header names are lower case."""

    upstream: str
    method: str
    target: bytes
    headers: Headers
    caller: str = ""


@constant
class Identified:
    """An arrival whose headers have been read. `step` says that its body has to be whole and bounded."""

    known: Known
    arrival: Arrival
    claimant: Claimant
    rules: Rules
    headers: Headers  # as they go on

    @property
    def step(self) -> bool:
        return self.rules.replay and (self.claimant.workflow is not None or bool(self.claimant.key))


@constant
class Passed:
    """What came of an arrival. `delivered` is to be awaited once the reply is with its caller."""

    call: str
    reply: Reply
    stream: Streamed | None = None  # the rest of an answer too large, or too long, to keep
    counted: tuple[str, str, str, str, int] | None = None  # an unnamed step's occurrence


class Gate:
    """All named upstreams behind one runner. `default_workflow` identifies callers that bring no identity.

    `calls_back` tells whether a workflow type has a callback; None: none has. `hosts` are names by which browsers
    may call, beside loopback's and addresses.
    """

    def __init__(
        self,
        upstreams: Mapping[str, Known],
        ledger: Ledger,
        clock: Clock,
        *,
        default_workflow: tuple[str, str] | None = None,
        keys_kept: float = 30 * 86400.0,
        observe: Observe | None = None,
        keeps_credentials: bool = True,
        calls_back: Callable[[str], bool] | None = None,
        adapter: Adapting | None = None,
        hosts: Collection[str] = (),
        mender: Mending | None = None,
    ) -> None:
        self.upstreams = upstreams
        self.runner = Runner(ledger, clock, observe, adapter, mender)
        self._default = default_workflow
        self._run = os.urandom(6).hex()
        self._keys_kept = keys_kept
        self._keeps = keeps_credentials
        self._calls_back = calls_back
        self._hosts = hosts
        self._lives = 0
        self._plain: dict[tuple[str, str], Rules] = {}  # of upstreams where the path makes no difference

    def identify(self, arrival: Arrival) -> Identified | Problem:
        """Read the control headers. The answer to what cannot go on is a problem."""
        known = self.upstreams.get(arrival.upstream)
        if known is None:
            return unknown_upstream(arrival.upstream, self.upstreams)
        if not TELLING.isdisjoint([name for name, _ in arrival.headers]):
            foreign = refusal(arrival.method, arrival.headers, self._hosts)
            if foreign is not None:
                return foreign
        if known.rules.headers and _climbs(arrival.target) and urlsplit(known.rules.base_url).path:
            return refused_target("Its dot segments lead out of the base_url that its injected headers are for.")
        try:
            claimant = identity.read_claimant(arrival.headers, self._default, self._run)
        except Malformed as error:
            return Problem("bad-request", 400, "A control header cannot be read", f"{error}.")
        path = arrival.target.partition(b"?")[0].decode("latin-1")
        rules = self._rules_for(known.rules, arrival.method, path)
        identified = Identified(
            known, arrival, claimant, rules, identity.forwarded(arrival.headers, claimant.prefer)
        )
        if known.rules.require_key and not rules.safe and not identified.step:
            return identity.key_required(arrival.upstream)
        return identified

    async def perform(self, who: Identified, body: bytes, rest: AsyncIterator[bytes] | None = None) -> Passed:
        """Live the call. Never raises for what happens to it; a store that is away is a problem as well.

        `rest` takes the place of a body that is too large to keep; such a call is sent once.
        """
        call = None
        try:
            call, about, counted = await self._call(who, body)
            rules = who.rules if rest is None else replace(who.rules, attempts=1, idempotent=False)
            mender = self.runner.mender
            if mender is not None and call.workflow is not None and rest is None and mender.teaches(call.upstream):
                call = replace(call, prepared=await mender.prepare(call, rules))
            if call.respond_async and call.step is not None:
                reply = await self._soon(call, rules, who.known.wire, about)
                return Passed(call.id, reply, None, counted)
            reply, stream = await self.runner.perform(
                life_of(call, rules), call, rules, who.known.wire, about, rest
            )
        except LedgerUnavailable as error:
            away = Reply(ledger_unavailable(error), Outcome.TRANSIENT, retry_after=1.0)
            return Passed(call.id if call else new_id(), away)
        return Passed(call.id, reply, stream, counted)

    async def _soon(self, call: Call, rules: Rules, wire: StreamingUpstream, about: About) -> Reply:
        """Return the reply if it comes within the caller's patience, else a promise; the call goes on.

        The promise is made once somebody holds the step: from then on it has a record that outlives us.
        """
        life = asyncio.create_task(self.runner.perform(life_of(call, rules), call, rules, wire, about))
        await asyncio.wait({life}, timeout=call.patience)
        while not life.done() and not self.runner.holds(call.id):
            await asyncio.wait({life}, timeout=UNHELD)
        if life.done():
            return life.result()[0]
        self.runner.adopt(life)
        return deferred(call, 1, 1.0, "it is under way", Outcome.TRANSIENT)

    async def go_on(self, call: str, pending: Pending) -> Reply | None:
        """Go on with a call whose time has come, without its caller. None: its upstream is not known here.

        Raises `LedgerUnavailable`.
        """
        about, record = pending.about, pending.record
        known = self.upstreams.get(about.upstream)
        if known is None:
            return None
        frozen = about.request
        rules = self._rules_for(known.rules, frozen.method, frozen.path.decode("latin-1"))
        alone = Call(
            call,
            about.upstream,
            replace(frozen, headers=frozen.headers + pending.credentials),
            frozen,
            record.fingerprint,
            patience=0.0,
            step=about.step,
            replays=record.replays,
            identified=True,
            workflow=None if about.step.type == KEY_ONLY else (about.step.type, about.step.id),
            attended=False,
            owner=self._owner(),
            callback=Callback.OWED if self._has_callback(about.step) else Callback.NONE,
        )
        return (await self.runner.perform(life_of(alone, rules), alone, rules, known.wire, about))[0]

    def _has_callback(self, step: StepKey | None) -> bool:
        return self._calls_back is not None and step is not None and self._calls_back(step.type)

    def _owner(self) -> str:
        """Return a name for one life: nobody else has it, so that a claim can be recognised as our own."""
        self._lives += 1
        return f"{self._run}{self._lives:x}"

    def by_host(self, method: str, target: bytes, headers: Headers, caller: str) -> Arrival | Problem:
        """Return whom an absolute target (a forward proxy's) is for: the upstream whose base URL it lies under."""
        if target == b"*":
            return Problem("bad-request", 400, "The request cannot be read", "Only OPTIONS may be asked of *.")
        if method == "CONNECT":
            return refused_target("A tunnel would hide the calls: give clients this gateway's base URL instead.")
        bases = ((name, known.rules.base_url) for name, known in self.upstreams.items())
        found = find_upstream(target, bases)
        if found is None:
            return refused_target("Configure one whose base_url this address lies under.")
        name, below = found
        return Arrival(name, method, below, headers, caller)

    async def delivered(self, passed: Passed) -> None:
        """The reply is with its caller: an unnamed step's next occurrence may begin.

        The store is told in the same turn of the loop, so that it hears of it before the caller's next call.
        """
        if passed.counted is None or isinstance(passed.reply.answer, Problem):
            return
        with contextlib.suppress(LedgerUnavailable):  # the next one is told this reply: nothing is sent twice
            await self.runner.ledger.delivered(*passed.counted)

    def overrule(self, upstream: str, rules: UpstreamRules) -> None:
        """Hold to other rules for a named upstream, from the next call on."""
        self.upstreams = {**self.upstreams, upstream: Known(rules, self.upstreams[upstream].wire)}
        self._plain.clear()

    def _rules_for(self, upstream: UpstreamRules, method: str, path: str) -> Rules:
        if upstream.operations:
            return rules_for(upstream, method, path)
        key = (upstream.name, method)
        rules = self._plain.get(key)
        if rules is None:
            rules = self._plain[key] = rules_for(upstream, method, path)
        return rules

    async def _call(
        self, who: Identified, body: bytes
    ) -> tuple[Call, About, tuple[str, str, str, str, int] | None]:
        arrival, claimant, rules = who.arrival, who.claimant, who.rules
        request = Request(arrival.method, arrival.target, who.headers, body)
        counted = None
        digest = ""
        step = identity.step_of(claimant, arrival.upstream, arrival.caller, request, rules)
        if step is not None or (claimant.workflow is not None and rules.replay):
            digest = identity.fingerprint(arrival.upstream, request, who.known.rules.meaningful_headers)
        told = step
        if step is None and digest:
            assert claimant.workflow is not None
            occurrence = 1
            if claimant.run:
                where = (*claimant.workflow, claimant.run, digest)
                occurrence = await self.runner.ledger.occurrence(*where, claimant.marker)
                counted = (*where, occurrence)
            step = identity.unnamed(claimant.workflow, request, digest, occurrence)
            told = identity.shown(step)
        fresh = "" if step is not None else new_id(claimant.workflow)
        owner = self._owner() if step is not None else ""
        call = identity.call_of(
            claimant,
            arrival.upstream,
            request,
            rules,
            step,
            digest,
            fresh,
            keeps=self._keeps,
            owner=owner,
            calls_back=self._has_callback(step),
        )
        about = About(
            step=told or identity.history_step(claimant, request),
            upstream=arrival.upstream,
            operation=identity.operation_of(request.method, request.path),
            request=call.frozen,
            kept=self._keys_kept if step is not None and step.type == KEY_ONLY else None,
            trace=claimant.trace,
            caller=arrival.caller,
        )
        return call, about, counted


def new_id(workflow: tuple[str, str] | None = None) -> str:
    """Return the id of a call that is no step: random, in its workflow's shard where it has one."""
    shard = shard_of(*workflow) if workflow else os.urandom(1)[0]
    return f"{shard:02x}{os.urandom(12).hex()}"


def _climbs(target: bytes) -> bool:
    """Do the path's dot segments (RFC 3986 5.2.4) lead above where it begins? They would leave the base URL."""
    if b".." not in target and b"%2e" not in target.lower():
        return False
    depth = 0
    for segment in target.partition(b"?")[0].split(b"/")[1:]:
        match segment.lower().replace(b"%2e", b"."):
            case b"..":
                depth -= 1
            case b"." | b"":
                pass
            case _:
                depth += 1
        if depth < 0:
            return True
    return False


def refused_target(why: str) -> Problem:
    return Problem(
        "refused-target",
        403,
        "No upstream is configured there",
        f"Calls go only to named upstreams. {why}",
    )


def unknown_upstream(name: str, known: Mapping[str, Known]) -> Problem:
    listed = ", ".join(sorted(known)) or "none is configured"
    return Problem(
        "unknown-upstream",
        404,
        "No upstream has that name",
        f"The first segment of the path names the upstream; {name!r} is none. Known: {listed}.",
        {"upstreams": [*sorted(known)]},
    )


def ledger_unavailable(error: LedgerUnavailable) -> Problem:
    return Problem(
        "ledger-unavailable",
        503,
        "The ledger is away",
        f"{error}. Nothing was sent that is not recorded; repeat the call.",
    )

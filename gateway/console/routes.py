"""Addresses under `/-/`: each names facts, told as JSON (`….json`, or by `Accept`) or shown as a page of them.

`Console.answer()` knows no HTTP server. Health, readiness and the explanations of problems are public, a call
can be watched with its own capability; all else wants the admin token.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from dataclasses import dataclass, replace
from typing import Protocol, TypeVar
from urllib.parse import quote, unquote

from discovery.exchange import Json
from gateway import tokens
from gateway.console import pages
from gateway.console.admission import SECURITY, Admission, Admitted
from gateway.console.facts import part_of, upstream_view
from gateway.console.messages import (
    PLAIN,
    ConsoleAnswer,
    ConsoleRequest,
    Stop,
    answer,
    bad_request,
    json_answer,
    not_found,
    problem_answer,
    redirect,
)
from gateway.console.paging import CALL, LIMIT, MOST, after, before, longer, number
from gateway.console.patterns import one_of_everything
from gateway.console.settling import ACTS, act, end
from gateway.console.watching import NO_SCRIPT, watch
from gateway.lookups import LookupTold
from gateway.pinboard import Deed
from gateway.ports import Clock, Entry, Ledger
from gateway.prefer import prefer_of
from gateway.problem_types import PROBLEM_TYPES, ProblemType
from gateway.problems import LedgerUnavailable
from gateway.views import Facts, call_summary, call_view, workflow_summary, workflow_view
from policies.claims import State, lapse
from policies.reply import Problem
from policies.rules import UpstreamRules

T = TypeVar("T")

ATTENTION = (State.IN_DOUBT, State.WAITING, State.EXHAUSTED)
"""States a person may have to do something about, the most urgent first."""

LARGE = 256 * 1024
"""Bytes of bodies above which a call is read and drawn in a thread, so that calls under way are not held up."""


class Contracts(Protocol):
    """What is known of upstreams' shapes. None: nothing is known yet (of that revision)."""

    async def openapi(self, upstream: str, revision: int | None) -> Facts | None: ...

    async def operations(self, upstream: str) -> list[Json] | None: ...

    async def operation(self, upstream: str, method: str, path: str) -> Facts | None: ...

    async def drift(self, upstream: str) -> Facts | None: ...


@dataclass(frozen=True, slots=True)
class View:
    """Facts, and the page that shows them. `large` ones are drawn off the event loop."""

    page: str
    facts: Facts
    large: bool = False


class Pins(Protocol):
    """What workflows keep of upstreams, and a person's word on it."""

    async def told(self, upstream: str) -> list[Json]: ...

    async def decide(self, upstream: str, operation: str, deed: Deed, type: str | None = None) -> None: ...


class Console:
    """What answers under `/-/`.

    `hosts` are names it answers to beside loopback's and addresses. `token_at` says where the admin token is
    kept. `kept` is seconds the records of an ended workflow stay. `trouble` is a reason not to be ready that
    the ledger does not tell by itself, or nothing.
    """

    def __init__(
        self,
        ledger: Ledger,
        upstreams: Mapping[str, UpstreamRules],
        clock: Clock,
        *,
        admin: str,
        signing: bytes,
        signed_before: Collection[bytes] = (),
        hosts: Collection[str] = (),
        token_at: str = "the file admin-token of the data directory",  # noqa: S107  says where, not what
        kept: float = 7 * 86400.0,
        metrics: Callable[[], str] = lambda: "",
        trouble: Callable[[], str] = lambda: "",
        contracts: Contracts | None = None,
        lookups: Callable[[str], Awaitable[list[LookupTold]]] | None = None,
        pins: Pins | None = None,
    ) -> None:
        self._ledger = ledger
        self._upstreams = upstreams
        self._clock = clock
        self._admission = Admission(admin, hosts, token_at)
        self._signing = (signing, *signed_before)
        self._kept = kept
        self._metrics = metrics
        self._trouble = trouble
        self._contracts = contracts
        self._lookups = lookups
        self._pins = pins

    async def answer(self, request: ConsoleRequest) -> ConsoleAnswer:
        """Return the answer. What goes wrong is a problem, as a page where HTML is accepted."""
        try:
            parts, as_json = _parts(request)
            said = await self._route(request, parts, as_json)
        except Stop as stop:
            return self._problem(request, stop.problem).with_headers(*stop.headers)
        except LedgerUnavailable as error:
            return self._problem(request, _away(str(error))).with_headers((b"retry-after", b"1"))
        return said

    async def _route(self, request: ConsoleRequest, parts: list[str], as_json: bool) -> ConsoleAnswer:
        match request.method, parts:
            case "GET" | "HEAD", [] if request.path == b"/-":  # where the session's cookie is not sent
                return _secured(redirect("/-/"))
            case "GET" | "HEAD", ["health"]:
                return _secured(json_answer({"status": "ok"}))
            case "GET" | "HEAD", ["ready"]:
                return _secured(await self._ready())
            case "GET" | "HEAD", ["static", name]:
                return _static(name)
            case "GET" | "HEAD", ["problems"]:
                kinds: list[Json] = [_kind(kind) for kind in PROBLEM_TYPES.values()]
                return self._show(request, View("problems", {"problems": kinds}), as_json)
            case "GET" | "HEAD", ["problems", slug]:
                return self._show(request, View("problem", _kind(_known(PROBLEM_TYPES, slug, "problem"))), as_json)
            case "GET" | "HEAD", ["calls", call] if (token := request.said("token")) and any(
                tokens.opens(key, call, token) for key in self._signing
            ):
                watched = await watch(self._ledger, self._clock, call, prefer_of(request.headers))
                return watched.with_headers(*NO_SCRIPT)
            case "GET" | "HEAD", ["login"]:
                return self._sign_in(request, request.said("token"))
            case "POST", ["login"]:
                return self._sign_in(request, request.form("token"))
        who = self._admission.admit(request, self._clock.now())
        match request.method:
            case "GET" | "HEAD":
                return await self._look(request, parts, as_json, who)
            case "POST":
                return await self._do(request, parts, who)
        raise Stop(bad_request("Only GET, HEAD and POST mean anything here.", 405), (b"allow", b"GET, HEAD, POST"))

    # Looking

    async def _look(
        self, request: ConsoleRequest, parts: list[str], as_json: bool, who: Admitted
    ) -> ConsoleAnswer:
        match parts:
            case ["metrics"]:
                media = b"text/plain; version=0.0.4; charset=utf-8"
                return _secured(answer(200, media, self._metrics().encode()))
            case ["calls", call, ("request" | "response" | "sent" | "original") as side]:
                return await self._body(call, side)
            case ["upstreams", name, ("openapi" | "drift") as what]:
                return _secured(json_answer(await self._contract(request, name, what)))
            case ["calls", _, deed] if deed in ACTS:
                raise _post_only()
            case ["workflows", _, _, "end"] | ["logout"]:
                raise _post_only()
        view = await self._view(request, parts)
        if view.large and not as_json:
            return await asyncio.to_thread(self._show, request, view, as_json, who)
        return self._show(request, view, as_json, who)

    async def _view(self, request: ConsoleRequest, parts: list[str]) -> View:
        match parts:
            case [] | ["index"]:
                return await self._overview()
            case ["calls"]:
                return await self._calls(request)
            case ["calls", call]:
                entry = await self._entry(call)
                large = len(entry.about.request.body) + len(entry.reply.body if entry.reply else b"") > LARGE
                facts = await asyncio.to_thread(call_view, entry) if large else call_view(entry)
                facts["lookup"] = await self._proposed(entry) if entry.record.state is State.IN_DOUBT else None
                return View("call", facts, large)
            case ["workflows"]:
                limit = number(request, "limit", LIMIT, MOST)
                found = await self._ledger.workflows(limit + 1)
                listed: list[Json] = [workflow_summary(workflow) for workflow in found[:limit]]
                return View("workflows", {"workflows": listed, "next": longer(found, limit)})
            case ["workflows", type, id]:
                return await self._workflow(request, type, id)
            case ["upstreams"]:
                return View("upstreams", {"upstreams": self._upstream_views()})
            case ["upstreams", name]:
                return await self._upstream(name)
            case ["upstreams", name, "operation"]:
                return await self._operation(name, request.said("of"))
            case ["patterns"]:
                return View("patterns", one_of_everything(self._clock.now()))
        raise Stop(not_found(f"No page has the address {'/'.join(['', '-', *parts])!r}."))

    async def _overview(self) -> View:
        # One after the other: each of these asks every shard, and calls under way share the store's connections.
        attention: dict[str, Json] = {}
        for state in ATTENTION:
            attention[state.value] = [call_summary(entry) for entry in await self._ledger.calls(state, 20)]
        recent: list[Json] = [workflow_summary(workflow) for workflow in await self._ledger.workflows(12)]
        facts: Facts = {"attention": attention, "workflows": recent, "upstreams": self._upstream_views()}
        return View("overview", facts)

    async def _calls(self, request: ConsoleRequest) -> View:
        said = request.said("state")
        if said and said not in set(State):
            raise Stop(bad_request(f"{said[:40]!r} is no state of a call; one of: {', '.join(State)}."))
        limit = number(request, "limit", LIMIT, MOST)
        found = await self._ledger.calls(State(said) if said else None, limit + 1, before(request))
        calls: list[Json] = [call_summary(entry) for entry in found[:limit]]
        more = after(found[:limit], limit, said) if len(found) > limit else None
        return View("calls", {"state": said or None, "calls": calls, "next": more})

    async def _workflow(self, request: ConsoleRequest, type: str, id: str) -> View:
        found = await self._ledger.workflow(type, id)
        if found is None:
            raise Stop(not_found(f"There is no workflow {id!r} of type {type!r}."))
        workflow, entries = found
        start = number(request, "from", 0, 10**9)
        limit = number(request, "limit", MOST, MOST)
        entries = sorted(entries, key=lambda entry: entry.created)
        part, rest = part_of(entries, start, limit)
        facts = workflow_view(workflow, [self._now(entry) for entry in part])
        more = None if rest is None else f"?from={rest}&limit={limit}"
        return View("workflow", {**facts, "from": start, "total": len(entries), "next": more})

    async def _entry(self, call: str) -> Entry:
        entry = await self._ledger.entry(call) if CALL.fullmatch(call) else None
        if entry is None:
            raise Stop(not_found(f"There is no call {call!r}; its record may have expired."))
        return self._now(entry)

    def _now(self, entry: Entry) -> Entry:
        """Return the entry with what time alone made of it: a dead holder's call is not shown as being sent."""
        return replace(entry, record=lapse(entry.record, self._clock.now()))

    async def _upstream(self, name: str) -> View:
        """What is configured of an upstream, what it was seen to do, and what of that changed."""
        facts = upstream_view(_known(self._upstreams, name, "upstream"))
        known = changed = None
        if self._contracts is not None:
            known, changed = await self._contracts.operations(name), await self._contracts.drift(name)
        lookups: list[Json] = []
        if self._lookups is not None:
            lookups = [one.facts for one in await self._lookups(name)]
        pinned = await self._pins.told(name) if self._pins is not None else []
        facts = {**facts, "lookups": lookups, "pins": pinned}
        return View("upstream", {**facts, "known": known, "drift": None, "announced": None, **(changed or {})})

    async def _proposed(self, entry: Entry) -> Json:
        """Return the look-up that traffic proposes for a call and nobody accepted yet."""
        about = entry.about
        known = await self._lookups(about.upstream) if self._lookups is not None else []
        path = about.request.path.decode("latin-1")
        mine = [one for one in known if one.is_for(about.request.method, path)]
        return mine[0].facts if mine and not any(one.accepted for one in mine) else None

    async def _operation(self, name: str, operation: str) -> View:
        _known(self._upstreams, name, "upstream")
        method, _, path = operation.partition(" ")
        found = await self._contracts.operation(name, method, path) if self._contracts is not None else None
        if found is None:
            raise Stop(not_found(f"No operation {operation[:200]!r} was seen of {name}."))
        return View("operation", {"upstream": name, **found})

    def _upstream_views(self) -> list[Json]:
        return [upstream_view(rules) for _, rules in sorted(self._upstreams.items())]

    async def _body(self, call: str, side: str) -> ConsoleAnswer:
        """Return a body whole, as it may be seen: the rest of what a page cuts off."""
        shown = (await asyncio.to_thread(call_view, await self._entry(call)))[side]
        if not isinstance(shown, dict):
            raise Stop(not_found("The call has no recorded reply."))
        return _secured(answer(200, PLAIN, pages.body_text(shown["body"]).encode("utf-8", "replace")))

    async def _contract(self, request: ConsoleRequest, name: str, what: str) -> Json:
        _known(self._upstreams, name, "upstream")
        found: Json = None
        if self._contracts is not None and what == "openapi":
            revision = number(request, "revision", 0, 10**9) or None
            found = await self._contracts.openapi(name, revision)
        elif self._contracts is not None:
            changed = await self._contracts.drift(name)
            found = None if changed is None else {"upstream": name, **changed}
        if found is None:
            raise Stop(not_found(f"Nothing is known yet of the shapes of {name}."))
        return found

    async def _ready(self) -> ConsoleAnswer:
        reason = self._trouble()
        try:
            await self._ledger.entry("00" * 13)  # one look at a key that no call has: does the store answer?
        except LedgerUnavailable as error:
            reason = reason or str(error)  # who keeps the engine knows more than that nobody answers
        if reason:
            return problem_answer(_away(reason), (b"retry-after", b"1"))
        return json_answer({"status": "ready"})

    # Doing

    async def _do(self, request: ConsoleRequest, parts: list[str], who: Admitted) -> ConsoleAnswer:
        self._admission.check_form(request, who)
        match parts:
            case ["calls", call, deed] if deed in ACTS:
                await self._entry(call)
                await act(self._ledger, call, deed, request, who, self._clock.now())
                if not request.wants_html:
                    return _secured(json_answer(call_view(await self._entry(call))))
                return _secured(redirect(f"/-/calls/{quote(call, safe='')}"))
            case ["workflows", type, id, "end"]:
                await end(self._ledger, type, id, self._kept)
                if not request.wants_html:
                    return _secured(json_answer((await self._workflow(request, type, id)).facts))
                return _secured(redirect(pages.workflow_path(type, id)))
            case ["upstreams", name, "pins"]:
                await self._decide(request, name)
                if not request.wants_html:
                    return _secured(json_answer((await self._upstream(name)).facts))
                return _secured(redirect(pages.upstream_path(name)))
            case ["logout"]:
                return _secured(redirect("/-/login", self._admission.sign_out()))
        raise Stop(not_found("Nothing can be done at that address."))

    async def _decide(self, request: ConsoleRequest, name: str) -> None:
        """Take a person's word on an operation's pins, of the form's workflow type where it names one."""
        _known(self._upstreams, name, "upstream")
        operation, board = request.form("operation"), self._pins
        match request.form("deed"):
            case ("accept" | "adapt" | "hold") as deed if operation and board is not None:
                await board.decide(name, operation, deed, request.form("type") or None)
            case _:
                raise Stop(bad_request("The form must name an operation, and as deed accept, adapt or hold."))

    def _sign_in(self, request: ConsoleRequest, token: str) -> ConsoleAnswer:
        if not token:
            raise self._admission.unauthorized("It wants the admin token.")
        return _secured(redirect("/-/", self._admission.sign_in(request, token, self._clock.now())))

    # Showing

    def _show(
        self, request: ConsoleRequest, view: View, as_json: bool, who: Admitted | None = None
    ) -> ConsoleAnswer:
        if as_json:
            return _secured(json_answer(view.facts))
        page = pages.render(view.page, view.facts, pages.Around(request, who, self._clock.now()))
        return _secured(answer(200, pages.HTML, page))

    def _problem(self, request: ConsoleRequest, problem: Problem) -> ConsoleAnswer:
        if not request.wants_html or request.path.endswith(b".json"):
            return _secured(problem_answer(problem))
        facts: Facts = {
            "slug": problem.slug,
            "status": problem.status,
            "title": problem.title,
            "detail": problem.detail,
            "sign_in": problem.slug == "unauthorized" and problem.status == 401,
        }
        page = pages.render("refused", facts, pages.Around(request, None, self._clock.now()))
        return _secured(answer(problem.status, pages.HTML, page))


def _parts(request: ConsoleRequest) -> tuple[list[str], bool]:
    """Return the path's segments, decoded one by one (an id may hold slashes), and whether JSON is wanted."""
    path = request.path.removeprefix(b"/-").strip(b"/")
    as_json = request.wants_json
    if path.endswith(b".json"):
        path, as_json = path.removesuffix(b".json"), True
    try:
        parts = [unquote(part, errors="strict") for part in path.decode("ascii").split("/")] if path else []
    except UnicodeDecodeError:
        raise Stop(bad_request("The path is no percent-encoded UTF-8.")) from None
    return parts, as_json


def _known(names: Mapping[str, T], name: str, what: str) -> T:
    if name not in names:
        raise Stop(not_found(f"No {what} is called {name!r}. Known: {', '.join(names) or 'none'}."))
    return names[name]


def _kind(kind: ProblemType) -> Facts:
    return {
        "type": f"/-/problems/{kind.slug}",
        "slug": kind.slug,
        "status": kind.status,
        "title": kind.title,
        "effect": kind.effect,
        "means": kind.means,
        "cure": [*kind.cure],
    }


def _away(reason: str) -> Problem:
    detail = f"{reason.rstrip('.')}. Calls are refused meanwhile, and nothing is sent."
    return Problem("ledger-unavailable", 503, "The ledger is away", detail)


def _post_only() -> Stop:
    return Stop(bad_request("This address wants a POST.", 405), (b"allow", b"POST"))


def _static(name: str) -> ConsoleAnswer:
    found = pages.STATIC.get(name)
    if found is None:
        raise Stop(not_found("There is no such file."))
    media, content = found
    kept = (b"cache-control", b"public, max-age=31536000, immutable")  # its address holds its digest
    return answer(200, media, content, kept, *SECURITY)


def _secured(said: ConsoleAnswer) -> ConsoleAnswer:
    return said.with_headers((b"cache-control", b"no-store"), *SECURITY)

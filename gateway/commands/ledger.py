"""`gimbal workflows`, `gimbal calls`, `gimbal call ID`: the ledger, read. No server needs to run."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from gateway.commands.options import AsJson, Config, Data, Store, again, read_settings
from gateway.commands.render import put_json, put_table, say
from gateway.problems import GimbalError
from gateway.spans import ago

if TYPE_CHECKING:
    from gateway.ports import Entry, Ledger
    from gateway.settings import Settings

T = TypeVar("T")

CallId = Annotated[
    str, typer.Argument(metavar="ID", help="A call's id, as `gimbal calls` and Gimbal-Call tell it.")
]
Limit = Annotated[int, typer.Option("--limit", min=1, help="At most so many, newest first.")]


def workflows(
    limit: Limit = 100,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
    store: Store = None,
) -> None:
    """List workflows: what is done, what waits, what is in doubt."""
    from gateway.views import workflow_summary

    settings = read_settings(config, data, store)
    found = [
        workflow_summary(workflow) for workflow in with_ledger(settings, lambda ledger: ledger.workflows(limit))
    ]
    if as_json:
        for view in found:
            put_json(view)
        return
    if not found:
        say("no workflows yet: send a call with a Workflow-Id header through the gateway")
        return
    now = time.time()
    put_table(
        ["WORKFLOW", "TYPE", "STATE", "CALLS", "LAST CALL"],
        [
            [str(v["id"]), str(v["type"]), str(v["state"]), _counts(v["states"]), ago(_at(v["active"]), now)]
            for v in found
        ],
    )


def calls(
    state: Annotated[
        str | None, typer.Option("--state", metavar="STATE", help="Only those in this state, e.g. waiting.")
    ] = None,
    in_doubt: Annotated[bool, typer.Option("--in-doubt", help="Only those in doubt.")] = False,
    limit: Limit = 100,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
    store: Store = None,
) -> None:
    """List calls, newest first."""
    from gateway.views import call_summary
    from policies.claims import State

    if state is not None and state not in list(State):
        raise typer.BadParameter(f"should be one of {', '.join(State)}, not {state!r}", param_hint="--state")
    if in_doubt and state not in (None, State.IN_DOUBT):
        raise typer.BadParameter("--state and --in-doubt exclude each other", param_hint="--in-doubt")
    wanted = State.IN_DOUBT if in_doubt else State(state) if state else None
    settings = read_settings(config, data, store)
    found = [call_summary(entry) for entry in with_ledger(settings, lambda ledger: ledger.calls(wanted, limit))]
    proposals = _proposals(settings, found) if wanted is State.IN_DOUBT else {}
    for view in found:
        if view["id"] in proposals:
            view["lookup"] = {**proposals[view["id"]]}
    if as_json:
        for view in found:
            put_json(view)
        return
    if not found:
        say(f"no calls {'in state ' + wanted if wanted else 'yet'}")
        return
    now = time.time()
    put_table(
        ["CALL", "WORKFLOW", "STEP", "UPSTREAM", "REQUEST", "STATE", "EFFECT", "LAST"],
        [_row(v, now) for v in found],
    )
    for upstream, operation, get in sorted(
        {(p["upstream"], p["operation"], p["get"]) for p in proposals.values()}
    ):
        accept = again("lookups", upstream, "--accept", operation, config=config, data=data, store=store)
        say(f"{operation} of {upstream} could be settled by GET {get}, as traffic shows; to accept that: {accept}")


def call(
    call: CallId,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
    store: Store = None,
) -> None:
    """Tell one call: what was asked, each attempt, what it meant and why, and what you can do now."""
    from gateway.views import call_view

    view = call_view(with_ledger(read_settings(config, data, store), lambda ledger: entry_of(ledger, call)))
    if as_json:
        put_json(view)
        return
    from gateway.commands.story import story, tell

    tell(story(view, time.time(), lambda *words: again(*words, config=config, data=data, store=store)))


def _proposals(settings: Settings, views: list[dict[str, Any]]) -> dict[str, dict[str, str]]:
    """Return the look-up traffic proposes for each of these calls that has one not yet accepted, by its id."""
    from gateway.commands.lookups import with_lookups
    from gateway.lookups import LookupStore

    async def read(kept: LookupStore) -> dict[str, dict[str, str]]:
        found = {}
        for upstream in {view["upstream"] for view in views}:
            used = {one.form.operation for one in await kept.accepted(upstream)}
            for one in reversed(await kept.proposals(upstream)):
                form = one.form
                told = {"upstream": upstream, "operation": form.operation, "get": form.get, "found": form.found}
                for view in views:
                    mine = view["upstream"] == upstream and one.is_for(view["method"], view["path"])
                    if mine and form.operation not in used:
                        found[view["id"]] = told
        return found

    return with_lookups(settings, read) if views else {}


def with_ledger(settings: Settings, work: Callable[[Ledger], Awaitable[T]]) -> T:
    """Open the ledger the settings name, do `work` with it, and return what it returned."""
    from gateway.compose import open_ledger

    async def run() -> T:
        async with open_ledger(settings) as ledger:
            return await work(ledger)

    return asyncio.run(run())


async def entry_of(ledger: Ledger, call: str) -> Entry:
    """Return the call, or fail saying where calls are to be found."""
    entry = await ledger.entry(call) if re.fullmatch(r"[0-9a-f]{26}", call) else None
    if entry is None:
        raise GimbalError(f"there is no call {call!r} in this store: `gimbal calls` lists those there are")
    return entry


def _row(view: dict[str, Any], now: float) -> list[str]:
    workflow = view["workflow"]
    return [
        view["id"],
        workflow["id"],
        workflow["step"],
        view["upstream"],
        "unreadable: sealed with another key" if "unreadable" in view else f"{view['method']} {view['path']}",
        view["state"],
        view["effect"],
        ago(view["updated"], now),
    ]


def _counts(states: Any) -> str:
    return ", ".join(f"{count} {state}" for state, count in states.items()) or "none"


def _at(value: Any) -> float:
    return float(value)

"""Plays an API's history for real: a consumer written for one version of an API, while the next one is served.

    python tests/hostile/history.py SCORER CORPUS OLD NEW [--seed 1]

`OLD` and `NEW` name two documents of the corpus (`api__2019-12.json.gz`); `SCORER` is a `drift.py` that makes
models of their operations, before and after each change between them. An upstream is served from these models: the
same things in the old shape, later in the new one. A consumer reads every operation that changed and asserts what
the old document promised: required members, their types, null where null was allowed. It runs against the old
version, then against the new one, directly and through a gateway (in process, on the embedded store of a new
directory). What it meets after its first ten drifted answers is the survival table:

    passes           nothing it relies on changed
    adapted          it passes, and the gateway says that it adapted the answer
    told             it fails, and the gateway said what is lacking (`degraded=n`), or asked for input, or refused
    told as drift    it fails, the answer says nothing, and `gimbal drift` tells the change
    broken           it fails, and nothing was told
    wrong            it passes on a value that the old version would not have had there: there may be none
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import sys
import tempfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx

sys.path.insert(0, str(Path(__file__).parent))

from wrong_edits import loaded

import gateway
from gateway import learner
from gateway.changes import judge
from gateway.compose import open_contracts
from gateway.settings import load

PINNED = 24
"""Calls of each operation to the old version: enough to pin its shape, and to meet each thing twice."""

DRIFTED = 24
"""Calls of each operation to the new version. What comes after the first `LEARNED` counts."""

LEARNED = 10
THINGS = 12
"""Different things (customers, invoices) an operation is asked for; five more come with the new version."""


@dataclass
class Served:
    """One operation as it is served: by its models, in the phase that is on."""

    scorer: ModuleType
    operation: Any
    number: int
    fates: dict[str, Counter[str]] = field(default_factory=lambda: {"directly": Counter(), "gateway": Counter()})
    examples: dict[str, str] = field(default_factory=dict)
    breaches: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        """A success holds no errors, though many documents have one schema for both."""
        for model in (self.operation.before, self.operation.after):
            for name in ("error", "errors"):
                model.fields.pop(name, None)

    @property
    def name(self) -> str:
        return f"{self.operation.method} {self.operation.path}"

    @property
    def drawn(self) -> bool:
        """Whether a call makes a thing of its own."""
        return self.operation.method not in ("GET", "HEAD")

    def request(self, thing: int) -> httpx.Request:
        """Return what a consumer of the old version sends about a thing."""
        path = re.sub(r"\{[^}]+\}", str(7_000_000 + 1000 * self.number + thing), self.operation.path)
        make = self.scorer.Generator(self.scorer.Dice("request"), "before")
        query = {"thing": str(thing)} if "{" not in self.operation.path else {}
        body = make.value(self.operation.body, str(thing)) if self.operation.body and self.drawn else None
        for change in self.operation.changes:
            if change.where == "request.body" and change.only_new and body is not None:
                self.scorer.drop(body, change.tokens)
        return httpx.Request(self.operation.method, f"http://api/{path.lstrip('/')}", params=query, json=body)

    def answer(self, request: httpx.Request, thing: int, *, new: bool) -> httpx.Response:
        operation = self.operation
        for change in operation.changes if new else ():
            if change.kind in ("operation-removed", "operation-moved"):
                return httpx.Response(404, json={"error": {"message": "Unrecognized request URL."}})
            if change.kind == "became-required":
                sent: Any = {key: told[0] for key, told in parse_qs(urlsplit(str(request.url)).query).items()}
                if change.where == "request.body":
                    sent = json.loads(request.content or b"null")
                if self.scorer.lacks(sent, change.tokens):
                    tokens = [token for token in change.tokens if token != "*"]
                    status, told = self.scorer.error_body(self.number % 6, change.where, tokens)
                    return httpx.Response(status, json=told)
        return httpx.Response(int(operation.status), json=self.value(thing, new=new))

    def value(self, thing: int, *, new: bool) -> Any:
        make = self.scorer.Generator(self.scorer.Dice("answers", self.number), "any")
        return make.value(self.operation.after if new else self.operation.before, str(thing))


def breaches(node: Any, value: Any, place: str = "") -> list[str]:
    """Return what of the old document's promises a value breaks."""
    if value is None:
        return [] if node.nulls else [f"{place} is null"]
    match node.type:
        case "object":
            if not isinstance(value, dict):
                return [f"{place} is no object"]
            found = []
            for name, one in node.fields.items():
                if name in value:
                    found += breaches(one.node, value[name], f"{place}/{name}")
                elif one.presence == 1:
                    found.append(f"{place}/{name} is lacking")
            return found
        case "array":
            if not isinstance(value, list):
                return [f"{place} is no list"]
            return [breach for one in value for breach in breaches(node.items, one, f"{place}/*")]
        case "map":
            return [] if isinstance(value, dict) else [f"{place} is no map"]
        case "union":
            told = [breaches(branch, value, place) for branch in node.branches]
            return min(told, key=len)
    kinds = {"integer": (int, float), "number": (int, float), "boolean": (bool,), "string": (str,)}
    fits = isinstance(value, kinds[node.type]) and (node.type == "boolean" or not isinstance(value, bool))
    return [] if fits or node.enum else [f"{place} is no {node.type}"]


def relied_on(node: Any, value: Any, place: str = "") -> dict[str, Any]:
    """Return the values a consumer reads: those of members that were always there."""
    if isinstance(value, dict) and node.type == "object":
        found = {}
        for name, one in node.fields.items():
            if one.presence == 1 and name in value:
                found |= relied_on(one.node, value[name], f"{place}/{name}")
        return found
    if isinstance(value, list) and node.type == "array":
        found = {}
        for number, one in enumerate(value):
            found |= relied_on(node.items, one, f"{place}/{number}")
        return found
    return {place: value}


class Play:
    """An upstream of several operations, and which version of it is on."""

    def __init__(self, served: list[Served]) -> None:
        self.served = served
        self.new = False
        self.asked: dict[str, tuple[Served, int]] = {}

    def expect(self, served: Served, thing: int) -> httpx.Request:
        request = served.request(thing)
        self.asked[_asked(request)] = served, thing
        return request

    def answer(self, request: httpx.Request) -> httpx.Response:
        served, thing = self.asked[_asked(request)]
        return served.answer(request, thing, new=self.new)


def _asked(request: httpx.Request) -> str:
    return f"{request.method} {request.url.path}?{request.url.query.decode()}"


def fate(served: Served, thing: int, answer: httpx.Response) -> tuple[str, str]:
    """Return what became of a consumer's call to the new version, and the first thing that broke."""
    outcome = answer.headers.get("gimbal-outcome", "")
    said = "degraded=" in outcome or (answer.status_code == 422 and "needs-input" in answer.text)
    if answer.status_code >= 300:
        loud = answer.headers.get("content-type", "").startswith("application/problem+json") or said
        return ("told" if loud else "refused"), f"status {answer.status_code}"
    value = answer.json()
    if found := breaches(served.operation.before, value):
        return ("told" if said else "fails"), found[0]
    truth = relied_on(served.operation.before, served.value(thing, new=False))
    read = relied_on(served.operation.before, value)
    raw = relied_on(served.operation.before, served.value(thing, new=True))
    for place, held in read.items():
        if place in truth and held != truth[place] and raw.get(place) != held:
            return "wrong", f"{place} is {held!r}, was {truth[place]!r}"
    return ("adapted" if "adapted=" in outcome else "passes"), ""


def broken(served: Served, answer: httpx.Response) -> int:
    """Return how many of the consumer's assertions an answer breaks, each place once; a refusal breaks one."""
    if answer.status_code >= 300:
        return 1
    return len(set(breaches(served.operation.before, answer.json())))


async def live(play: Play, data: Path) -> set[str]:
    """Run the consumer through a gateway, then directly; return the operations of which drift was told."""
    mock = httpx.MockTransport(lambda request: play.answer(request))
    transport = gateway.AsyncTransport({"api": "http://api"}, data=data, transports={"api": mock})
    async with (
        httpx.AsyncClient(transport=transport, timeout=60) as client,
        httpx.AsyncClient(transport=mock) as straight,
    ):

        async def call(served: Served, number: int, phase: str) -> tuple[int, httpx.Response]:
            thing = number % THINGS if phase == "old" else number % (THINGS + 5)
            if served.drawn and "{" not in served.operation.path:
                thing = number + (1000 if phase == "new" else 100)
            request = play.expect(served, thing)
            identity = {"Workflow-Id": f"{phase}-{number}", "Workflow-Type": "history"}
            request.headers.update(identity | {"Workflow-Step": f"{served.number}"})
            return thing, await client.send(request)

        async def before(served: Served, number: int) -> None:
            _, answer = await call(served, number, "old")
            if answer.status_code >= 300:  # its model draws answers that speak of failure
                print(f"left out: {served.name}: {answer.status_code} {answer.text[:120]}", file=sys.stderr)
                play.served.remove(served)
                return
            assert not (found := breaches(served.operation.before, answer.json())), (served.name, found)

        async def after(served: Served, number: int) -> None:
            thing, answer = await call(served, number, "new")
            if number >= LEARNED:
                plain = await straight.send(play.expect(served, thing))
                for side, told in (("gateway", answer), ("directly", plain)):
                    came, why = fate(served, thing, told)
                    served.breaches[side] += broken(served, told)
                    served.fates[side][came] += 1
                    served.examples.setdefault(f"{side} {came}", why)

        async def learned() -> None:
            """Give learning the time that it would have: hours of calls are made in seconds."""
            if transport._gateway is not None:
                await transport._gateway.adapter.learn()

        for number in range(PINNED):
            await asyncio.gather(*(before(served, number) for served in list(play.served)))
            await learned()
        play.new = True
        for number in range(DRIFTED):
            await asyncio.gather(*(after(served, number) for served in play.served))
            await learned()
    settings = load(None, {("data",): ("--data", str(data)), ("upstreams", "api", "base_url"): ("", "http://api")})
    async with open_contracts(settings) as contracts:
        changes = await judge(contracts, "api")
    return {unnamed(one.drift.operation) for one in changes.events} if changes else set()


def unnamed(operation: str) -> str:
    return re.sub(r"\{[^}]*\}", "{}", operation).rstrip("/")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scorer", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("old")
    parser.add_argument("new")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--operations", type=int, default=40, help="play the first so many")
    parser.add_argument("--only", default="", help="play those whose path this pattern is found in")
    parser.add_argument("--data", type=Path, help="a new directory for the store, to be looked at afterwards")
    options = parser.parse_args()
    scorer = loaded(options.scorer)
    events = [
        one
        for one in scorer.read_events(options.corpus)
        if (one["spec_before"], one["spec_after"]) == (options.old, options.new)
    ]
    (world,) = scorer.make_worlds(options.corpus, events, options.seed, 1, 3)
    played = [one for one in world.operations if re.search(options.only, one.path)][: options.operations]
    play = Play([Served(scorer, one, number) for number, one in enumerate(played)])
    learner.FLUSH = 0.5
    with tempfile.TemporaryDirectory(prefix="history-") as folder:
        told = asyncio.run(live(play, options.data or Path(folder)))
    totals: dict[str, Counter[str]] = {"directly": Counter(), "gateway": Counter()}
    print("| operation | what changed | without a gateway | through it | assertions that fail |")
    print("|---|---|---|---|---|")
    for served in play.served:
        cells = []
        for side, fates in served.fates.items():
            verdicts = _verdicts(fates, side, unnamed(served.name) in told)
            totals[side][next(iter(verdicts))] += 1
            why = next((w for k, w in served.examples.items() if k.startswith(side) and w), "")
            counts = ", ".join(f"{word} {count}" for word, count in verdicts.items())
            cells.append(f"{counts if len(verdicts) > 1 else next(iter(verdicts))}{f' ({why})' if why else ''}")
        changed = Counter(change.kind for change in served.operation.changes)
        kinds = ", ".join(f"{kind}{f' x{count}' if count > 1 else ''}" for kind, count in changed.items())
        fails = f"{served.breaches['directly']} -> {served.breaches['gateway']}"
        print(f"| `{served.name}` | {kinds or 'nothing'} | {cells[0]} | {cells[1]} | {fails} |")
    for side, counted in totals.items():
        print(f"\n{side}: " + ", ".join(f"{verdict} {count}" for verdict, count in counted.most_common()))


WORST_FIRST = ("wrong", "broken", "fails", "told as drift", "refused", "told", "adapted", "passes")


def _verdicts(fates: Counter[str], side: str, drift_told: bool) -> dict[str, int]:
    """Return what the calls met, the worst first; what was refused by the upstream itself is loud anyway."""
    silent = "fails" if side == "directly" else "told as drift" if drift_told else "broken"
    named = {silent if word == "fails" else word: count for word, count in fates.items()}
    return {word: named[word] for word in WORST_FIRST if word in named}


if __name__ == "__main__":
    main()

"""Counts edits that would be made at once and are wrong, over simulated changes of real APIs. Run by hand:

    python tests/hostile/wrong_edits.py SCORER CORPUS [--events 240] [--seed 1]

`SCORER` is a `drift.py` that makes worlds of traffic from a corpus of API documents (`make_worlds()`), with the
model of each operation before and after its changes. From both models the same entity is drawn, so what an answer
would have held in the old shape is known. For each operation an adaptation is composed from its traffic, and what
is sure of it is applied to answers about entities that were not met. A place that is edited and does not hold what
it would have held is wrong: there may be none. `--why` tells what speaks against each suggestion.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import sys
from collections import Counter
from functools import reduce
from pathlib import Path
from types import ModuleType
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "discovery"))

from lookalikes import flat

from discovery.adapt import Adaptation, back
from discovery.amend import compose
from discovery.drift import Operation, drifts_among, operations_of
from discovery.drift_watch import Watch
from discovery.edits import Lost
from discovery.exchange import Exchange, Request, Response
from discovery.pointer import pointer_of
from discovery.shape import Shape, example_of, merged, shape_of

KEY = b"a key of this script alone"
FRESH = range(100, 116)
"""Entities nobody met: the scorer's own are 0 to 59."""


def loaded(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("scorer", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["scorer"] = module
    spec.loader.exec_module(module)
    return module


def exchange(line: dict[str, Any]) -> Exchange:
    target = line["url"].split(".example", 1)[1].encode()
    kind = ((b"content-type", b"application/json"),)
    request = Request(line["method"], target, kind, (line["request_body"] or "").encode())
    return Exchange(line["api"], request, Response(line["status"], kind, line["response_body"].encode()))


def watched(lines: list[dict[str, Any]]) -> Operation | None:
    watch = Watch(KEY)
    for line in lines:
        watch.fold(exchange(line))
    found = operations_of(watch, lambda _: "/the/operation")
    return found[0] if found else None


def composed(operation: Operation, status: int, before: list[Any], after: list[Any]) -> Adaptation:
    """Return what is composed for a pin of all that the operation was seen to answer before."""
    found = [one for one in drifts_among([operation]) if one.where == f"response.{status}"]
    pin = reduce(merged, map(shape_of, before), Shape())
    return compose(found, pin, [example_of(body) for body in after[-12:]], operation.seen, operation.words)


def judged(adaptation: Adaptation, pairs: list[tuple[Any, Any]]) -> tuple[set[str], list[str]]:
    """Return the places that were restored, and what is wrong, over (as it is, as it would have been)."""
    edits = adaptation.in_force()
    restored: set[str] = set()
    wrong = []
    for new, old in pairs:
        raw, truth = flat(new), flat(old)
        adapted = flat(json.loads(back(edits, json.dumps(new).encode()).body))
        for place, value in adapted.items():
            if place in truth and (place not in raw or raw[place] != value):
                if truth[place] == value:
                    restored.add(place)
                else:
                    wrong.append(f"{place} is {value!r}, would have been {truth[place]!r}")
    return restored, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("scorer", type=Path)
    parser.add_argument("corpus", type=Path)
    parser.add_argument("--events", type=int, default=240)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--why", action="store_true")
    options = parser.parse_args()
    scorer = loaded(options.scorer)
    events = scorer.sample(scorer.read_events(options.corpus), options.events, scorer.Dice(options.seed))
    told: Counter[tuple[str, str]] = Counter()
    bad: list[str] = []
    for world in scorer.make_worlds(options.corpus, events, options.seed, 50, 3):
        for operation in world.operations:
            bad += judge(scorer, world, operation, options, told)
    for (kind, fate), count in sorted(told.items()):
        print(f"{kind:20}{fate:12}{count:6}")
    print("\n" + ", ".join(f"{fate} {sum(n for (_, f), n in told.items() if f == fate)}" for fate in FATES))
    print("\n".join(bad))


FATES = ("right", "suggested", "lost", "nothing", "wrong")


def judge(
    scorer: ModuleType, world: Any, operation: Any, options: argparse.Namespace, told: Counter[tuple[str, str]]
) -> list[str]:
    changes = [one for one in operation.changes if one.visible and one.where == "response"]
    dice = scorer.Dice(options.seed, world.name)
    parts = [scorer.exchanges(operation, world.name, phase, 50, dice) for phase in ("before", "after")]
    seen = watched(parts[0] + parts[1])
    status = int(operation.status)
    before, after = (
        [json.loads(line["response_body"]) for line in part if line["status"] == status] for part in parts
    )
    if seen is None or not before or not after:
        return []
    adaptation = composed(seen, status, before, after)
    make = scorer.Generator(scorer.Dice(dice.words, operation.method, operation.path), "after")
    pairs = [(make.value(operation.after, str(n)), make.value(operation.before, str(n))) for n in FRESH]
    restored, wrong = judged(adaptation, pairs)
    suggested = {one.place for one in adaptation.suggestions}
    lost = {one.place for one in adaptation.edits if isinstance(one.edit, Lost)}
    for change in changes:
        place = pointer_of(change.tokens)
        fate = "nothing"
        if any(starred(one).startswith(place) for one in restored):
            fate = "right"
        elif place in suggested:
            fate = "suggested"
            if options.why:
                why = next(one.why for one in adaptation.suggestions if one.place == place)
                print(f"{world.name} {operation.method} {operation.path} {change.kind} {place}: {why}", flush=True)
        elif place in lost:
            fate = "lost"
        told[change.kind, fate] += 1
    if wrong:
        told["any", "wrong"] += 1
    return [f"{world.name} {operation.method} {operation.path}: {one}" for one in wrong[:3]]


def starred(place: str) -> str:
    return "".join(f"/{'*' if part.isdigit() else part}" for part in place.split("/")[1:])


if __name__ == "__main__":
    main()

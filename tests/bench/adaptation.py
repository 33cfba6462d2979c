"""What adaptation costs a call: CPU in `gateway.adapter` before an answer is delivered, and of learning after.

One process, no store; a customer of 150 bytes, as `fixtures.upstreams.drifting` has it, and lists of a hundred.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Callable
from pathlib import Path
from time import process_time
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[2]))

import orjson

from discovery.exchange import Request, Response
from fixtures.upstreams.drifting import Tree, customer
from gateway.adapter import Adapter
from policies.rules import UpstreamRules

JSON = ((b"content-type", b"application/json"),)
RULES = UpstreamRules("shop", "https://shop.test")

Change = Callable[[Tree], Any]


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--times", type=int, default=2000, help="answers of each kind (default 2000)")


def renamed(tree: Tree) -> Tree:
    return {"mail" if name == "email" else name: value for name, value in tree.items()}


class World:
    """An adapter whose pins live in this process alone."""

    def __init__(self, many: int) -> None:
        nowhere: Any = None
        self.adapter = Adapter(nowhere, nowhere, bytes(32), lambda _: RULES)
        self.many = many

    def answer(self, number: int, change: Change) -> tuple[Request, Response]:
        trees = [change(customer(1000 + (number + at) % 400)) for at in range(self.many)]
        body = orjson.dumps(trees if self.many > 1 else trees[0])
        path = b"/lists/7" if self.many > 1 else b"/customers/%d" % (1000 + number % 400)
        return Request("GET", path), Response(200, JSON, body)

    async def mean(self, change: Change, times: int) -> float:
        """Return the microseconds an answer takes; what there is to learn from it comes after, uncounted."""
        asked = [self.answer(number, change) for number in range(times)]
        began = process_time()
        for request, response in asked:
            await self.adapter.adapt_answer("shop", ("sync", "w"), request, response, 0.0)
            self.adapter._looks.clear()
        return 1e6 * (process_time() - began) / times

    async def learn(self, change: Change, times: int = 24) -> None:
        for number in range(times):
            request, response = self.answer(number % 12, change)
            await self.adapter.adapt_answer("shop", ("sync", "w"), request, response, 0.0)
            await self.adapter.learn()


async def measured(times: int) -> list[tuple[str, float]]:
    def as_it_was(tree: Tree) -> Tree:
        return tree

    rows = [("nothing is pinned", await World(1).mean(as_it_was, times))]
    for many, what in ((1, "an object"), (100, "a list of a hundred")):
        world = World(many)
        world.adapter._pins["shop"] = {}
        await world.learn(as_it_was)
        rows.append((f"{what}, as pinned", await world.mean(as_it_was, times // many + 20)))
        if many == 1:
            await world.learn(renamed, 12)
            rows.append((f"{what}, one field renamed", await world.mean(renamed, times)))
            began = process_time()
            await world.learn(renamed, 50)
            rows.append(
                ("learning from one while it is judged, off the path", 1e6 * (process_time() - began) / 50)
            )
    return rows


def main(given: argparse.Namespace) -> None:
    print("| answer | microseconds of CPU |\n|---|---|")
    for name, cost in asyncio.run(measured(given.times)):
        print(f"| {name} | {cost:,.1f} |")

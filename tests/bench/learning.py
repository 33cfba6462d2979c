"""What learning costs: exchanges a second of shapes seen before, new documents a second, bytes an endpoint.

Beside it, in the same run and of the same bodies: `orjson.loads` alone, and GenSON's own builder. One process, no
store: what `gateway.learner` does in its turns, with the collector set as a gateway sets it (`gateway.server`).
"""

from __future__ import annotations

import argparse
import sys
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from time import process_time

sys.path.insert(0, str(Path(__file__).parents[2]))

import orjson
from genson import SchemaBuilder

from discovery.evidence import Node
from discovery.exchange import Exchange, Json, Request, Response
from discovery.traffic import Evidence
from gateway.server import spare_the_collector

JSON = ((b"content-type", b"application/json"),)
KEY = bytes(32)


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--times", type=int, default=5000, help="exchanges of each kind (default 5000)")


def known(number: int) -> Json:
    """Some 400 bytes of one shape."""
    return {
        "id": number,
        "sku": f"lamp-{number % 97}",
        "state": ("open", "paid", "sent")[number % 3],
        "placed_at": f"2026-03-{1 + number % 28:02}T10:00:00Z",
        "total": {"amount": number % 1000 / 4, "currency": "EUR"},
        "buyer": {"id": number % 500, "login": f"buyer{number % 500}", "verified": number % 2 == 0},
        "lines": [{"sku": f"part-{n}", "count": n, "note": None} for n in range(4)],
    }


def mixed(number: int) -> Json:
    """Some 2 KB whose members come in a new combination each time: what a new document mostly is."""
    chosen = number * 2654435761 % (1 << 30)
    parts = {f"part_{n}": {"value": n, "text": "x" * 130 if chosen >> n & 2 else None} for n in range(25)}
    return {name: part for n, (name, part) in enumerate(parts.items()) if n < 10 or chosen >> n & 1} | {
        "id": number
    }


def new(number: int) -> Json:
    """Some 2 KB with 30 names that were never seen: the worst there is."""
    return {f"field_{number % 7}_{n}": {"value": n, f"of_{number}_{n}": "x" * 20} for n in range(30)}


def exchange(body: bytes, path: bytes) -> Exchange:
    return Exchange("shop", Request("GET", path, (), b""), Response(200, JSON, body))


def rate(work: Callable[[], object], count: int) -> float:
    """Return how many a second of CPU."""
    began = process_time()
    work()
    return count / (process_time() - began)


def each(work: Callable[[bytes], object], bodies: Sequence[bytes]) -> Callable[[], None]:
    def go() -> None:
        for body in bodies:
            work(body)

    return go


def main(given: argparse.Namespace) -> None:
    spare_the_collector()
    print("| bodies | bytes | orjson.loads /s | GenSON /s | Gimbal's node /s | Gimbal, whole exchange /s |")
    print("|---|---|---|---|---|---|")
    for name, make in (("shape seen before", known), ("new combinations", mixed), ("30 new names in each", new)):
        bodies = [orjson.dumps(make(number)) for number in range(given.times)]
        exchanges = [exchange(body, b"/v1/orders/%d" % number) for number, body in enumerate(bodies)]
        peer, node, evidence = SchemaBuilder(), Node(), Evidence(KEY)
        rates = [
            rate(each(orjson.loads, bodies), len(bodies)),
            rate(
                each(lambda body, peer=peer: peer.add_object(orjson.loads(body)), bodies[:500]), len(bodies[:500])
            ),
            rate(each(lambda body, node=node: node.fold(orjson.loads(body)), bodies), len(bodies)),
            rate(lambda exchanges=exchanges, evidence=evidence: [*map(evidence.fold, exchanges)], len(bodies)),
        ]
        size = sum(map(len, bodies)) / len(bodies)
        print(f"| {name} | {size:.0f} | " + " | ".join(f"{rate:,.0f}" for rate in rates) + " |")
    print("\n| samples of one endpoint | bytes of evidence | compressed, as stored |\n|---|---|---|")
    evidence = Evidence(KEY)
    for number in range(20 * given.times):
        evidence.fold(exchange(orjson.dumps(known(number)), b"/v1/orders/%d" % number))
        if number + 1 in (1000, given.times, 20 * given.times):
            state = orjson.dumps(evidence.state(), option=orjson.OPT_NON_STR_KEYS)
            print(f"| {number + 1:,} | {len(state):,} | {len(zlib.compress(state, 3)):,} |")

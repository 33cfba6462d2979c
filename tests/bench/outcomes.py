"""What reading an answer costs: medians of `classify()`, and how many times `orjson.loads` of its body that is."""

from __future__ import annotations

import argparse
import zlib
from collections.abc import Callable
from statistics import median
from time import perf_counter

import orjson

from discovery.exchange import Request, Response
from policies.outcome import classify

JSON = ((b"Content-Type", b"application/json"), (b"Date", b"Sun, 22 Nov 2026 19:00:00 GMT"))
ZIPPED = (*JSON, (b"Content-Encoding", b"gzip"))
NOW = 1_790_000_000.0


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seconds", type=float, default=0.5, help="seconds for each answer (default 0.5)")


def main(given: argparse.Namespace) -> None:
    print("| answer | bytes | orjson.loads µs | classify µs | ratio | read as |\n|---|---|---|---|---|---|")
    for name, method, answer in answers():
        request = Request(method, b"/orders", JSON, orjson.dumps({"sku": "apple", "count": 3}))
        read = 1e6 * took(lambda answer=answer, request=request: classify(request, answer, NOW), given.seconds)
        parsed = 1e6 * took(lambda answer=answer: parse(answer.body), given.seconds)
        outcome = classify(request, answer, NOW).outcome
        print(f"| {name} | {len(answer.body)} | {parsed:.1f} | {read:.1f} | {read / parsed:.1f} | {outcome} |")


def answers() -> list[tuple[str, str, Response]]:
    """The answers that are read: a good one as GET and as POST, a large error, and bodies made to cost."""
    line = {"sku": "apple", "count": 3, "price": {"amount": 1250, "currency": "EUR"}}
    order = {"id": "o-1", "status": "open", "note": "n" * 400, "customer": {"id": 7}, "lines": [line] * 6}
    problem = {"field": "lines/3/count", "code": "out_of_range", "message": "must be between 1 and 100"}
    failed = {"error": {"code": "validation_failed", "details": [problem] * 1_000}}
    bomb = zlib.compressobj(9, zlib.DEFLATED, 31)
    zipped = bomb.compress(b"[" + b"0," * 50_000_000) + bomb.flush()
    good = Response(200, JSON, orjson.dumps(order))
    return [
        ("success, GET", "GET", good),
        ("success, POST", "POST", good),
        ("error of 100 KB", "POST", Response(422, JSON, orjson.dumps(failed))),
        ("nested 100,000 deep", "POST", Response(200, JSON, b"[" * 100_000 + b"]" * 100_000)),
        ("10 MB of keys", "POST", Response(200, JSON, orjson.dumps({f"key-{n}": n for n in range(500_000)}))),
        ("100 MB, zipped", "POST", Response(200, ZIPPED, zipped)),
        ("XML of entities", "POST", Response(500, ((b"Content-Type", b"text/xml"),), LAUGHS)),
    ]


LAUGHS = b'<!DOCTYPE l [<!ENTITY a "lol">' + b"".join(
    b'<!ENTITY %c "%s">' % (98 + n, b"&%c;" % (97 + n) * 10) for n in range(9)
)
LAUGHS += b"]><l>&j;</l>"


def parse(body: bytes) -> object:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def took(work: Callable[[], object], seconds: float) -> float:
    """Return the median seconds of one run: of at least three, and of as many as go into `seconds`."""
    times: list[float] = []
    until = perf_counter() + seconds
    while len(times) < 3 or perf_counter() < until:
        began = perf_counter()
        work()
        times.append(perf_counter() - began)
    return median(times)

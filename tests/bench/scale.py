"""How N gateway processes on one store share what is due, and how soon they take over what one of them left.

All calls become due at one instant, `appendfsync always`, and are sent to a stand-in that answers at once. Then
one of the processes is killed while it waits for answers under a key, and the others send them again.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median, quantiles

import httpx
from processes import cpu_seconds

from discovery.exchange import Request
from fixtures.upstreams.counting import Counting
from gateway.engine_binary import find_binary
from gateway.identity import fingerprint
from gateway.ledger import RedisLedger
from gateway.link import Link
from gateway.ports import About
from gateway.vault import Vault
from policies.claims import Ask, Change, State, StepKey, call_id

ROOT = Path(__file__).parents[2]

KEY = bytes(range(32))
"""What the store is sealed with: all processes need the same."""

AHEAD = 5.0
"""Seconds from the first call put off to the instant all are due, and more with every thousand of them."""

HELD = 40
"""Calls under way in the process that is killed."""

CONFIG = """
[upstreams.shop]
base_url = "{url}"

[upstreams.till]
base_url = "{url}/keyed"
idempotency = {{ carrier = "header", name = "Idempotency-Key", window = "1h" }}
"""


@dataclass(frozen=True, slots=True)
class Gateway:
    """A running process."""

    process: subprocess.Popen[bytes]
    url: str

    @property
    def busy(self) -> float:
        """Seconds of CPU spent so far."""
        return cpu_seconds([self.process.pid])


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=2000, help="calls due at one instant (default 2000)")
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 2, 4], help="default 1 2 4")


def main(given: argparse.Namespace) -> None:
    print("| gateways | finished a second | late, median | late, 99 % | work by each | sent twice | taken over |")
    print("|---|---|---|---|---|---|---|")
    for count in given.processes:
        with world() as (home, store, upstream), ExitStack() as stack:
            gateways = [stack.enter_context(serving(home, store)) for _ in range(count)]
            cells = [str(count), *share(store, upstream, gateways, given.calls)]
            cells.append(recovery(upstream, gateways))
            print(f"| {' | '.join(cells)} |", flush=True)


def share(store: str, upstream: Counting, gateways: list[Gateway], calls: int) -> list[str]:
    """Let `calls` become due at once; say how they were finished."""
    at = time.time() + AHEAD + calls / 500
    asyncio.run(put_off(store, calls, at))
    assert time.time() < at, "the calls were not put off in time: take fewer"
    due = time.monotonic() + at - time.time()
    time.sleep(max(0.0, due - time.monotonic()))
    before = [gateway.busy for gateway in gateways]
    while sum(upstream.effects.values()) < calls:
        assert time.monotonic() < due + 300, "not all calls were finished"
        time.sleep(0.01)
    late = sorted(first - due for first, *_ in list(upstream.came.values()))
    busy = [gateway.busy - earlier for gateway, earlier in zip(gateways, before, strict=True)]
    by_each = " / ".join(f"{100 * one / sum(busy):.0f}" for one in busy) + " %"
    more = sum(count > 1 for count in upstream.sendings.values())
    rate = calls / late[-1]
    hundredth = quantiles(late, n=100)[98]
    return [
        f"{rate:.0f}",
        f"{1e3 * median(late):.0f} ms",
        f"{1e3 * hundredth:.0f} ms",
        by_each,
        str(more or "none"),
    ]


async def put_off(store: str, calls: int, at: float) -> None:
    """Leave calls of many workflows in the store, all due `at` one time (the store's)."""
    ledger = RedisLedger(Link(store), Vault([KEY]))

    async def one(number: int) -> None:
        key = StepKey("default", f"order-{number}", "charge")
        headers = ((b"x-ref", b"c%d" % number), (b"content-type", b"text/plain"))
        request = Request("POST", b"/ok/charges", headers, b"x" * 1024)
        ask = Ask(fingerprint("shop", request), send=True)
        await ledger.claim(call_id(key), About(key, "shop", "POST /ok/charges", request), ask)
        await ledger.change(call_id(key), 1, Change(State.WAITING, not_before=at))

    for first in range(0, calls, 200):
        await asyncio.gather(*(one(number) for number in range(first, min(calls, first + 200))))
    await ledger.aclose()


def recovery(upstream: Counting, gateways: list[Gateway]) -> str:
    """Kill one process that has calls under way; say how long after they were sent by others."""
    if len(gateways) < 2:
        return "-"
    asyncio.run(hang_up(upstream, gateways[0]))
    gateways[0].process.kill()
    killed = time.monotonic()
    refs = [f"h{number}" for number in range(HELD)]
    while any(len(upstream.came[ref]) < 2 for ref in refs):
        assert time.monotonic() < killed + 60, "not all calls were taken over"
        time.sleep(0.01)
    took = sorted(upstream.came[ref][1] - killed for ref in refs)
    upstream.let_go()
    return f"{took[0]:.1f} to {took[-1]:.1f} s"


async def hang_up(upstream: Counting, gateway: Gateway) -> None:
    """Ask for `HELD` calls and leave when the upstream has all of them."""

    async def ask(caller: httpx.AsyncClient, number: int) -> None:
        who = {"Workflow-Id": f"held-{number}", "Workflow-Step": "charge", "X-Ref": f"h{number}"}
        await caller.post("/till/hold-before/charges", headers=who, content=b"x")

    async with httpx.AsyncClient(base_url=gateway.url, trust_env=False, timeout=60) as caller:
        calls = [asyncio.create_task(ask(caller, number)) for number in range(HELD)]
        while upstream.held < HELD:
            await asyncio.sleep(0.01)
        for call in calls:
            call.cancel()
        await asyncio.gather(*calls, return_exceptions=True)


@contextmanager
def world() -> Iterator[tuple[Path, str, Counting]]:
    """A store and an upstream."""
    home = Path(tempfile.mkdtemp(prefix="gimbal-bench-"))
    (home / "engine").mkdir()
    socket = home / "s"
    command = [find_binary().path, "--port", "0", "--unixsocket", str(socket), "--dir", str(home / "engine")]
    command += ["--appendonly", "yes", "--appendfsync", "always", "--save", "", "--maxmemory-policy", "noeviction"]
    engine = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not socket.exists():
            time.sleep(0.01)
        with Counting() as upstream:
            (home / "gimbal.toml").write_text(CONFIG.format(url=upstream.url))
            yield home, f"unix://{socket}", upstream
    finally:
        engine.kill()
        engine.wait()
        shutil.rmtree(home, ignore_errors=True)


@contextmanager
def serving(home: Path, store: str) -> Iterator[Gateway]:
    """A gateway that listens."""
    command = [sys.executable, "-m", "gateway", "serve", "--json", "--listen", "127.0.0.1:0", "--store", store]
    command += ["--data", str(home / "data"), "--config", str(home / "gimbal.toml")]
    env = {**os.environ, "GIMBAL_KEY": base64.b64encode(KEY).decode(), "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, env=env)
    assert process.stdout is not None
    try:
        yield Gateway(process, json.loads(process.stdout.readline())["url"])
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()

"""CPU a call, throughput and latency of Gimbal with its ledger on, beside plain proxies, in one run.

The measured server has a core to itself; load, upstream and store share the other. All servers are up at once
and are visited in turn, in short slices, so that neighbours see the same machine; the median of rounds counts.
Every request is a POST with a key of its own: Gimbal claims and commits each (two transitions in a real engine).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import shutil
import sys
import tempfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from contestants import Subject, present, upstream
from load import Slice, generator, load
from processes import CORES, OTHERS, cpu_seconds, prefer, resident_mb

OUT = Path(__file__).with_name("out")
CONNECTIONS = (32, 1)


@dataclass(frozen=True, slots=True)
class Seen:
    """One slice of one contestant: what the load saw and what it cost. Times are microseconds a call."""

    slice: Slice
    cpu: float
    engine: float
    busy: float  # share of its core
    transitions: float  # scripts the store ran a call


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--rounds", type=int, default=3, help="visits to each server (default 3)")
    parser.add_argument("--seconds", type=int, default=2, help="length of a slice (default 2)")
    parser.add_argument("--only", nargs="+", metavar="NAME", help=f"of: {', '.join(present())}")


def main(given: argparse.Namespace) -> None:
    os.sched_setaffinity(0, OTHERS)
    prefer(os.getpid())
    scratch = Path(tempfile.mkdtemp(prefix="gimbal-bench-"))
    try:
        seen = measure(given, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
    keep(seen)


def measure(given: argparse.Namespace, scratch: Path) -> dict[str, dict[int, list[Seen]]]:
    """Visit everyone in turn and print the tables; return every slice."""
    seen: dict[str, dict[int, list[Seen]]] = defaultdict(lambda: defaultdict(list))
    with contextlib.ExitStack() as stack:
        address = stack.enter_context(upstream(scratch))
        wanted = [start for name, start in present().items() if not given.only or name in given.only]
        subjects = [stack.enter_context(start(address, scratch)) for start in wanted]
        for subject in subjects:
            load(subject.url, 32, 1.0, scratch)  # connections, caches, just-in-time work
        for number in range(1, given.rounds + 1):
            for connections in CONNECTIONS:
                for subject in subjects:
                    print(
                        f"\rround {number}/{given.rounds}  {subject.name:<20}", end="", file=sys.stderr, flush=True
                    )
                    seen[subject.name][connections].append(visit(subject, connections, given.seconds, scratch))
        memory = {subject.name: resident_mb(subject.pids) for subject in subjects}
    say("")
    print(f"load by {generator()}, {given.rounds} rounds of {given.seconds:g} s, medians; {machine()}")
    for connections in CONNECTIONS:
        print(f"\n{table(seen, connections, memory)}")
    print(f"\n{verdict(seen)}")
    return seen


def say(text: str) -> None:
    """Show how far we are, on a terminal."""
    if sys.stderr.isatty():
        print(f"\r{text:<40}\r", end="", file=sys.stderr, flush=True)


def visit(subject: Subject, connections: int, seconds: float, scratch: Path) -> Seen:
    engine = (subject.engine,) if subject.engine else ()
    ran = _scripts(subject)
    before, beside = cpu_seconds(subject.pids), cpu_seconds(engine)
    slice = load(subject.url, connections, seconds, scratch)
    spent, kept = cpu_seconds(subject.pids) - before, cpu_seconds(engine) - beside
    if slice.failed or not slice.calls:
        raise RuntimeError(f"{subject.name}: {slice.failed} of {slice.calls} calls failed")
    return Seen(
        slice,
        1e6 * spent / slice.calls,
        1e6 * kept / slice.calls,
        spent / slice.seconds,
        (_scripts(subject) - ran) / slice.calls,
    )


def _scripts(subject: Subject) -> int:
    if subject.store is None:
        return 0
    told = subject.store.info("commandstats").get("cmdstat_evalsha", {"calls": 0})
    calls: int = told["calls"]
    return calls


def table(seen: dict[str, dict[int, list[Seen]]], connections: int, memory: dict[str, float]) -> str:
    """Return one table as Markdown: absolute numbers, then ratios to mitmproxy (where it took part)."""
    one = "connection" if connections == 1 else "connections"
    lines = [
        f"| {connections} {one} | CPU us/call (min-max) | store us/call | busy | calls/s | p50 ms | p99 ms "
        "| MB | transitions/call | calls/s : mitmproxy | p50 : mitmproxy | CPU : Caddy |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for name, slices in seen.items():
        of = slices[connections]
        costs = [one.cpu for one in of]
        cells = [
            name,
            f"{median(costs):.0f} ({min(costs):.0f}-{max(costs):.0f})" if median(costs) else "",
            _number(median(one.engine for one in of), ".0f"),
            f"{median(one.busy for one in of):.2f}" if median(costs) else "",
            f"{_rate(of):.0f}",
            f"{_p50(of):.2f}",
            f"{median(one.slice.p99 for one in of):.2f}",
            _number(memory[name], ".0f"),
            _number(median(one.transitions for one in of), ".2f"),
            _against(seen, "mitmproxy", connections, lambda peer, of=of: _rate(of) / _rate(peer)),
            _against(seen, "mitmproxy", connections, lambda peer, of=of: _p50(of) / _p50(peer)),
            _against(seen, "Caddy", connections, lambda peer, of=of: _cpu(of) / _cpu(peer)) if _cpu(of) else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def verdict(seen: dict[str, dict[int, list[Seen]]]) -> str:
    """Say how the bar stands: 6 times mitmproxy's throughput, p50 at one connection below its, everysec."""
    if not {"mitmproxy", "Gimbal everysec"} <= seen.keys():
        return "the bar is about mitmproxy and Gimbal everysec: not both took part"
    mine, peer = seen["Gimbal everysec"], seen["mitmproxy"]
    throughput = _rate(mine[32]) / _rate(peer[32])
    latency = _p50(mine[1]) / _p50(peer[1])
    lines = [
        f"{throughput:5.1f} x mitmproxy's throughput at 32 connections (bar: 6 or more)",
        f"{latency:5.2f} x mitmproxy's p50 at one connection (bar: below 1)",
    ]
    if "Caddy" in seen:
        lines.append(f"{_cpu(mine[32]) / _cpu(seen['Caddy'][32]):5.2f} x Caddy's CPU a call (aim: below 1)")
    return "\n".join(lines)


def _rate(of: list[Seen]) -> float:
    return median(one.slice.calls / one.slice.seconds for one in of)


def _p50(of: list[Seen]) -> float:
    return median(one.slice.p50 for one in of)


def _cpu(of: list[Seen]) -> float:
    return median(one.cpu for one in of)


def _against(seen: dict[str, dict[int, list[Seen]]], peer: str, connections: int, ratio: object) -> str:
    if peer not in seen:
        return ""
    assert callable(ratio)
    return f"{ratio(seen[peer][connections]):.2f}"


def _number(value: float, form: str) -> str:
    return format(value, form) if value else ""


def machine() -> str:
    load1 = os.getloadavg()[0]
    return f"Python {platform.python_version()}, {len(CORES)} cores, load average {load1:.1f} at the end"


def keep(seen: dict[str, dict[int, list[Seen]]]) -> None:
    OUT.mkdir(exist_ok=True)
    raw = {
        name: {
            connections: [
                {
                    "cpu": one.cpu,
                    "engine": one.engine,
                    "busy": one.busy,
                    "transitions": one.transitions,
                    "calls": one.slice.calls,
                    "seconds": one.slice.seconds,
                    "p50": one.slice.p50,
                    "p99": one.slice.p99,
                }
                for one in of
            ]
            for connections, of in slices.items()
        }
        for name, slices in seen.items()
    }
    (OUT / "speed.json").write_text(json.dumps(raw, indent=1))

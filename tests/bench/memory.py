"""Memory of gateway and store over many calls whose records expire: it rises until the first expire, then stays.

Every call is a POST with a key of its own; its record is kept 30 s. At the end the load stops, and what is left
after the last records expired is shown as well.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from pathlib import Path
from statistics import mean

from contestants import KEPT, Subject, gimbal, upstream
from load import load
from processes import OTHERS, prefer, resident_mb


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--calls", type=int, default=1_000_000, help="calls to make (default 1000000)")
    parser.add_argument("--rows", type=int, default=12, help="rows to print (default 12)")


def main(given: argparse.Namespace) -> None:
    os.sched_setaffinity(0, OTHERS)
    prefer(os.getpid())
    scratch = Path(tempfile.mkdtemp(prefix="gimbal-bench-"))
    try:
        with upstream(scratch) as address, gimbal("everysec")(address, scratch) as subject:
            measure(subject, given, scratch)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def measure(subject: Subject, given: argparse.Namespace, scratch: Path) -> None:
    print("| calls | seconds | gateway MB | store MB | records in the store | journal MB |")
    print("|---|---|---|---|---|---|")
    print(row(subject, 0, 0.0, scratch), flush=True)
    began = time.monotonic()
    calls, shown = 0, 0
    seen = []
    while calls < given.calls:
        calls += load(subject.url, 32, 5, scratch).calls
        seen.append((calls, resident_mb(subject.pids)))
        if calls * given.rows >= (shown + 1) * given.calls:
            shown = calls * given.rows // given.calls
            print(row(subject, calls, time.monotonic() - began, scratch), flush=True)
    assert subject.store is not None
    while subject.store.dbsize() > 1000 and time.monotonic() - began < 3600:
        time.sleep(1)
    print(row(subject, calls, time.monotonic() - began, scratch))
    print(f"\nrecords were kept {KEPT}; the last row is after the last of them expired")
    print(f"the gateway grew by {1e3 * growth(seen):.3f} KB a thousand calls over the second half")


def growth(seen: list[tuple[int, float]]) -> float:
    """Return the slope of memory (MB) over calls in the second half, in MB a thousand calls: least squares."""
    late = seen[len(seen) // 2 :]
    x, y = mean(calls for calls, _ in late), mean(size for _, size in late)
    spread = sum((calls - x) ** 2 for calls, _ in late)
    return 1e3 * sum((calls - x) * (size - y) for calls, size in late) / spread if spread else 0.0


def row(subject: Subject, calls: int, seconds: float, scratch: Path) -> str:
    assert subject.store is not None
    used = subject.store.info("memory")["used_memory"] / 2**20
    journal = sum(file.stat().st_size for file in scratch.rglob("*.aof")) / 2**20
    cells = f"{calls} | {seconds:.0f} | {resident_mb(subject.pids):.1f} | {used:.1f}"
    return f"| {cells} | {subject.store.dbsize()} | {journal:.0f} |"

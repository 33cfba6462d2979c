"""Load: POSTs of 1 KB, each with an Idempotency-Key of its own, over a number of kept-alive connections.

By wrk where it is installed; else by a client of our own on asyncio, which tops out near 15,000 calls a second.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter
from urllib.parse import urlsplit

from processes import OTHERS

BODY = json.dumps(
    {
        "amount": 4200,
        "currency": "eur",
        "customer": "cus_8Jx2",
        "lines": [{"sku": f"part-{n}", "count": n, "note": "as agreed " * 5} for n in range(9)],
    }
)

HEADERS = {
    "Accept": "application/json",
    "Authorization": "Bearer sk_test_0123456789abcdef",
    "Content-Type": "application/json",
    "User-Agent": "bench/1.0",
}

WRK = """
local run, n = '%(run)s', 0
wrk.method = 'POST'
wrk.body = [==[%(body)s]==]
%(headers)s
function request()
  n = n + 1
  wrk.headers['Idempotency-Key'] = run .. '-' .. n
  return wrk.format()
end
function done(summary, latency)
  local errors = summary.errors
  io.stderr:write(string.format('{"calls": %%d, "seconds": %%f, "p50": %%f, "p99": %%f, "failed": %%d}',
    summary.requests, summary.duration / 1e6, latency:percentile(50) / 1e3, latency:percentile(99) / 1e3,
    errors.connect + errors.read + errors.write + errors.status + errors.timeout))
end
"""


@dataclass(frozen=True, slots=True)
class Slice:
    """What one slice of load saw. Latencies are milliseconds."""

    calls: int
    seconds: float
    p50: float
    p99: float
    failed: int


def generator() -> str:
    return "wrk" if shutil.which("wrk") else "asyncio"


def load(url: str, connections: int, seconds: float, scratch: Path) -> Slice:
    """Load `url` for `seconds` from a process on the other core."""
    run = os.urandom(6).hex()
    if generator() == "wrk":
        script = scratch / "load.lua"
        headers = "\n".join(f"wrk.headers['{name}'] = '{value}'" for name, value in HEADERS.items())
        script.write_text(WRK % {"run": run, "body": BODY, "headers": headers})
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds:g}s", "--timeout", "10s", "-s", str(script), url]
    else:
        command = [sys.executable, __file__, url, str(connections), str(seconds), run]
    said = subprocess.run(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        check=True,
        timeout=seconds + 60,
        preexec_fn=lambda: os.sched_setaffinity(0, OTHERS),
    )
    return Slice(**json.loads(said.stderr))


# The client of our own


async def _drive(url: str, connections: int, seconds: float, run: str) -> Slice:
    parts = urlsplit(url)
    body = BODY.encode()
    fixed = "".join(f"{name}: {value}\r\n" for name, value in HEADERS.items())
    head = f"POST {parts.path} HTTP/1.1\r\nHost: {parts.netloc}\r\n{fixed}Content-Length: {len(body)}\r\n".encode()
    took: list[float] = []
    failed = 0
    started = perf_counter()

    async def one(number: int) -> None:
        nonlocal failed
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        count = 0
        while (began := perf_counter()) - started < seconds:
            count += 1
            writer.write(b"%sIdempotency-Key: %s-%d-%d\r\n\r\n%s" % (head, run.encode(), number, count, body))
            answer = await reader.readuntil(b"\r\n\r\n")
            fields = answer.lower().split(b"\r\n")
            length = next(int(field[15:]) for field in fields if field.startswith(b"content-length:"))
            await reader.readexactly(length)
            took.append(perf_counter() - began)
            failed += answer[9:10] != b"2"
        writer.close()

    await asyncio.gather(*(one(number) for number in range(connections)))
    spent = perf_counter() - started
    took.sort()
    return Slice(len(took), spent, 1e3 * took[len(took) // 2], 1e3 * took[len(took) * 99 // 100], failed)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("url")
    parser.add_argument("connections", type=int)
    parser.add_argument("seconds", type=float)
    parser.add_argument("run")
    given = parser.parse_args()
    seen = asyncio.run(_drive(given.url, given.connections, given.seconds, given.run))
    json.dump({name: getattr(seen, name) for name in Slice.__slots__}, sys.stderr)


if __name__ == "__main__":
    main()

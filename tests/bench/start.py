"""How long `import gateway` and `gimbal --help` take: medians of processes started one after the other."""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

GIMBAL = str(Path(sys.executable).with_name("gimbal"))
COMMANDS = {
    "python -c pass": [sys.executable, "-c", "pass"],
    "import gateway": [sys.executable, "-c", "import gateway"],
    "import gateway, its doors": [sys.executable, "-c", "from gateway import AsyncTransport"],
    "import gateway.server": [sys.executable, "-c", "import gateway.server"],
    "gimbal --help": [GIMBAL, "--help"],
    "gimbal serve --help": [GIMBAL, "serve", "--help"],
}


def options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--times", type=int, default=11, help="starts of each (default 11)")


def main(given: argparse.Namespace) -> None:
    took: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(given.times):
        for name, command in COMMANDS.items():
            began = perf_counter()
            subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
            took[name].append(1e3 * (perf_counter() - began))
    print("| start | median ms | min ms |\n|---|---|---|")
    for name, times in took.items():
        print(f"| `{name}` | {median(times):.0f} | {min(times):.0f} |")

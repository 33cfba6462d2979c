"""`make bench`: what Gimbal costs, as ratios against peers measured in the same run. `--help` lists the benches.

Numbers are printed, and kept as JSON under `tests/bench/out/`; nothing here passes or fails.
"""

from __future__ import annotations

import argparse
import sys
from importlib import import_module
from pathlib import Path

sys.path.append(str(Path(__file__).parents[2]))  # for what the tests share, `fixtures`

BENCHES = {
    "speed": "CPU a call, throughput and latency, beside nginx, Caddy and mitmproxy",
    "memory": "memory of gateway and store over many calls that expire",
    "learning": "what learning costs a shape seen before and a new one, beside GenSON and orjson.loads",
    "adaptation": "what an answer costs that is as pinned, that is adapted, and that is learned from",
    "outcomes": "what reading an answer costs, beside parsing it",
    "scale": "how N processes on one store share what is due, and take over what one left",
    "start": "how long `import gateway` and `gimbal --help` take",
}
"""Module beside this one -> what it measures. It has `options(parser)` and `main(options)`."""

BY_DEFAULT = "speed"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="tests/bench/run.py", description=(__doc__ or "").split("\n", maxsplit=1)[0]
    )
    benches = parser.add_subparsers(metavar="BENCH", help=f"default: {BY_DEFAULT}")
    for name, line in BENCHES.items():
        bench = import_module(name)
        one = benches.add_parser(name, help=line, description=bench.__doc__)
        bench.options(one)
        one.set_defaults(main=bench.main)
    options = parser.parse_args()
    if not hasattr(options, "main"):
        options = parser.parse_args([BY_DEFAULT])
    options.main(options)


if __name__ == "__main__":
    main()

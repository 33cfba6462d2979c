"""Forks real gateways fast: a process that has everything imported, and forks `gimbal` when it is told to.

`start.py tests.hostile.soak.nursery` reads one JSON object a line and says one a line:

    {"id": 1, "argv": ["serve", ...], "out": FILE}   ->   {"id": 1, "pid": 4711}, later {"pid": 4711, "ended": -9}

A start then costs milliseconds instead of a second, so that thousands of kills fit into an hour. What is forked
is the whole gateway, through its command line. Further members plant what only tests want:

    "at": n, "signal": 9|19   send itself that signal at the n-th boundary (`points`); 0: never
    "points": FILE            where boundaries are said; "trace": true says each, not only the fatal one
    "mutant": NAME            a planted bug (`mutants`)

Children die with this process, and this process with its parent.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import select
import signal
import sys
from typing import Any

import uvloop

import gateway.commands.serve
import gateway.runner
import gateway.server
from gateway.__main__ import main as gimbal
from policies.claims import LEASE
from tests.hostile.serving import die_with_parent
from tests.hostile.soak.mutants import MUTANTS
from tests.hostile.soak.points import Points, plant

APPEND = os.O_WRONLY | os.O_CREAT | os.O_APPEND

READY = (uvloop, gateway.commands.serve, gateway.server)
"""What a gateway imports late; here, so that no child has to."""


def fork(order: dict[str, Any]) -> int:
    """Fork a gateway; return its process number."""
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        die_with_parent()
        _become(order)
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        os._exit(code)


def _say_tasks(*_: Any) -> None:
    """Say what every task of the gateway waits for."""
    for task in list(asyncio.tasks._all_tasks):  # type: ignore[attr-defined]
        task.print_stack(file=sys.stderr)


def _become(order: dict[str, Any]) -> None:
    with open(os.devnull) as nothing:
        os.dup2(nothing.fileno(), 0)
    out = os.open(order["out"], APPEND, 0o600)
    os.dup2(out, 1)
    os.dup2(out, 2)
    signal.signal(signal.SIGUSR1, _say_tasks)
    if order.get("mutant"):
        MUTANTS[order["mutant"]]()
    if order.get("at") or order.get("trace"):
        gateway.runner.POLL = LEASE  # one look at a twin elsewhere instead of fifty: boundaries keep their numbers
        said = os.open(order["points"], APPEND, 0o600)
        plant(Points(order.get("at", 0), order.get("signal", 9), said, order.get("trace", False)))
    sys.argv = ["gimbal", *order["argv"]]
    gimbal()


def main() -> None:
    die_with_parent()
    gc.freeze()  # what is shared stays shared
    pending = b""
    while True:
        ready, _, _ = select.select([0], [], [], 0.02)
        if ready:
            read = os.read(0, 65536)
            if not read:
                return
            *lines, pending = (pending + read).split(b"\n")
            for line in lines:
                order = json.loads(line)
                _say({"id": order["id"], "pid": fork(order)})
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if not pid:
                    break
                _say({"pid": pid, "ended": os.waitstatus_to_exitcode(status)})


def _say(said: dict[str, int]) -> None:
    os.write(1, json.dumps(said).encode() + b"\n")


if __name__ == "__main__":
    main()

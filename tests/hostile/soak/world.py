"""What a proof needs around it: gateways and an engine to kill, a way to ask them, an upstream that counts.

All of it lives on the event loop of the proof; the upstream counts on a thread of its own.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from fixtures.upstreams.counting import Counting
from tests.hostile.serving import die_with_parent
from tests.hostile.soak.store import STORES, Engine

T = TypeVar("T")

START = str(Path(__file__).with_name("start.py"))

PATIENCE = 180.0
"""Seconds for what must come: a start. Long, for a busy machine: what it proves is no speed."""

CONFIG = """
[retention]
ended = "1h"

[upstreams.shop]
base_url = "{url}"
timeout = "4s"

[upstreams.till]
base_url = "{url}/keyed"
timeout = "4s"
idempotency = {{ carrier = "header", name = "Idempotency-Key", window = "1h" }}

[upstreams.desk]
base_url = "{url}"
timeout = "4s"

[[upstreams.desk.operations]]
match = "POST /**"
lookup = {{ get = "/effects-of/{{header.X-Ref}}", found = "/effects", absent_after = "1s" }}

[upstreams.shelf]
base_url = "{url}/keyed"
timeout = "4s"
idempotency = {{ carrier = "header", name = "Idempotency-Key", window = "1h" }}
"""
"""What each can do is told by `oracle.Step`. An answer that takes longer than 4 s counts as lost."""


@dataclass(slots=True)
class Running:
    """A gateway in a process of its own."""

    pid: int
    place: Path
    ended: asyncio.Future[int]
    url: str = ""
    stopped: bool = False

    @property
    def alive(self) -> bool:
        return not self.ended.done()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)

    def stop(self) -> None:
        self.stopped = True
        self._signal(signal.SIGSTOP)

    def go_on(self) -> None:
        self.stopped = False
        self._signal(signal.SIGCONT)

    def say_tasks(self) -> None:
        """Let it say what its tasks wait for; see `World.complaints`."""
        self._signal(signal.SIGUSR1)

    def is_stopped(self) -> bool:
        """Does Linux say that it is stopped?"""
        with contextlib.suppress(OSError):
            return Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()[0] == "T"
        return False

    def points(self) -> list[str]:
        """What it said of boundaries."""
        with contextlib.suppress(FileNotFoundError):
            return self.place.with_suffix(".points").read_text().splitlines()
        return []

    def hit(self) -> str:
        """The label of the boundary it was signalled at, else nothing."""
        return next((line[1:].partition(" ")[2] for line in self.points() if line.startswith("!")), "")

    def _signal(self, number: int) -> None:
        if self.alive:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)


@dataclass
class World:
    """One store, one upstream, and as many gateways as one starts."""

    home: Path
    engine: Engine
    upstream: Counting
    running: list[Running] = field(default_factory=list)
    taught: bool = False  # does the engine know the gateway's scripts?
    _nursery: asyncio.subprocess.Process | None = None
    _born: dict[int, asyncio.Future[tuple[int, asyncio.Future[int]]]] = field(default_factory=dict)
    _ended: dict[int, asyncio.Future[int]] = field(default_factory=dict)
    _number: itertools.count[int] = field(default_factory=itertools.count)
    _stores: itertools.count[int] = field(default_factory=itertools.count)

    async def gateway(
        self,
        at: int = 0,
        number: int = signal.SIGKILL,
        *,
        trace: bool = False,
        mutant: str = "",
        store: int = 0,
    ) -> Running:
        """Start a gateway and wait until it listens. It signals itself `number` at the `at`-th boundary."""
        assert self._nursery is not None and self._nursery.stdin is not None
        order = next(self._number)
        place = self.home / f"g{order}"
        argv = ["serve", "--json", "--listen", "127.0.0.1:0", "--data", str(self.home / "data")]
        argv += ["--store", f"{self.engine.url}?db={store}", "--config", str(self.home / "gimbal.toml")]
        told: dict[str, Any] = {"id": order, "argv": argv, "out": f"{place}.out", "points": f"{place}.points"}
        told |= {"at": at, "signal": int(number), "trace": trace, "mutant": mutant}
        born = self._born[order] = asyncio.get_running_loop().create_future()
        self._nursery.stdin.write(json.dumps(told).encode() + b"\n")
        pid, ended = await born
        one = Running(pid, place, ended)
        self.running.append(one)
        async with asyncio.timeout(PATIENCE):
            while one.alive and not one.url:
                await asyncio.sleep(0.01)
                with contextlib.suppress(FileNotFoundError, IndexError, ValueError, KeyError):
                    one.url = json.loads(Path(f"{place}.out").read_text().splitlines()[-1])["url"]
        return one

    def forget(self, one: Running) -> None:
        """Delete what an ended gateway left behind, but not what it complained of."""
        self.running.remove(one)
        one.place.with_suffix(".points").unlink(missing_ok=True)
        out = one.place.with_suffix(".out")
        if out.exists() and out.read_bytes().count(b"\n") <= 1:
            out.unlink()

    def complaints(self) -> list[str]:
        """Return what gateways said beside that they listen: the last lines of each, once."""
        every = [place.read_text(errors="replace") for place in sorted(self.home.glob("*.out"))]
        return list(
            dict.fromkeys("\n".join(said.splitlines()[1:][-150:]) for said in every if said.count("\n") > 1)
        )

    def new_store(self) -> int:
        """Return the number of a store nobody has used for long."""
        return next(self._stores) % STORES

    @property
    def admin(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {(self.home / 'data' / 'admin-token').read_text().strip()}"}

    async def hear(self) -> None:
        """Note what the nursery says, until it ends."""
        assert self._nursery is not None and self._nursery.stdout is not None
        while line := await self._nursery.stdout.readline():
            said = json.loads(line)
            if "id" in said:
                ended = self._ended[said["pid"]] = asyncio.get_running_loop().create_future()
                _tell(self._born.pop(said["id"]), (said["pid"], ended))  # both: its end may be heard of at once
            else:
                _tell(self._ended.pop(said["pid"]), said["ended"])
        left: list[asyncio.Future[Any]] = [*self._born.values(), *self._ended.values()]
        for waiting in left:
            if not waiting.done():
                waiting.set_exception(RuntimeError("the nursery ended"))
                waiting.exception()  # seen here; who waits sees it too


def _tell(waiting: asyncio.Future[T], said: T) -> None:
    if not waiting.done():  # a cancelled one waits for nothing
        waiting.set_result(said)


@asynccontextmanager
async def a_world(fsync: Literal["always", "everysec", "no"] = "always") -> AsyncIterator[World]:
    """Open a world; everything in it ends with the block, and with us."""
    home = Path(tempfile.mkdtemp(prefix="gimbal-soak-"))
    (home / "engine").mkdir()
    engine = Engine(home / "engine", fsync)
    pipe = asyncio.subprocess.PIPE
    with Counting() as upstream:
        (home / "gimbal.toml").write_text(CONFIG.format(url=upstream.url))
        world = World(home, engine, upstream)
        await engine.start()
        world._nursery = await asyncio.create_subprocess_exec(
            *(sys.executable, START, "tests.hostile.soak.nursery"),
            stdin=pipe,
            stdout=pipe,
            preexec_fn=die_with_parent,
        )
        hearing = asyncio.create_task(world.hear())
        try:
            yield world
        finally:
            world._nursery.kill()
            await world._nursery.wait()
            await hearing
            await engine.kill()
            shutil.rmtree(home, ignore_errors=True)

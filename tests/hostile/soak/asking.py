"""How a caller of the proof asks a gateway, and what it is told."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from urllib.parse import urlsplit


@dataclass(frozen=True, slots=True)
class Answer:
    """What a caller was told."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def problem(self) -> str:
        """The slug of an answer the gateway made itself, else nothing."""
        if self.headers.get("content-type") != "application/problem+json":
            return ""
        return str(json.loads(self.body)["type"]).rpartition("/")[2]


HANGS = 90.0
"""Seconds in which a gateway answers, whatever happens: its callers' patience is half of it, and then a store
may be away."""

HUNG = Answer(0, {}, b"")


async def ask(url: str, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer | None:
    """Ask once, on a connection of its own. None: no whole answer came. `HUNG`: not even an end, in `HANGS`."""
    parts = urlsplit(url)
    writer = None
    try:
        async with asyncio.timeout(HANGS):
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            lines = [f"{method} {path} HTTP/1.1", f"Host: {parts.netloc}", "Connection: close"]
            lines += [f"Content-Length: {len(body)}", *(f"{name}: {value}" for name, value in headers.items())]
            writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            return _read(await reader.read(-1))
    except TimeoutError:
        return HUNG
    except OSError:
        return None
    finally:
        if writer is not None:
            writer.transport.abort()


def _read(data: bytes) -> Answer | None:
    head, end, body = data.partition(b"\r\n\r\n")
    if not end:
        return None
    line, *fields = head.decode("latin-1").split("\r\n")
    headers = {name.lower(): value.strip() for name, _, value in (field.partition(":") for field in fields)}
    if len(body) < int(headers.get("content-length", "0")):
        return None
    return Answer(int(line.split(" ")[1]), headers, body)

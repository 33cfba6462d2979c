"""From a base URL to a connected transport, or to the fault that says at which step it failed.

Name, connection and TLS are separate steps here, so that each has its own phase, on asyncio and on uvloop
(whose `create_connection` knows no Happy Eyeballs and tells the steps apart no better).
"""

from __future__ import annotations

import asyncio
import re
import socket
import ssl
from collections import deque
from dataclasses import dataclass
from itertools import chain, zip_longest
from typing import Any, TypeVar
from urllib.parse import urlsplit

from discovery.exchange import Fault, Phase
from gateway.problems import ConfigError

P = TypeVar("P", bound=asyncio.Protocol)

ATTEMPT_DELAY = 0.25
"""Seconds before the next address is tried beside a silent one (RFC 8305 8)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where an upstream is: parts of its base URL, ready for use. `tls` is None for plain http."""

    host: str
    port: int
    authority: bytes
    prefix: bytes
    tls: ssl.SSLContext | None


def origin_of(base_url: str, verify: bool | str = True) -> Origin:
    """Return the origin `base_url` names. Raises `ConfigError` for one that cannot be an upstream's.

    `verify` is False, or a path to a CA bundle that takes the place of the system's.
    """
    try:
        url = urlsplit(base_url)
        port = url.port
        host = (url.hostname or "").encode("idna").decode()
    except ValueError as error:
        raise ConfigError(f"base_url {base_url!r} is no URL: {error}") from error
    if url.scheme not in ("http", "https") or not host:
        raise ConfigError(f"base_url {base_url!r} must begin with http:// or https:// and a host")
    if "@" in url.netloc:
        raise ConfigError("a base_url must not hold credentials: inject them with `headers`")
    if "?" in base_url or "#" in base_url:
        raise ConfigError(f"base_url {base_url!r} must end with its path: no query, no fragment")
    if re.fullmatch(r"[!-~]*", url.path) is None:
        raise ConfigError(f"base_url {base_url!r} must be percent-encoded ASCII")
    default = 443 if url.scheme == "https" else 80
    shown = f"[{host}]" if ":" in host else host
    authority = shown if port in (None, default) else f"{shown}:{port}"
    tls = _context(verify) if url.scheme == "https" else None
    return Origin(host, port or default, authority.encode(), url.path.rstrip("/").encode(), tls)


def _context(verify: bool | str) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=verify if isinstance(verify, str) else None)
    except OSError as error:
        raise ConfigError(f"the CA bundle {verify!r} cannot be read: {error}") from error
    if verify is False:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["http/1.1"])
    return context


async def dial(origin: Origin, protocol: P, timeout: float) -> P | Fault:
    """Connect `protocol` to `origin`. `timeout` seconds for name and connection, as much again for TLS."""
    loop = asyncio.get_running_loop()
    phase = Phase.NAME
    try:
        async with asyncio.timeout(timeout):
            infos = await loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            phase = Phase.CONNECT
            sock = await _race(_interleaved(infos))
        if origin.tls is None:
            await loop.create_connection(lambda: protocol, sock=sock)
        else:
            phase = Phase.TLS
            await loop.create_connection(
                lambda: protocol,
                sock=sock,
                ssl=origin.tls,
                server_hostname=origin.host,
                ssl_handshake_timeout=timeout,
            )
    except TimeoutError:
        return Fault(phase, f"no answer from {origin.host} port {origin.port} in {timeout:g} s", timed_out=True)
    except (OSError, UnicodeError) as error:  # ssl.SSLError is one
        timed_out = "is taking longer than" in str(error)  # how asyncio and uvloop say a handshake's timeout
        return Fault(
            phase, f"{origin.host} port {origin.port}: {error or type(error).__name__}", timed_out=timed_out
        )
    return protocol


def _interleaved(infos: list[Any]) -> list[Any]:
    """Order addresses so that families take turns, beginning with the resolver's first (RFC 8305 4)."""
    first = [info for info in infos if info[0] == infos[0][0]]
    other = [info for info in infos if info[0] != infos[0][0]]
    return [info for info in chain.from_iterable(zip_longest(first, other)) if info is not None]


async def _race(infos: list[Any]) -> socket.socket:
    """Return the first socket that connects, each address getting `ATTEMPT_DELAY` before the next joins in."""
    if len(infos) == 1:
        return await _connected(infos[0])
    waiting = deque(infos)
    running: set[asyncio.Task[socket.socket]] = set()
    first_error: BaseException | None = None
    try:
        while waiting or running:
            if waiting:
                running.add(asyncio.create_task(_connected(waiting.popleft())))
            done, running = await asyncio.wait(
                running, timeout=ATTEMPT_DELAY if waiting else None, return_when=asyncio.FIRST_COMPLETED
            )
            won = [task.result() for task in done if task.exception() is None]
            for spare in won[1:]:
                spare.close()
            if won:
                return won[0]
            first_error = first_error or next((task.exception() for task in done), None)
    finally:
        for task in running:
            task.cancel()
    raise first_error or OSError("no address")


async def _connected(info: Any) -> socket.socket:
    family, kind, proto, _, address = info
    sock = socket.socket(family, kind, proto)
    try:
        sock.setblocking(False)
        await asyncio.get_running_loop().sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock

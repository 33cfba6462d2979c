"""What crossed the wire: plain values for requests, responses, faults and their exchanges.

Bytes are kept as they were: header order, repeated headers, the target as it was written.
Reading them (JSON, forms, XML, compressed bodies) is `discovery.body`.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from discovery.constant import constant

Json: TypeAlias = "None | bool | int | float | str | list[Json] | dict[str, Json]"

Header: TypeAlias = tuple[bytes, bytes]
Headers: TypeAlias = tuple[Header, ...]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "TRACE"})
"""RFC 9110 9.2.1: they ask for no effect."""

IDEMPOTENT_METHODS = SAFE_METHODS | {"PUT", "DELETE"}
"""RFC 9110 9.2.2: sending them twice has the effect of sending them once."""


def find(headers: Headers, name: bytes) -> bytes | None:
    """Return the first value of header `name` (given in lower case), or None."""
    for key, value in headers:
        if key.lower() == name:
            return value
    return None


@constant
class Request:
    """One request as it goes over the wire; `target` is the origin form, percent-encoding untouched."""

    method: str
    target: bytes
    headers: Headers = ()
    body: bytes = b""

    @property
    def path(self) -> bytes:
        return self.target.partition(b"?")[0]

    @property
    def query(self) -> bytes:
        return self.target.partition(b"?")[2]

    def header(self, name: bytes) -> bytes | None:
        return find(self.headers, name)


@constant
class Response:
    """One complete final response; `body` is as received (still compressed if it came so)."""

    status: int
    headers: Headers = ()
    body: bytes = b""
    reason: bytes = b""

    def header(self, name: bytes) -> bytes | None:
        return find(self.headers, name)


class Phase(StrEnum):
    """How far a request had got when it failed. The order of the members is the order of events."""

    NAME = "name"  # the host name did not resolve
    CONNECT = "connect"  # refused, unreachable, timed out
    TLS = "tls"  # handshake or certificate
    POOL = "pool"  # no connection became free in time
    UNSENT = "unsent"  # connected, but no byte of this request left (a stale connection, an ended lease)
    WRITE = "write"  # some bytes left
    WAIT = "wait"  # all bytes left, no byte of an answer came
    HEAD = "head"  # the answer broke off inside its head
    BODY = "body"  # a status came, the body broke off


UNSENT_PHASES = frozenset({Phase.NAME, Phase.CONNECT, Phase.TLS, Phase.POOL, Phase.UNSENT})


@dataclass(frozen=True, slots=True)
class Fault:
    """No (whole) response. `unsent` faults are safe to repeat; after any other the effect is unknown."""

    phase: Phase
    detail: str
    status: int | None = None  # known in phase BODY
    timed_out: bool = False

    @property
    def unsent(self) -> bool:
        return self.phase in UNSENT_PHASES


@constant
class Exchange:
    """One request to an upstream with what came of it; `at` is epoch seconds of its start, if known."""

    upstream: str
    request: Request
    answer: Response | Fault
    at: float | None = None
    base_url: str = ""
    source: str = ""

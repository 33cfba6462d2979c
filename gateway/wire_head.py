"""The heads of messages: what is written for a request, and which headers end at this hop.

Pure functions over bytes. Order, case, repetition and latin-1 bytes of headers stay as they were;
the target goes out byte for byte behind the base URL's path.
"""

from __future__ import annotations

import re
from dataclasses import replace

from discovery.exchange import Fault, Headers, Phase, Request

HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authentication-info",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
        b"clear-site-data",
        b"nel",
        b"service-worker-allowed",
    }
)
"""RFC 9110 7.6.1, with `Trailer` (trailers are dropped with the chunked coding that carries them), the proxy's own
authentication (11.7): its secrets are the gateway's, not the upstream's, and what would order a browser about for
a whole origin, which is the gateway's here: to forget its sessions, tell its addresses, let a script before it."""

_NOTED = HOP_BY_HOP | {b"host", b"expect", b"content-length"}
"""Of a request: what the wire writes itself. `Expect`, because the whole body is at hand (RFC 9110 10.1.1)."""

_COMMON = {method: method.encode() for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")}
_EXPECT_BODY = frozenset({"POST", "PUT", "PATCH"})
"""Methods that say `Content-Length: 0` for an empty body (RFC 9110 8.6)."""

TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
"""A method, or a header's name (RFC 9110 5.6.2)."""

_TARGET = re.compile(rb"/[!-~\x80-\xff]*")
_LENGTH = re.compile(rb"(?i)^content-length:[ \t]*([^\r\n]*?)[ \t]*\r\n", re.MULTILINE)
_INTERIM = re.compile(rb"HTTP/1\.[01] 1\d\d")


def forwardable(headers: Headers) -> Headers:
    """Return `headers` without those that end at this hop, including the ones `Connection` names."""
    for name, _ in headers:
        if name.lower() in HOP_BY_HOP:
            ending = _ending(headers, HOP_BY_HOP)
            return tuple([header for header in headers if header[0].lower() not in ending])
    return headers  # `Connection` itself would have been met


def compose(request: Request, host: bytes, prefix: bytes, length: int | None) -> bytes | Fault:
    """Return the request's head as it goes out, framed by `length` or, if that is None, chunked.

    A request that would not survive as one message (line breaks in a header, a blank in the target)
    is refused, as a fault in phase `unsent`.
    """
    method = _COMMON.get(request.method) or _token(request.method)
    out = [method, b" ", prefix, request.target, b" HTTP/1.1\r\nHost: ", host, b"\r\n", b""]
    sized = False
    for name, value in request.headers:
        lower = name.lower()
        if lower not in _NOTED:
            out += (name, b": ", value, b"\r\n")
        elif lower == b"content-length" and length is not None and not sized:
            sized = True
            out += (name, b": ", b"%d" % length, b"\r\n")
        elif lower == b"connection" and value.lower() not in (b"keep-alive", b"close"):
            return compose(replace(request, headers=forwardable(request.headers)), host, prefix, length)
    if length is None:
        out += (b"Transfer-Encoding", b": ", b"chunked", b"\r\n")
    elif not sized and (length or request.method in _EXPECT_BODY):
        out += (b"Content-Length", b": ", b"%d" % length, b"\r\n")
    lines = len(out) // 4 + 1  # four pieces a line, the first two lines in eight, and the empty line
    out.append(b"\r\n")
    head = b"".join(out)
    if (
        not method
        or _TARGET.fullmatch(request.target) is None
        or not head.count(b"\n") == head.count(b"\r") == lines
        or b"\0" in head
    ):
        return Fault(Phase.UNSENT, "the method, target or a header cannot be written in HTTP/1.1")
    return head


def mend(raw: bytes) -> bytes | None:
    """Return an answer's bytes `raw` with a repeated but agreeing Content-Length said once.

    RFC 9110 8.6 allows taking `5, 5` for `5`. Lengths that differ are an attack or a defect: None.
    Empty while the head is not complete.
    """
    start = 0
    while _INTERIM.match(raw, start):
        start = raw.index(b"\r\n\r\n", start) + 4
    end = raw.find(b"\r\n\r\n", start) + 2
    if end == 1:
        return b""
    head = raw[start:end]
    said: list[bytes] = [value.strip() for line in _LENGTH.findall(head) for value in line.split(b",")]
    if len(said) < 2 or len(set(said)) != 1 or not said[0].isdigit():
        return None
    once = _LENGTH.sub(b"", head) + b"Content-Length: " + said[0] + b"\r\n"
    return raw[:start] + once + raw[end:]


def _ending(headers: Headers, always: frozenset[bytes]) -> frozenset[bytes]:
    named = [value for name, value in headers if len(name) == 10 and name.lower() == b"connection"]
    if not named:
        return always
    return always.union(token.strip().lower() for value in named for token in value.split(b","))


def _token(method: str) -> bytes:
    return method.encode() if TOKEN.fullmatch(method) else b""

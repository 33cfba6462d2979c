"""`Prefer` (RFC 7240): what the caller prefers, as far as the gateway honours it."""

from __future__ import annotations

import re
from dataclasses import dataclass

from discovery.exchange import Headers

_PREFERENCE = re.compile(rb'(?:[^",]+|"(?:[^"\\]|\\.)*"?)+')
"""Up to a comma that stands in no quoted string; one that is not closed reaches to the end."""

_HEAD = re.compile(rb'(?:[^";]+|"(?:[^"\\]|\\.)*"?)+')
"""A preference without its parameters."""

_SECONDS = re.compile(rb"\d{1,9}(?:\.\d{0,9})?|\.\d{1,9}")


@dataclass(frozen=True, slots=True)
class Prefer:
    """What is honoured of it, and `rest`, which is for the upstream."""

    wait: float | None = None
    respond_async: bool = False
    rest: bytes = b""


_NOTHING = Prefer()


def prefer_of(headers: Headers) -> Prefer:
    """Return what `headers` (names in lower case) prefer."""
    values = [value for name, value in headers if name == b"prefer"]
    return read_prefer(values) if values else _NOTHING


def read_prefer(values: list[bytes]) -> Prefer:
    """Return what several `Prefer` headers say as one. What cannot be read is ignored; of two of one name, the
    first counts (RFC 7240 2). `wait` may have a fraction, beyond the RFC: a caller in a hurry means it.
    """
    wait: float | None = None
    waits = False
    respond_async = False
    rest: list[bytes] = []
    for found in _PREFERENCE.findall(b",".join(values)):
        written = found.strip(b" \t")
        head = _HEAD.match(written)
        name, _, value = (head[0] if head else b"").partition(b"=")
        match name.strip(b" \t").lower():
            case b"wait":
                if not waits and (seconds := _SECONDS.fullmatch(_word(value))):
                    wait = float(seconds[0])
                waits = True
            case b"respond-async":
                respond_async = True
            case b"" if not written:
                pass
            case _:
                rest.append(written)
    return Prefer(wait, respond_async, b", ".join(rest))


def _word(value: bytes) -> bytes:
    """Return a token, or what a quoted string holds (RFC 9110 5.6.4)."""
    value = value.strip(b" \t")
    if value[:1] == b'"':
        return re.sub(rb"\\(.)", rb"\1", value[1:].removesuffix(b'"'))
    return value

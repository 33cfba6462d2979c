"""What a call carries that only its caller has, and whether it may be kept while the call waits."""

from __future__ import annotations

import re

from discovery.exchange import Headers, Request
from policies.actions import Call
from policies.claims import Credentials, Record

_SIGNED = re.compile(rb"(?:AWS4|Signature\b|OAuth\b(?=.*oauth_)|Digest\b|Hawk\b|SharedKey|HMAC|GOOG4-)", re.I)
"""Authorization schemes whose value was computed over this one request and its time."""

_DATED = frozenset(
    {b"x-amz-date", b"x-ms-date", b"x-goog-date", b"signature", b"signature-input", b"x-signature", b"dpop"}
)
"""Headers that go with such a signature."""

_SIGNED_QUERY = re.compile(rb"[?&](?:X-Amz-Signature|X-Goog-Signature|oauth_signature|Signature)=", re.I)


def is_signed(request: Request) -> bool:
    """Was it signed over its headers and time (SigV4 and kin)? Then it can only go out soon, or signed anew."""
    for name, value in request.headers:
        lower = name.lower()
        if lower in _DATED or (lower == b"authorization" and _SIGNED.match(value)):
            return True
    return _SIGNED_QUERY.search(request.target) is not None


def carried(call: Call) -> Credentials:
    """Return who has what the call carries, when it is first claimed: nobody is needed, or its caller."""
    bare = len(call.frozen.headers) == len(call.request.headers) and b"ignature=" not in call.request.target
    return Credentials.NONE if bare else Credentials.CALLER


def brought(call: Call) -> Headers:
    """Return the headers the frozen request lacks."""
    kept = {name.lower() for name, _ in call.frozen.headers}
    return tuple(header for header in call.request.headers if header[0].lower() not in kept)


def keeping(call: Call) -> tuple[Credentials | None, Headers]:
    """Return what becomes of the call's credentials when it has to wait: who has them then, and what to keep."""
    if not call.attended:
        return None, ()
    if is_signed(call.request):
        return Credentials.CALLER, ()
    headers = brought(call)
    if not headers:
        return None, ()
    return (Credentials.KEPT, headers) if call.keeps else (Credentials.CALLER, ())


def goes_on(record: Record) -> bool:
    """Can it go on without its caller?"""
    return record.credentials is not Credentials.CALLER

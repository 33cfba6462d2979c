"""Identity that goes upstream: an idempotency key in the place where the upstream looks for it."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import orjson

from discovery.exchange import Request
from policies.rules import Idempotency


def with_key(request: Request, profile: Idempotency, key: str) -> Request:
    """Return `request` carrying `key` as `profile` says; a key of the caller's in that place gives way.

    A body that is no JSON object cannot carry one and stays as it is.
    """
    match profile.carrier:
        case "none":
            return request
        case "header":
            name = profile.name.lower().encode()
            others = tuple(header for header in request.headers if header[0].lower() != name)
            return replace(request, headers=(*others, (profile.name.encode(), key.encode())))
        case "query":
            joint = b"&" if b"?" in request.target else b"?"
            pair = f"{quote(profile.name, safe='')}={key}".encode()
            return replace(request, target=request.target + joint + pair)
        case "body":
            return replace(request, body=_with_member(request.body, profile.name, key))


def _with_member(body: bytes, name: str, key: str) -> bytes:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    if not isinstance(value, dict):
        return body
    return orjson.dumps({**value, name: key})

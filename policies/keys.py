"""Identity of requests: the key an upstream gets, where it looks for it; and where two requests differ."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import quote

import orjson

from discovery.body import read_body
from discovery.exchange import Headers, Json, Request
from policies.claims import upstream_key
from policies.credentials import is_signed
from policies.rules import Idempotency, Stores


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


def key_for(call: str, generation: int, profile: Idempotency, item: str = "") -> str:
    """Return the key a generation's request goes out with.

    An upstream that remembers every definite answer would tell the next generation what it told the last, so each
    has a key of its own. One that remembers successes alone gets the same key for all: after an error it runs
    anew, and what succeeded is replayed even where the store lost the record and the count of generations with it.
    """
    return upstream_key(call, 1 if profile.stores is Stores.SUCCESS else generation, item)


def _with_member(body: bytes, name: str, key: str) -> bytes:
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError:
        return body
    if not isinstance(value, dict):
        return body
    return orjson.dumps({**value, name: key})


def with_credentials(frozen: Request, fresh: Request) -> Request:
    """Return the frozen request with the credentials that the present caller brings.

    A request signed over its headers and time (SigV4 and kin) goes out as it was signed anew.
    """
    if is_signed(fresh):
        return fresh
    kept = {name.lower() for name, _ in frozen.headers}
    brought = tuple(header for header in fresh.headers if header[0].lower() not in kept)
    return Request(frozen.method, frozen.target, frozen.headers + brought, frozen.body)


def differences(kept: Request | None, asked: Request) -> list[Json]:
    """Return where `asked` differs from the request kept under the same step: names, never values."""
    if kept is None:
        return []
    found: list[Json] = []
    if kept.method != asked.method:
        found.append("method")
    if kept.path != asked.path:
        found.append("path")
    if kept.query != asked.query:
        found.append("query")
    if kept.body != asked.body:
        before, after = read_body(kept.headers, kept.body).value, read_body(asked.headers, asked.body).value
        if isinstance(before, dict) and isinstance(after, dict):
            missing = object()
            names = {name for name in (*before, *after) if before.get(name, missing) != after.get(name, missing)}
            found += [f"body/{name}" for name in sorted(names)]
        else:
            found.append("body")
    return found or ["headers"]


def replay_sign(headers: Headers) -> str | None:
    """Return the header by which an upstream shows that it keeps idempotency keys, as `Name: value`, or None.

    A hint for whoever writes its profile: a header proves no window, so nothing is repeated because of it.
    """
    for name, value in headers:
        if name[:4].lower() == b"idem" and name.lower() in _REPLAY_SIGNS:
            return f"{name.decode('latin-1')}: {value.decode('latin-1')[:40]}"
    return None


_REPLAY_SIGNS = frozenset({b"idempotent-replayed", b"idempotency-replayed", b"idempotency-status"})

"""Headers -> Call: whose step a request is, what it asks, and how long its caller will wait. Pure.

The gateway's control headers are read here and never reach an upstream.
"""

from __future__ import annotations

import json
import math
import re
from functools import lru_cache
from hashlib import blake2b
from typing import cast
from urllib.parse import parse_qsl

import http_sf
import orjson

from discovery.constant import constant
from discovery.exchange import Header, Headers, Request
from discovery.redaction import is_secret_name, redact_query
from gateway.prefer import Prefer, prefer_of
from policies.actions import Call
from policies.claims import KEY_ONLY, Callback, Replays, StepKey, call_id
from policies.reply import Problem
from policies.rules import Rules

CONTROL = frozenset(
    {
        b"workflow-id",
        b"workflow-type",
        b"workflow-step",
        b"workflow-run",
        b"workflow-progress",
        b"proxy-authorization",
    }
)
"""Read by the gateway, never passed on. `Prefer` is split: what we honour is taken out."""

MARKERS = (
    b"idempotency-key",
    b"amz-sdk-invocation-id",
    b"x-amz-client-token",
    b"x-request-id",
    b"x-ms-client-request-id",
)
"""Headers by which an SDK marks its own repeats of one call."""

MEANINGFUL = frozenset(
    (
        b"accept",
        b"content-type",
        b"if-match",
        b"if-none-match",
        b"soapaction",
        b"stripe-account",
        b"stripe-version",
        b"x-amz-target",
        b"x-http-method-override",
    )
)
"""Headers that change what a request means, and so join its fingerprint. `Accept` is left out of it when `*/*`."""

_VISIBLE = re.compile(r"[\x21-\x7e]{1,255}")
_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else byte for byte in range(256))  # every digit becomes a nought
_LONG_NUMBER = b"0" * 17  # more digits than a double tells apart
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,255}")


@constant
class Claimant:
    """Who is calling, as its headers say."""

    workflow: tuple[str, str] | None = None  # type and id
    step: str = ""
    run: str = ""
    progress: float | None = None
    key: str = ""
    marker: str = ""
    prefer: Prefer = Prefer()
    trace: str = ""


class Malformed(ValueError):
    """A control header that cannot be read; its text is for the caller."""


def read_claimant(headers: Headers, default: tuple[str, str] | None = None, run: str = "") -> Claimant:
    """Return what the control headers say. Raise `Malformed` naming the header and the cure.

    `default` and `run` identify calls that bring no identity of their own (`gimbal run`).
    """
    told: dict[bytes, bytes] = {}
    for name, value in headers:
        if name in CONTROL or name == b"idempotency-key":
            if name in told and told[name] != value:
                raise Malformed(f"{name.decode()} is given twice with different values; give it once")
            told[name] = value
    type_ = _name(told, b"workflow-type") or "default"
    id_ = _name(told, b"workflow-id")
    workflow = (type_, id_) if id_ else default
    if not id_ and (b"workflow-step" in told or b"workflow-run" in told) and default is None:
        raise Malformed("Workflow-Step and Workflow-Run need a Workflow-Id: the instance they belong to")
    if type_ == KEY_ONLY:
        raise Malformed(f"Workflow-Type {KEY_ONLY!r} is the gateway's own; choose another")
    key = read_key(told[b"idempotency-key"]) if b"idempotency-key" in told else ""
    return Claimant(
        workflow,
        _name(told, b"workflow-step"),
        _name(told, b"workflow-run") or ("" if id_ else run),
        _progress(told.get(b"workflow-progress")),
        key,
        _marker(headers),
        prefer_of(headers),
        (find_one(headers, b"traceparent") or b"").decode("latin-1"),
    )


def read_key(value: bytes) -> str:
    """Return an Idempotency-Key: a structured-field string (draft-07 2.1), or the bare token clients send."""
    text = value.decode("latin-1").strip()
    if text.startswith('"'):
        try:
            item, _parameters = cast(tuple[object, object], http_sf.parse(text.encode("latin-1"), tltype="item"))
        except Exception as error:
            raise Malformed(
                f'Idempotency-Key is no structured-field string: {error}; send "..." or a bare token'
            ) from None
        text = str(item)
    if not _VISIBLE.fullmatch(text):
        raise Malformed("Idempotency-Key must be 1 to 255 visible ASCII characters")
    return text


def forwarded(headers: Headers, prefer: Prefer) -> Headers:
    """Return the headers without the gateway's own control headers; order kept."""
    kept: list[Header] = []
    for header in headers:
        name = header[0]
        if name in CONTROL:
            continue
        if name == b"prefer":
            if prefer.rest:
                kept.append((name, prefer.rest))
                prefer = Prefer(prefer.wait, prefer.respond_async)
            continue
        kept.append(header)
    return tuple(kept)


def frozen(request: Request) -> Request:
    """Return what the ledger keeps of `request`: all but the caller's credentials."""
    kept = tuple(header for header in request.headers if not _secret(header[0]))
    return Request(request.method, request.target, kept, request.body)


@lru_cache(maxsize=1024)
def _secret(name: bytes) -> bool:
    return is_secret_name(name.decode("latin-1"))


def fingerprint(upstream: str, request: Request, also: tuple[str, ...] = ()) -> str:
    """Return a digest that tells whether a repeated step is the same request.

    Method, upstream, path, sorted query, canonical body, headers that change the meaning; not credentials,
    dates or SDK markers. The same JSON in another order, or the same form, has the same fingerprint. What is
    not surely the same is different: a request taken for another would not be sent.
    """
    path, _, query = request.target.partition(b"?")
    if b"&" in query:
        fields = sorted(query.split(b"&"), key=_field)
        query = b"&".join(fields)
    kind = b""
    meaning: list[bytes] = []
    for name, value in request.headers:
        if name == b"content-type":
            kind = value.lower()
            meaning.append(b"content-type:" + kind.partition(b";")[0].strip())
        elif (name in MEANINGFUL and value != b"*/*") or (also and name.decode("latin-1") in also):
            meaning.append(name + b":" + value)
    meaning.sort()
    parts = (
        request.method.encode(),
        upstream.encode(),
        path,
        query,
        b"\n".join(meaning),
        _canonical(kind, request.body),
    )
    framed = b"".join([len(part).to_bytes(8, "big") + part for part in parts])
    return blake2b(framed, digest_size=16).hexdigest()


def _canonical(kind: bytes, body: bytes) -> bytes:
    if not body:
        return b""
    if b"json" in kind or (not kind and body[:1] in b"{["):
        try:
            if _LONG_NUMBER in body.translate(_DIGITS):  # orjson would round it
                return json.dumps(json.loads(body, parse_float=_verbatim), sort_keys=True).encode()
            return orjson.dumps(orjson.loads(body), option=orjson.OPT_SORT_KEYS)
        except (ValueError, RecursionError):
            return body
    if kind.startswith(b"application/x-www-form-urlencoded"):
        pairs = parse_qsl(body.decode("latin-1"), keep_blank_values=True, encoding="latin-1")
        return orjson.dumps(sorted(pairs, key=lambda pair: pair[0]))
    if kind.startswith(b"multipart/") and (found := re.search(rb'boundary="?([^";]+)', kind)):
        return re.sub(rb"--" + re.escape(found[1]), b"--", body, flags=re.IGNORECASE)
    return body


def _field(pair: bytes) -> bytes:
    return pair.partition(b"=")[0]


def _verbatim(number: str) -> str:
    return f"\0{number}"


def step_of(claimant: Claimant, upstream: str, caller: str, request: Request, rules: Rules) -> StepKey | None:
    """Return the step a call is, named; None when it is none, or when it must be counted (see `unnamed`)."""
    if not rules.replay:
        return None
    if claimant.workflow is not None:
        return StepKey(*claimant.workflow, claimant.step) if claimant.step else None
    if claimant.key and not rules.safe:
        return StepKey(KEY_ONLY, f"{upstream}\n{caller}", claimant.key)
    return None


def unnamed(workflow: tuple[str, str], request: Request, digest: str, occurrence: int) -> StepKey:
    """Return the derived step: operation, fingerprint, occurrence."""
    path = request.path.decode("latin-1")
    return StepKey(*workflow, f"{request.method} {path} {digest[:16]} #{occurrence}")


def shown(step: StepKey) -> StepKey:
    """Return an unnamed step as it is kept and told. Its call's id is of the step as it is: what is hidden may
    change with a version, the id may not."""
    return StepKey(step.type, step.id, redact_query(step.step.encode("latin-1")).decode("latin-1"))


@lru_cache(maxsize=4096)
def operation_of(method: str, path: bytes) -> str:
    """Return method and path as they are kept and told: segments that look secret are hidden."""
    return f"{method} {redact_query(path).decode('latin-1')}"


def call_of(
    claimant: Claimant,
    upstream: str,
    request: Request,
    rules: Rules,
    step: StepKey | None,
    digest: str,
    fresh: str,
    *,
    keeps: bool = True,
    owner: str = "",
    calls_back: bool = False,
) -> Call:
    """Return the call. `fresh` is a new id for a call that is no step. `calls_back`: its type has a callback."""
    by_key = step is not None and step.type == KEY_ONLY
    return Call(
        id=call_id(step) if step else fresh,
        upstream=upstream,
        request=request,
        frozen=frozen(request),
        fingerprint=digest,
        patience=_patience(claimant.prefer, rules),
        step=step,
        replays=Replays.DEFINITE if by_key else Replays.EFFECTS,
        identified=claimant.workflow is not None or by_key,
        respond_async=claimant.prefer.respond_async,
        workflow=claimant.workflow,
        keeps=keeps,
        owner=owner,
        callback=_callback(claimant.prefer) if calls_back else Callback.NONE,
    )


def _callback(prefer: Prefer) -> Callback:
    """Who said `respond-async` may be gone at any time."""
    return Callback.OWED if prefer.respond_async else Callback.WANTED


def _patience(prefer: Prefer, rules: Rules) -> float:
    """`respond-async` without `wait` asks for an answer at once."""
    if prefer.wait is not None:
        return prefer.wait
    return 0.0 if prefer.respond_async else rules.wait


def key_required(upstream: str) -> Problem:
    """Return what an unidentified unsafe call is told where identity is demanded (draft-07 2.7: 400)."""
    return Problem(
        "key-required",
        400,
        "This upstream wants every unsafe call identified",
        f"Send Workflow-Id (and Workflow-Step), or an Idempotency-Key, with unsafe calls to {upstream!r}.",
    )


def find_one(headers: Headers, name: bytes) -> bytes | None:
    for key, value in headers:
        if key == name:
            return value
    return None


def _marker(headers: Headers) -> str:
    for name, value in headers:
        if name in MARKERS:
            return value.decode("latin-1")
    return ""


def _name(told: dict[bytes, bytes], name: bytes) -> str:
    raw = told.get(name)
    if raw is None:
        return ""
    try:
        text = raw.decode().strip()
    except UnicodeDecodeError:
        raise Malformed(f"{name.decode()} is not UTF-8") from None
    if not _NAME.fullmatch(text):
        raise Malformed(f"{name.decode()} must be 1 to 255 characters, none of them control characters")
    return text


def _progress(raw: bytes | None) -> float | None:
    if raw is None:
        return None
    done, _, total = raw.partition(b"/")
    try:
        share = float(done) / float(total)
    except (ValueError, ZeroDivisionError):
        share = math.nan
    if not math.isfinite(share):
        raise Malformed("Workflow-Progress is done/total, such as 3/10")
    return min(1.0, max(0.0, share))


def history_step(claimant: Claimant, request: Request) -> StepKey:
    """Return the name a call that is no step has in its workflow's history."""
    workflow = claimant.workflow or ("", "")
    return StepKey(*workflow, claimant.step or operation_of(request.method, request.path))

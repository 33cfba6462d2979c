"""The ledger's values as they are stored: names of keys, and each value as bytes.

Promises: what was dumped is loaded equal; what a newer version stored is refused, never misread.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import quote, unquote

import msgspec

from discovery.exchange import Headers, Request, Response
from gateway.ports import About, Workflow
from gateway.problems import LedgerUnavailable
from policies.claims import (
    Busy,
    ChangeResult,
    ClaimResult,
    Doubtful,
    Granted,
    Kept,
    Later,
    Mismatch,
    Outdated,
    Record,
    Recorded,
    State,
    StepKey,
    shard_of,
)
from policies.reply import Original

FORMAT = 1
"""Version of what is stored of requests, answers, `about` and `credentials`: the first byte of each."""


class _Times(msgspec.Struct):
    created: float
    updated: float


_TIMES = msgspec.msgpack.Decoder(_Times)
_RECORD = msgspec.msgpack.Decoder(Record)
_REQUEST = msgspec.msgpack.Decoder(tuple[str, bytes, tuple[tuple[bytes, bytes], ...], bytes])
_HEADERS = msgspec.msgpack.Decoder(tuple[tuple[bytes, bytes], ...])
_REPLY = msgspec.msgpack.Decoder(tuple[int, tuple[tuple[bytes, bytes], ...], bytes, bytes])
_ORIGINAL = msgspec.msgpack.Decoder(tuple[bytes, int, int, int | None])
_ABOUT = msgspec.msgpack.Decoder(tuple[str, str, str, str, str, float | None, str, str])
_FORMAT = bytes((FORMAT,))
pack = msgspec.msgpack.Encoder().encode
_SHARD_OF = {f"{shard:02x}": f"gimbal:{{s{shard}}}:call:" for shard in range(256)}
_STATES = {state.value.encode(): state for state in State}


def call_key(call: str) -> str:
    return _SHARD_OF[call[:2]] + call


def workflow_name(type: str, id: str) -> str:
    return f"{quote(type, safe='')}/{quote(id, safe='')}"


def counts_key(type: str, id: str, run: str) -> str:
    return f"gimbal:{{s{shard_of(type, id)}}}:counts:{workflow_name(type, id)}/{quote(run, safe='')}"


def workflow_of(about: About) -> str:
    return workflow_name(about.step.type, about.step.id) if about.kept is None else ""


def load_told(told: bytes, record: Record) -> ClaimResult:
    match told:
        case b"granted":
            return Granted(record, resumed=False)
        case b"resumed":
            return Granted(record, resumed=True)
        case b"recorded":
            return Recorded(record)
        case b"busy":
            return Busy(record, record.lease_until)
        case b"later":
            return Later(record, record.not_before)
        case b"doubtful":
            return Doubtful(record)
        case b"mismatch":
            return Mismatch(record)
        case _:
            raise LedgerUnavailable(f"the store's script answered {told!r}")


def load_changed(kept: int, record: bytes | None) -> ChangeResult:
    return Kept(load_record(record)) if kept and record else Outdated(load_record(record) if record else None)


def load_record(packed: bytes) -> Record:
    try:
        return _RECORD.decode(packed)
    except msgspec.ValidationError as error:
        raise LedgerUnavailable(f"a record says what this version does not know ({error}): upgrade") from error


def load_times(packed: bytes) -> tuple[float, float]:
    """Return when a record was made and last changed, by the store's clock."""
    times = _TIMES.decode(packed)
    return times.created, times.updated


def load_workflow(name: str, fields: list[bytes]) -> Workflow:
    kept: dict[bytes, bytes] = dict(pairs(fields))
    type, _, id = name.partition("/")
    return Workflow(
        unquote(type),
        unquote(id),
        started=float(kept[b"started"]),
        active=float(kept.get(b"active", kept[b"started"])),
        ended=float(kept.get(b"ended", 0)),
        states={state: int(kept[raw]) for raw, state in _STATES.items() if int(kept.get(raw, 0))},
    )


def pairs(flat: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(flat[::2], flat[1::2], strict=True))


def _versioned(stored: bytes) -> memoryview:
    if stored[0] != FORMAT:
        raise LedgerUnavailable(f"a record is of format {stored[0]}; this version reads {FORMAT}: upgrade")
    return memoryview(stored)[1:]


def _dump(value: tuple[object, ...]) -> bytes:
    return _FORMAT + pack(value)


def dump_about(about: About) -> bytes:
    step = about.step
    return _dump(
        (step.type, step.id, step.step, about.upstream, about.operation, about.kept, about.trace, about.caller)
    )


def load_about(stored: bytes, request: Request) -> About:
    type, id, step, upstream, operation, kept, trace, caller = _ABOUT.decode(_versioned(stored))
    return About(StepKey(type, id, step), upstream, operation, request, kept, trace, caller)


def dump_request(request: Request) -> bytes:
    return _dump((request.method, request.target, request.headers, request.body))


def load_request(stored: bytes) -> Request:
    return Request(*_REQUEST.decode(_versioned(stored)))


def dump_reply(reply: Response) -> bytes:
    return _dump((reply.status, reply.headers, reply.body, reply.reason))


def load_reply(stored: bytes) -> Response:
    return Response(*_REPLY.decode(_versioned(stored)))


def dump_original(original: Original) -> bytes:
    reply = b"" if original.response is None else dump_reply(original.response)
    return _dump((reply, original.adapted, original.degraded, original.contract))


def load_original(stored: bytes) -> Original:
    reply, adapted, degraded, contract = _ORIGINAL.decode(_versioned(stored))
    return Original(load_reply(reply) if reply else None, adapted, degraded, contract)


def dump_headers(headers: Headers) -> bytes:
    return _dump(headers)


def load_headers(stored: bytes) -> Headers:
    return _HEADERS.decode(_versioned(stored))

"""A person's word on a call or workflow: settle, run now, give up, end. Rules are in `policies.claims`."""

from __future__ import annotations

import json
import re

from discovery.exchange import Header, Headers, Json, Response
from gateway.console.admission import Admitted
from gateway.console.messages import ConsoleRequest, Stop, bad_request, not_found
from gateway.ports import Ledger
from gateway.views import standing
from gateway.wire_head import TOKEN, forwardable
from policies.claims import ChangeResult, Outdated
from policies.reply import Problem

_VALUE = re.compile(r"[\t\x20-\x7e\x80-\xff]*")  # RFC 9110 5.5, as latin-1

ACTS = ("resolve", "retry", "cancel")


async def act(ledger: Ledger, call: str, deed: str, request: ConsoleRequest, who: Admitted, now: float) -> None:
    """Do `deed` (one of `ACTS`) to a call. Raises `Stop`: 400, 404, or 409 where its state does not allow it."""
    result: ChangeResult
    match deed:
        case "resolve":
            applied, reply, because = read_verdict(request)
            line = _line(now, "resolve", who, applied=applied, evidence=because or "a person said so")
            result = await ledger.resolve(call, applied, reply, line)
        case "retry":
            result = await ledger.hasten(call, _line(now, "retry", who))
        case _:
            result = await ledger.cancel(call, _line(now, "cancel", who))
    match result:
        case Outdated(None):
            raise Stop(not_found(f"There is no call {call!r}; its record may have expired."))
        case Outdated(record) if record is not None:
            state = record.state.value
            detail = f"The call is {state}, so it cannot be {_DONE[deed]}. {standing(record)} Nothing was changed."
            members: dict[str, Json] = {"call": call, "state": state}
            raise Stop(Problem("wrong-state", 409, "The call's state does not allow that", detail, members))


async def end(ledger: Ledger, type: str, id: str, kept: float) -> None:
    """End a workflow; its records go after `kept` seconds. Raises `Stop`: 404, or 409 while something is open."""
    if await ledger.workflow(type, id) is None:
        raise Stop(not_found(f"There is no workflow {id!r} of type {type!r}."))
    if not await ledger.end(type, id, kept):
        detail = "Some of its calls are open or in doubt. Settle them first. Nothing was changed."
        raise Stop(Problem("wrong-state", 409, "Something is still open", detail, {"workflow": id}))


def read_verdict(request: ConsoleRequest) -> tuple[bool, Response | None, str]:
    """Return whether it was applied, the upstream's answer if it is given, and how one knows."""
    told = _form_verdict(request) if request.is_form else _json_verdict(request)
    applied, response, because = told.get("applied"), told.get("response"), told.get("because", "")
    if not isinstance(applied, bool):
        raise Stop(bad_request('"applied" must be true (it took effect) or false (it did not).'))
    if not isinstance(because, str):
        raise Stop(bad_request('"because" must be a text.'))
    if response is not None and not applied:
        raise Stop(bad_request('A "response" goes with "applied": true only.'))
    return applied, None if response is None else read_response(response), because[:2000]


def read_response(told: Json) -> Response:
    """Return the upstream's answer as a person gives it: `{"status", "headers", "body"}`, checked for the wire."""
    if not isinstance(told, dict) or not told.keys() <= {"status", "headers", "body"}:
        raise Stop(bad_request('"response" must be an object of "status", "headers" and "body".'))
    status, body = told.get("status", 200), told.get("body", "")
    if not isinstance(status, int) or isinstance(status, bool) or not 200 <= status <= 599:
        raise Stop(bad_request('The status of "response" must be a number from 200 to 599.'))
    headers = forwardable(_headers(told.get("headers") or {}))
    headers = tuple(header for header in headers if header[0].lower() != b"content-length")
    is_text = isinstance(body, str)
    if not any(name.lower() == b"content-type" for name, _ in headers) and body not in ("", None):
        headers = (*headers, (b"content-type", b"text/plain; charset=utf-8" if is_text else b"application/json"))
    if body is None:
        return Response(status, headers)
    try:
        return Response(status, headers, (body if isinstance(body, str) else json.dumps(body)).encode())
    except UnicodeEncodeError:
        raise Stop(bad_request('The body of "response" holds a lone surrogate.')) from None


def _headers(told: Json) -> Headers:
    """Return headers given as an object, or as a list of pairs (which keeps order and repeats)."""
    pairs: list[Json] = [[name, value] for name, value in told.items()] if isinstance(told, dict) else []
    if isinstance(told, list):
        pairs = told
    elif not isinstance(told, dict):
        raise Stop(bad_request('The headers of "response" must be an object or a list of pairs.'))
    return tuple(_header(pair) for pair in pairs)


def _header(pair: Json) -> Header:
    match pair:
        case [str() as name, str() as value] if TOKEN.fullmatch(name) and _VALUE.fullmatch(value):
            return name.encode("ascii"), value.strip().encode("latin-1")
    raise Stop(bad_request(f"A header of the response cannot be sent: {json.dumps(pair)[:100]}."))


def _json_verdict(request: ConsoleRequest) -> dict[str, Json]:
    try:
        told: Json = json.loads(request.body)
    except (ValueError, RecursionError) as error:
        raise Stop(bad_request(f'The body is no JSON ({error}); send {{"applied": true}}.')) from None
    if not isinstance(told, dict):
        raise Stop(bad_request('The body must be an object, such as {"applied": true}.'))
    return told


def _form_verdict(request: ConsoleRequest) -> dict[str, Json]:
    told: dict[str, Json] = {
        "applied": {"yes": True, "no": False}.get(request.form("applied")),
        "because": request.form("because"),
    }
    body, status = request.form("body").strip(), request.form("status")
    if told["applied"] and body:
        if status and not status.isdecimal():
            raise Stop(bad_request("The status must be a number from 200 to 599."))
        media = "application/json" if _is_json(body) else "text/plain; charset=utf-8"
        told["response"] = {"status": int(status or 200), "headers": {"content-type": media}, "body": body}
    return told


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _line(now: float, did: str, who: Admitted, **members: Json) -> bytes:
    """Return the transcript's line for what a person did."""
    return json.dumps({"at": round(now, 3), "did": did, "by": who.by, **members}).encode()


_DONE = {"resolve": "settled", "retry": "hurried", "cancel": "given up"}

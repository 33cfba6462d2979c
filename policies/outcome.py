"""What an answer means: an outcome, an effect, and why, read from status, headers and body.

`classify()` never raises and never guesses an effect. It believes, in this order: the protocol (a fault, a
status), what the body denies or tells item by item, codes meant for programs, sentences. A status in the 200s
is believed unless the body denies it by its structure; words in data deny nothing. What was refused had no
effect; what failed inside the server, after an unsafe request, has an unknown one, whatever its sentences say.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from enum import StrEnum

from discovery.body import TREES, Body, Kind, read_body
from discovery.complaints import Complaint, complaints_of
from discovery.constant import constant
from discovery.exchange import SAFE_METHODS, Fault, Json, Phase, Request, Response
from discovery.hints import Hint, Reason, read_hints
from discovery.markup import plain_text
from discovery.reasons import said_reason
from policies.batch import Batch, Item, failures_in, is_proved, read_batch
from policies.denial import ENVELOPE, Denial, denial, is_quiet
from policies.faults import fault_denial, listed_denial, text_denial
from policies.signs import Sign, signs_of
from policies.verdicts import may_hold_verdicts, tells_of_success
from policies.waits import Pace, read_pace, stated_in


class Outcome(StrEnum):
    """What happened."""

    SUCCESS = "success"
    TRANSIENT = "transient"
    RATE_LIMITED = "rate-limited"
    VALIDATION = "validation"
    PARTIAL = "partial"
    REFUSED = "refused"
    IN_DOUBT = "in-doubt"


class Effect(StrEnum):
    """What the upstream did. Never guessed: `unknown` is an answer."""

    NONE = "none"
    SOME = "some"
    ALL = "all"
    UNKNOWN = "unknown"


@constant
class Reading:
    """What one answer means.

    `wait` is seconds the upstream asked for, or None. `repeat` is what it said about trying again, if it did.
    `hints` say which fields it refused; `items` what became of each item of a batch, in the request's order.
    `confidence` tells a protocol's own sign (1.0) from words understood (0.5 and less).
    """

    outcome: Outcome
    effect: Effect
    why: str
    wait: float | None = None
    confidence: float = 1.0
    hints: tuple[Hint, ...] = ()
    items: tuple[Item, ...] = ()
    repeat: bool | None = None


_SUCCESS = {status: Reading(Outcome.SUCCESS, Effect.ALL, f"status {status}") for status in range(200, 400)}


def classify(request: Request, answer: Response | Fault, now: float) -> Reading:
    """Return the meaning of `answer`. `now` (epoch seconds) turns dates in headers into waits."""
    match answer:
        case Fault(phase=phase) if answer.unsent:
            return Reading(Outcome.TRANSIENT, Effect.NONE, f"never sent ({phase}): {answer.detail}")
        case Fault(phase=Phase.BODY, status=status):
            why = f"status {status} came, but the body broke off: {answer.detail}"
            return Reading(Outcome.TRANSIENT, Effect.UNKNOWN, why)
        case Fault(phase=phase):
            return Reading(Outcome.TRANSIENT, Effect.UNKNOWN, f"no answer ({phase}): {answer.detail}")
        case Response(status=status) if status < 400:
            return _claimed_success(request, answer, now)
        case Response(status=status):
            body = read_body(answer.headers, answer.body)
            if status < 500 and request.method not in SAFE_METHODS and tells_of_success(body.value):
                batch = read_batch(request, body)
                if batch is not None and batch.certain and is_proved(batch, body):
                    return _many(request, answer, body, batch, now)
            return _failure(request, answer, body, None, now)


def _claimed_success(request: Request, answer: Response, now: float) -> Reading:
    if not answer.body or answer.status < 200 or answer.status >= 300:
        return _SUCCESS.get(answer.status) or Reading(Outcome.SUCCESS, Effect.ALL, f"status {answer.status}")
    body = read_body(answer.headers, answer.body)
    value = body.value
    safe = request.method in SAFE_METHODS
    verdicts = not safe and may_hold_verdicts(value)
    if isinstance(value, dict):
        if not verdicts and len(value) > ENVELOPE and is_quiet(value):
            return _SUCCESS[answer.status]
    elif body.hostile and not safe:
        why = f"status {answer.status}, but its body cannot be read: {body.note}"
        return Reading(Outcome.IN_DOUBT, Effect.UNKNOWN, why, confidence=0.3)
    elif not isinstance(value, list):
        if isinstance(value, str) and body.kind is Kind.TEXT and (denied := text_denial(value)):
            return _failure(request, answer, body, denied, now)
        return replace(_SUCCESS[answer.status], confidence=0.9 if not body.note else 0.5)
    if verdicts and (batch := _graph_items(value) or read_batch(request, body)):
        return _many(request, answer, body, batch, now)
    if answer.status == 207 and not safe and (told := _told_apart(value)):
        return told
    denied = _graph_denial(value) or denial(value, reading=safe, target=request.path)
    if denied is None:
        last_word = request.path.rpartition(b"/")[2].decode("latin-1") if safe else ""
        denied = fault_denial(value, last_word) or (listed_denial(value) if verdicts else None)
    if denied is None:
        return _SUCCESS[answer.status]
    return _failure(request, answer, body, denied, now)


# GraphQL: errors beside data, or inside it


def _graph_denial(value: Json) -> Denial | None:
    """A mutation's payload carries its own errors: `{"data": {"x": {"userErrors": [..]}}}`."""
    data = value.get("data") if isinstance(value, dict) and len(value) <= 4 else None
    if isinstance(data, dict) and len(data) <= 10:
        for name, payload in data.items():
            if isinstance(payload, dict) and len(payload) <= 20:
                for key, held in payload.items():
                    if key[-6:].lower() == "errors" and isinstance(held, list) and held:
                        return Denial(f"data/{name}/{key}", str(held)[:80], 0.9)
    return None


def _graph_items(value: Json) -> Batch | None:
    """Of several root fields some have data and some an error: each is an item, named by its answer's key."""
    if (
        not isinstance(value, dict)
        or not isinstance(value.get("data"), dict)
        or not isinstance(value.get("errors"), list)
    ):
        return None
    data, errors = value["data"], value["errors"]
    if not isinstance(data, dict) or not isinstance(errors, list) or len(data) < 2:
        return None
    failed = {
        str(path[0]): str(error.get("message", "failed"))[:200]
        for error in errors
        if isinstance(error, dict) and isinstance(path := error.get("path"), list) and path
    }
    items = tuple(
        Item(i, key, held is not None and key not in failed, why=failed.get(key, ""))
        for i, (key, held) in enumerate(data.items())
    )
    if not failed.keys() <= data.keys() or not any(item.ok for item in items) or all(item.ok for item in items):
        return None
    return Batch(items, True, f"{len(failed)} of {len(items)} fields failed")


# Many items


def _many(request: Request, answer: Response, body: Body, batch: Batch, now: float) -> Reading:
    if not batch.certain:
        return Reading(Outcome.IN_DOUBT, Effect.UNKNOWN, batch.why, None, 0.5, items=batch.items)
    waits = [item.wait for item in batch.items if item.wait is not None]
    wait = max(waits) if waits else read_pace(answer.headers, now).wait
    if any(item.ok for item in batch.items):
        return Reading(Outcome.PARTIAL, Effect.SOME, batch.why, wait, 0.9, items=batch.items)
    if any(item.ok is None for item in batch.items):
        return Reading(Outcome.IN_DOUBT, Effect.UNKNOWN, batch.why, wait, 0.7, items=batch.items)
    reading = _failure(request, answer, body, Denial("items", "all failed", 0.9), now)
    if any(item.retry for item in batch.items):
        limited = reading.outcome is Outcome.RATE_LIMITED
        outcome = Outcome.RATE_LIMITED if limited else Outcome.TRANSIENT
        return Reading(outcome, Effect.NONE, f"every item failed: {reading.why}", wait, 0.8, items=batch.items)
    if reading.outcome not in (Outcome.VALIDATION, Outcome.REFUSED):
        reading = replace(reading, outcome=Outcome.REFUSED)
    return replace(reading, effect=Effect.NONE, items=batch.items, why=f"every item failed: {reading.why}")


def _told_apart(value: Json) -> Reading | None:
    """A 207 on a request that listed no items (a folder deleted): only what failed is known."""
    failed = failures_in(value)
    if not failed:
        return None
    why = f"status 207: {len(failed)} parts failed ({failed[0].why})"
    return Reading(Outcome.PARTIAL, Effect.UNKNOWN, why, None, 0.5, items=failed)


# Failures


def _failure(request: Request, answer: Response, body: Body, denied: Denial | None, now: float) -> Reading:
    """Read an answer that is an error by its status, or because its body denies the success it claims."""
    status = answer.status
    complaints = _complaints(body)
    signs = signs_of(complaints)
    pace = read_pace(answer.headers, now)
    wait = (
        pace.wait if pace.wait is not None else stated_in(complaints, body.value if body.kind in TREES else None)
    )
    said = f'status {status}, but {denied.member} says "{denied.shown}"' if denied else f"status {status}"
    reading = _weighed(request, status, denied, complaints, signs, pace, wait, said, body)
    if reading.outcome is Outcome.RATE_LIMITED and reading.wait is None and pace.spent:
        reading = replace(reading, wait=pace.reset)
    return replace(reading, repeat=pace.repeat) if pace.repeat is not None else reading


def _complaints(body: Body) -> list[Complaint]:
    if body.kind in TREES:
        return complaints_of(body.value)
    if isinstance(body.value, str):
        text = plain_text(body.value) if body.kind is Kind.HTML else body.value[:2000]
        return (
            complaints_of(text[:1000])
            if body.kind is not Kind.HTML
            else [Complaint(None, text[:300])]
            if text
            else []
        )
    return []


def _weighed(
    request: Request,
    status: int,
    denied: Denial | None,
    complaints: list[Complaint],
    signs: list[tuple[Sign, str]],
    pace: Pace,
    wait: float | None,
    said: str,
    body: Body,
) -> Reading:
    safe = request.method in SAFE_METHODS
    first = dict(reversed(signs))
    fault = _fault_side(body)

    def reading(
        outcome: Outcome, effect: Effect, why: str, confidence: float, waits: float | None = None
    ) -> Reading:
        return Reading(outcome, effect, f"{said}: {why}" if why else said, waits, confidence)

    if status == 429:
        return reading(Outcome.RATE_LIMITED, Effect.NONE, first.get(Sign.RATE, "too many requests"), 1.0, wait)
    if status >= 500 and fault != "client":
        return _server_failure(request, status, complaints, signs, wait, said, pace.wait is not None)
    if status in (408, 425):
        return reading(Outcome.TRANSIENT, Effect.NONE, "the request was not processed", 0.9, wait)
    if status in (401, 407):
        return reading(Outcome.REFUSED, Effect.NONE, first.get(Sign.AUTH, "not authenticated"), 1.0)
    if fault == "server" or (denied and not status >= 400 and _top(signs) is Sign.INTERNAL):
        why = first.get(Sign.INTERNAL, "it failed inside the server") + "; it may have taken effect"
        return reading(Outcome.TRANSIENT, Effect.UNKNOWN, why, 0.7, wait)
    limited = Sign.RATE in first and status not in (402, 404, 405, 410, 413)
    if limited or (status == 403 and (pace.wait is not None or (pace.spent and Sign.AUTH not in first))):
        return reading(Outcome.RATE_LIMITED, Effect.NONE, first.get(Sign.RATE, "a limit is spent"), 0.8, wait)
    if status == 413 and pace.wait is not None:
        return reading(Outcome.RATE_LIMITED, Effect.NONE, first.get(Sign.RATE, "too much for now"), 0.7, wait)
    if not safe and any(_PARTLY.search(complaint.text) for complaint in complaints[:5]):
        return reading(Outcome.IN_DOUBT, Effect.UNKNOWN, _words(signs, complaints), 0.5)
    if status == 406 and _top(signs) is Sign.INVALID:
        return _refusal(request, complaints, signs, said, denied)
    if status in (403, 404, 405, 406, 410, 415, 501, 505):
        return reading(Outcome.REFUSED, Effect.NONE, _words(signs, complaints), 0.95)
    passing = Sign.BUSY in first and _leads(signs, Sign.BUSY)
    placed = status in (400, 422) and any(complaint.path for complaint in complaints)
    if passing and not placed and (status in (409, 423, 400, 422) or denied):
        effect = Effect.NONE if status >= 400 or safe else Effect.UNKNOWN
        return reading(Outcome.TRANSIENT, effect, first[Sign.BUSY], 0.7, wait)
    if denied and pace.wait is not None and _top(signs) in (None, Sign.INVALID, Sign.RULE, Sign.BUSY):
        return reading(
            Outcome.TRANSIENT, Effect.NONE if safe else Effect.UNKNOWN, "it asks to come back", 0.6, wait
        )
    if status == 423 and pace.wait is not None:
        return reading(Outcome.TRANSIENT, Effect.NONE, "locked for now", 0.7, wait)
    if status not in (400, 422) and denied is None and fault != "client":
        return reading(Outcome.REFUSED, Effect.NONE, _words(signs, complaints), 0.9)
    return _refusal(request, complaints, signs, said, denied)


def _server_failure(
    request: Request,
    status: int,
    complaints: list[Complaint],
    signs: list[tuple[Sign, str]],
    wait: float | None,
    said: str,
    dated: bool,
) -> Reading:
    """A status in the 500s: the effect of an unsafe request is unknown, unless it says it never began."""
    safe = request.method in SAFE_METHODS
    top = _top(signs)
    words = _words(signs, complaints)
    coded = next(
        (code for c in complaints for code in c.codes if Sign.RATE in [s for s, w in signs if w == code]), None
    )
    if coded and status in (500, 503, 509):
        return Reading(Outcome.RATE_LIMITED, Effect.NONE, f"{said}: {coded}", wait, 0.8)
    if status in (501, 505):
        return Reading(Outcome.REFUSED, Effect.NONE, f"{said}: not supported", None, 0.9)
    if safe and top in (Sign.ABSENT, Sign.EXISTS, Sign.AUTH) and status == 500:
        return Reading(Outcome.REFUSED, Effect.NONE, f"{said}, yet it says: {words}", None, 0.6)
    if status == 503 and dated:
        return Reading(Outcome.TRANSIENT, Effect.NONE, f"{said} with a time to come back", wait)
    if safe:
        return Reading(Outcome.TRANSIENT, Effect.NONE, f"{said}: {words}" if words else said, wait, 0.9)
    return Reading(Outcome.TRANSIENT, Effect.UNKNOWN, f"{said}: it may have taken effect", wait)


def _refusal(
    request: Request,
    complaints: list[Complaint],
    signs: list[tuple[Sign, str]],
    said: str,
    denied: Denial | None,
) -> Reading:
    """A definite no: because of the request's form (with hints), or for another reason."""
    hints = read_hints(request, complaints)
    first = dict(reversed(signs))
    placed = [hint for hint in hints if hint.where in ("body", "query", "header")]
    words = _words(signs, complaints)
    specific = [hint for hint in placed if hint.reason not in (Reason.OTHER, Reason.UNIQUE)]
    if Sign.EXISTS in first and not specific:
        return Reading(Outcome.REFUSED, Effect.NONE, f"{said}: {first[Sign.EXISTS]}", None, 0.8, hints)
    coded = bool(signs) and signs[0][0] is Sign.AUTH and _OF_WHO.fullmatch(signs[0][1]) is not None
    if Sign.AUTH in first and (not specific or coded):
        return Reading(Outcome.REFUSED, Effect.NONE, f"{said}: {first[Sign.AUTH]}", None, 0.8, hints)
    unknown = any(said_reason(complaint.text) is Reason.UNKNOWN for complaint in complaints)
    if Sign.ABSENT in first and not placed and not unknown:
        return Reading(Outcome.REFUSED, Effect.NONE, f"{said}: {first[Sign.ABSENT]}", None, 0.8, hints)
    ruled = any(sign is Sign.RULE and " " not in words for sign, words in signs)
    if specific or (Sign.INVALID in first and not (ruled and not placed)) or placed:
        confidence = 0.9 if placed else 0.6
        return Reading(Outcome.VALIDATION, Effect.NONE, f"{said}: {words}", None, confidence, hints)
    if not signs and denied is None:
        why = f"{said}: {words}" if words else f"{said}: the request is invalid"
        return Reading(Outcome.VALIDATION if not words else Outcome.REFUSED, Effect.NONE, why, None, 0.4, hints)
    return Reading(Outcome.REFUSED, Effect.NONE, f"{said}: {words}" if words else said, None, 0.6, hints)


_OF_WHO = re.compile(r"\S*(?:auth|token|key|credential|session|signature)\S*", re.I)
"""A code about who is asking, whatever member its sentence names."""
_PARTLY = re.compile(
    r"partial(?:ly)? (?:write|success|succeeded|failure|failed|written|applied|completed|processed"
    r"|import)|some (?:of the )?"
    r"(?:items|records|rows|points|entries) (?:were|have been|could not|failed)",
    re.I,
)
"""Words that say a part may be done, where no part is told from another."""


def _fault_side(body: Body) -> str:
    """Whose fault a protocol says it was: `client`, `server` or unknown (SOAP's codes, JSON-RPC's numbers)."""
    value = body.value
    if not isinstance(value, dict):
        return ""
    if "jsonrpc" in value and isinstance(error := value.get("error"), dict):
        code = error.get("code")
        return "client" if code in (-32700, -32600, -32601, -32602) else "server" if code == -32603 else ""
    envelope = value.get("Envelope")
    soap = envelope.get("Body") if isinstance(envelope, dict) else None
    fault = soap.get("Fault") if isinstance(soap, dict) else None
    if not isinstance(fault, dict):
        return ""
    code = fault.get("faultcode") or fault.get("Code")
    code = code.get("Value") if isinstance(code, dict) else code
    local = re.split(r"[:.]", str(code), maxsplit=1)[-1].lower() if ":" in str(code) else str(code).lower()
    return (
        "client"
        if local.startswith(("client", "sender"))
        else "server"
        if local.startswith(("server", "receiver"))
        else ""
    )


def _top(signs: Sequence[tuple[Sign, str]]) -> Sign | None:
    """What the answer is about: the first sign that says more than that something is wrong."""
    return next(
        (sign for sign, _ in signs if sign not in (Sign.INVALID, Sign.RULE)), signs[0][0] if signs else None
    )


def _leads(signs: Sequence[tuple[Sign, str]], sign: Sign) -> bool:
    """Whether `sign` is what the answer is about, not a word in passing."""
    return _top(signs) is sign


def _words(signs: Sequence[tuple[Sign, str]], complaints: Sequence[Complaint]) -> str:
    """The upstream's most telling sentence, else its code."""
    texts = [complaint.text.split("\n")[-1] for complaint in complaints if complaint.text]
    if texts:
        return max(texts[:3], key=len)[:200]
    return signs[0][1] if signs else next((code for complaint in complaints for code in complaint.codes), "")

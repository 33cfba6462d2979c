"""Views: what is kept of calls and workflows -> JSON for people and programs, secrets hidden.

The commands, the HTTP endpoints and the console's pages all show these and nothing else. Times are epoch
seconds; what is not known is null.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from discovery.exchange import Headers, Json, Request, Response
from discovery.redaction import redact_body, redact_headers, redact_json, redact_query, redact_text
from gateway.ports import Entry, Workflow
from policies.claims import Record, State
from policies.outcome import Effect

Facts = dict[str, Json]

STANDING = {
    "new": "It is free: it had no effect so far, and the next call of this step sends it.",
    "claimed": "Somebody holds it; nothing of this attempt was sent yet.",
    "sending": "It is being sent.",
    "waiting": "It waits to be sent again; that is safe.",
    "accepted": "The upstream took it and finishes later.",
    "partial": "Some of its items took effect; the others are still to be sent.",
    "succeeded": "It took effect. A repeat of the step is told the recorded reply; nothing is sent.",
    "rejected": "The upstream found the request invalid; nothing took effect. A corrected one may be sent.",
    "failed": "The upstream refused it; nothing took effect.",
    "in-doubt": "It may or may not have taken effect. It is not repeated blindly.",
    "exhausted": "Retries, budget or deadline are used up; nothing took effect.",
    "cancelled": "It was given up; nothing took effect.",
}
"""What each state of a call means for whoever waits on it."""


def standing(record: Record) -> str:
    """Return what the record's state means, and for whom it is to act."""
    if record.state is State.IN_DOUBT:
        what = "Only its unfinished items are in doubt" if record.some else STANDING["in-doubt"].rstrip(".")
        return f"{what}: settle it with `gimbal resolve`."
    return STANDING[record.state.value]


def call_view(entry: Entry) -> Facts:
    """Return a call whole: its summary with request, response, items and transcript.

    `request` and `response` are the workflow's; where something else crossed the wire, that is `sent`, `original`.
    """
    steps = told(entry)
    return {
        **call_summary(entry),
        "attempts": [*_attempts(steps)],
        "items": _items(entry.items),
        "adaptations": [step for step in steps if step.get("did") == "adapt"],
        "request": request_view(entry.about.request),
        "sent": None if entry.sent is None else request_view(entry.sent),
        "response": None if entry.reply is None else response_view(entry.reply),
        "original": None
        if entry.original is None or entry.original.response is None
        else response_view(entry.original.response),
        "transcript": [*steps],
        "can": [*_can(entry)],
    }


def call_summary(entry: Entry) -> Facts:
    """Return a call's line in a list: who, what, and where it stands."""
    about, record = entry.about, entry.record
    target = redact_query(about.request.target).decode("latin-1")
    return {
        "id": entry.id,
        "workflow": {"type": about.step.type, "id": about.step.id, "step": about.step.step},
        "upstream": about.upstream,
        "operation": about.operation,
        "method": about.request.method,
        "path": target.partition("?")[0],
        **({"unreadable": entry.unreadable} if entry.unreadable else {}),
        "state": record.state.value,
        "outcome": None if record.outcome is None else record.outcome.value,
        "effect": record.effect.value,
        "sendings": record.attempt,
        "generation": record.generation,
        "not_before": record.not_before or None,
        "created": entry.created,
        "updated": entry.updated,
    }


def workflow_view(workflow: Workflow, entries: Iterable[Entry] = ()) -> Facts:
    """Return a workflow with its calls, oldest first."""
    calls = sorted(entries, key=lambda entry: entry.created)
    return {**workflow_summary(workflow), "calls": [call_summary(entry) for entry in calls]}


def workflow_summary(workflow: Workflow) -> Facts:
    """Return a workflow's line in a list: how many of its calls stand where."""
    return {
        "type": workflow.type,
        "id": workflow.id,
        "state": "ended" if workflow.ended else "open",
        "started": workflow.started,
        "active": workflow.active,
        "ended": workflow.ended or None,
        "states": {state.value: count for state, count in workflow.states.items() if count},
    }


def request_view(request: Request) -> Facts:
    target = redact_query(request.target).decode("latin-1")
    path, _, query = target.partition("?")
    return {
        "method": request.method,
        "path": path,
        "query": query,
        "headers": headers_view(request.headers),
        "body": redact_body(request.headers, request.body),
    }


def response_view(response: Response) -> Facts:
    return {
        "status": response.status,
        "headers": headers_view(response.headers),
        "body": redact_body(response.headers, response.body),
    }


def headers_view(headers: Headers) -> Facts:
    """Return headers by name as first written; repeated ones joined with a comma (RFC 9110 5.3)."""
    shown: dict[str, tuple[str, list[str]]] = {}
    for name, value in redact_headers(headers):
        text = name.decode("latin-1")
        shown.setdefault(text.lower(), (text, []))[1].append(value.decode("latin-1"))
    return {name: ", ".join(values) for name, values in shown.values()}


def told(entry: Entry) -> list[Facts]:
    """Return the transcript, oldest first. A line that cannot be read is told as such, never dropped."""
    steps = [_line(line) for kept in entry.transcript for line in kept.splitlines()]
    return [*steps, *_silence(entry, steps)]


def _silence(entry: Entry, steps: Sequence[Facts]) -> Iterable[Facts]:
    """A holder that died could not tell its last sending; the record's mark can."""
    record = entry.record
    ended = any(step.get("did") in ("send", "resolve") and _at(step) >= record.first_sent for step in steps)
    if record.state is State.IN_DOUBT and record.first_sent and not ended:
        yield {
            "at": record.first_sent,
            "did": "send",
            "fault": "unknown",
            "outcome": "in-doubt",
            "effect": "unknown",
            "why": "its sender fell silent after the mark that it may send, and before any answer was recorded",
        }


def _at(step: Facts) -> float:
    at = step.get("at")
    return at if isinstance(at, int | float) else 0.0


def _line(line: bytes) -> Facts:
    try:
        read = json.loads(line)
    except ValueError:
        read = None
    if isinstance(read, dict):
        shown = redact_json(read)
        assert isinstance(shown, dict)
        return shown
    return {"did": "unreadable", "text": redact_text(line[:200].decode("utf-8", "replace"))}


def _attempts(steps: Sequence[Facts]) -> Iterable[Facts]:
    for step in steps:
        if step.get("did") == "send":
            answer = "fault" if step.get("status") is None else "status"
            yield {member: step.get(member) for member in ("at", answer, "outcome", "why")}


def _items(items: bytes) -> list[Json]:
    try:
        read = json.loads(items) if items else []
    except ValueError:
        return []
    shown = redact_json(read)
    return shown if isinstance(shown, list) else []


def _can(entry: Entry) -> Iterable[str]:
    """What a person may do with the call as it stands (the rules are in `policies.claims`)."""
    match entry.record.state:
        case State.IN_DOUBT:
            yield from ("resolve",) if entry.record.some else ("resolve", "retry")
        case State.ACCEPTED | State.PARTIAL:
            yield "retry"
        case State.WAITING:
            yield from ("retry", "cancel")
        case State.NEW:
            yield "cancel"
        case State.EXHAUSTED if entry.record.effect is Effect.NONE:
            yield "retry"

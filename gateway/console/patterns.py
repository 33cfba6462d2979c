"""Facts for `/-/patterns`: one of everything a page can show, so that its looks can be judged at once."""

from __future__ import annotations

from discovery.exchange import Json
from gateway.views import Facts
from policies.claims import State
from policies.outcome import Effect


def one_of_everything(now: float) -> Facts:
    """Return calls in every state, workflows, and a call with a full story; times are before `now`."""
    calls: list[Json] = [_call(state, now - 40 * number) for number, state in enumerate(State)]
    states: dict[str, Json] = {state.value: 12 - number for number, state in enumerate(State)}
    workflow: Facts = {
        "type": "sync-order",
        "started": now - 4000,
        "active": now - 2,
        "ended": None,
        "state": "open",
    }
    workflows: list[Json] = [
        {**workflow, "id": "order-1138", "states": {"succeeded": 7, "in-doubt": 1}},
        {**workflow, "id": "nightly/2026-11-22", "type": "reconcile", "states": {"succeeded": 40, "rejected": 3}},
        {**workflow, "id": "one of every state", "states": states},
    ]
    return {"calls": calls, "workflows": workflows, "call": _told(now - 60), **_known(now)}


def _known(now: float) -> Facts:
    """A contract and what changed of it, as `discovery.contract_telling` and `discovery.drift` tell them."""
    operation: Facts = {"method": "GET", "path": "/charges/{charge_id}", "seen": 412, "accepted": 398}
    operation |= {"statuses": {"200": 398, "404": 12, "503": 2}, "fields": 9, "of_items": False}
    place: Facts = {"pointer": "/amount", "type": "integer", "seen": 398, "of": 398, "between": [0.99, 1.0]}
    drift: Facts = {"operation": "GET /charges/{charge_id}", "kind": "field-renamed", "first_seen": now - 5400}
    says = (
        "GET /charges/{charge_id}: /mail is called /email now (same values for 11 of 11 that were seen under both)"
    )
    return {
        "operations": [
            {**operation, "undecided": []},
            {**operation, "method": "POST", "undecided": ["charge_id"]},
        ],
        "places": [place, {**place, "pointer": "/note", "type": "string", "seen": 120, "between": [0.26, 0.35]}],
        "drift": [
            {**drift, "severity": severity, "message": says, "over": over}
            for severity, over in (("breaking", None), ("warning", None), ("info", None), ("breaking", now))
        ],
    }


def _call(state: State, at: float) -> Facts:
    effect = {State.SUCCEEDED: Effect.ALL, State.PARTIAL: Effect.SOME, State.IN_DOUBT: Effect.UNKNOWN}
    return {
        "id": "0" * 26,
        "workflow": {"type": "sync-order", "id": "order-1138", "step": "charge"},
        "upstream": "billing",
        "method": "POST",
        "path": "/charges",
        "state": state.value,
        "effect": effect.get(state, Effect.NONE).value,
        "sendings": 1,
        "not_before": None,
        "updated": at,
    }


def _told(at: float) -> Facts:
    transcript: list[Json] = [
        {"at": at, "did": "claim", "generation": 1},
        _sent(at + 0.02, "transient", "none", "never sent (connect): refused", 0.03, fault="connect"),
        {"at": at + 0.05, "did": "wait", "seconds": 0.4, "why": "never sent; safe to repeat"},
        _sent(at + 0.45, "rate-limited", "none", "status 429: too many requests", 0.2, status=429),
        {"at": at + 0.65, "did": "wait", "seconds": 2.0, "why": "waiting the 2 s it asks for"},
        {"at": at + 2.65, "did": "claim", "generation": 1, "resumed": True},
        _sent(at + 2.7, "transient", "unknown", "no answer (wait): timed out", 5.0, fault="wait"),
        {"at": at + 7.7, "did": "change", "state": "in-doubt", "why": "no answer, and repeating it is not safe"},
        {"at": at + 20, "did": "resolve", "applied": True, "by": "a person", "evidence": "seen in its outbox"},
        _sent(at + 21, "success", "all", "status 201", 0.5, status=201),
    ]
    headers: Facts = {"Content-Type": "application/json", "X-Api-Key": "[redacted]"}
    body: Facts = {"ref": "order-1138", "amount": 4200, "live": False, "note": None, "card": {"cvc": "[redacted]"}}
    return {"transcript": transcript, "request": {"headers": headers, "body": body}}


def _sent(at: float, outcome: str, effect: str, why: str, took: float, **answer: Json) -> Facts:
    return {"at": at, "did": "send", "outcome": outcome, "effect": effect, "why": why, "took": took, **answer}

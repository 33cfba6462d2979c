"""Views show what the interface promises, and no secret."""

import json
from dataclasses import replace

from discovery.exchange import Request, Response
from gateway.ports import About, Entry, Workflow
from gateway.views import call_summary, call_view, workflow_view
from policies.claims import Record, State, StepKey, call_id
from policies.outcome import Effect, Outcome

STEP = StepKey("sync-order", "order-1138", "charge")
REQUEST = Request(
    "POST",
    b"/charges?api_key=s3cr3t-in-query&limit=3",
    (
        (b"Authorization", b"Bearer s3cr3t-in-header"),
        (b"Accept", b"a"),
        (b"accept", b"b"),
        (b"Content-Type", b"application/json"),
    ),
    b'{"amount": 5, "password": "s3cr3t-in-body"}',
)
REPLY = Response(
    201, ((b"Set-Cookie", b"sid=s3cr3t-in-cookie; Path=/"),), b'{"id": 1, "client_secret": "s3cr3t-reply"}'
)
TRANSCRIPT = (
    b'{"at": 1.0, "did": "claim", "generation": 1}',
    b'{"at": 2.0, "did": "send", "attempt": 1, "fault": "connect", "outcome": "transient", "why": "refused"}',
    b'{"at": 3.0, "did": "wait", "seconds": 0.5, "why": "https://me:s3cr3t-url@host/ refused"}',
    b'{"at": 4.0, "did": "send", "attempt": 2, "status": 201, "outcome": "success", "why": "status 201"}',
    b"not JSON",
)
ENTRY = Entry(
    id=call_id(STEP),
    about=About(STEP, "billing", "POST /charges", REQUEST),
    record=Record(State.SUCCEEDED, "f", attempt=2, outcome=Outcome.SUCCESS, effect=Effect.ALL),
    reply=REPLY,
    transcript=TRANSCRIPT,
    created=1.0,
    updated=4.0,
    items=b'[{"key": "a", "state": "done"}]',
)


def test_a_call_has_every_member_the_interface_names():
    view = call_view(ENTRY)

    assert view["workflow"] == {"type": "sync-order", "id": "order-1138", "step": "charge"}
    assert (view["upstream"], view["operation"]) == ("billing", "POST /charges")
    assert (view["method"], view["path"]) == ("POST", "/charges")
    assert (view["state"], view["outcome"], view["effect"]) == ("succeeded", "success", "all")
    assert view["attempts"] == [
        {"at": 2.0, "fault": "connect", "outcome": "transient", "why": "refused"},
        {"at": 4.0, "status": 201, "outcome": "success", "why": "status 201"},
    ]
    assert view["items"] == [{"key": "a", "state": "done"}]
    assert view["not_before"] is None
    assert view["adaptations"] == []
    assert view["response"]["status"] == 201


def test_no_secret_is_in_any_view():
    for view in (call_view(ENTRY), call_summary(ENTRY), workflow_view(Workflow("t", "i", 1, 2, 0), [ENTRY])):
        assert "s3cr3t" not in json.dumps(view)


def test_what_is_no_secret_stays_as_it_was():
    request = call_view(ENTRY)["request"]

    assert request["headers"]["Accept"] == "a, b"
    assert request["body"]["amount"] == 5
    assert request["query"].endswith("&limit=3")


def test_a_transcript_line_that_cannot_be_read_is_told_not_dropped():
    assert call_view(ENTRY)["transcript"][-1] == {"did": "unreadable", "text": "not JSON"}


def test_a_call_says_what_a_person_can_do_with_it():
    def can(state, effect=Effect.NONE):
        return call_view(replace(ENTRY, record=Record(state, "f", effect=effect)))["can"]

    assert can(State.IN_DOUBT, Effect.UNKNOWN) == ["resolve", "retry"]
    assert can(State.WAITING) == ["retry", "cancel"]
    assert can(State.EXHAUSTED) == ["retry"]
    assert can(State.SUCCEEDED, Effect.ALL) == []


def test_a_workflow_tells_its_calls_oldest_first_and_counts_their_states():
    older = replace(ENTRY, id="00", created=0.5)

    view = workflow_view(Workflow("t", "i", 1.0, 2.0, 0.0, {State.SUCCEEDED: 2, State.NEW: 0}), [ENTRY, older])

    assert [call["id"] for call in view["calls"]] == ["00", ENTRY.id]
    assert view["states"] == {"succeeded": 2}
    assert view["state"] == "open"

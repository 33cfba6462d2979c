"""What `gimbal explain` says of an exchange: one flat object, safe to act on."""

import json

import pytest

from discovery.exchange import Exchange, Fault, Phase, Request, Response
from policies.explain import explain

NOW = 1_700_000_000.0
JSON = ((b"Content-Type", b"application/json"),)


def told(method, answer, *, key=False, body=b"{}", at=None):
    headers = (*JSON, (b"Idempotency-Key", b"k")) if key else JSON
    return explain(Exchange("shop", Request(method, b"/orders", headers, body), answer, at), NOW)


@pytest.mark.parametrize(
    ("method", "key", "retry"),
    [
        ("POST", False, "no"),
        ("POST", True, "keyed"),
        ("PATCH", False, "no"),
        ("PUT", False, "later"),
        ("GET", False, "later"),
    ],
)
@pytest.mark.parametrize("answer", [Response(500), Response(502, JSON, b"<html>"), Fault(Phase.WAIT, "timed out")])
def test_what_may_have_taken_effect_is_repeated_only_where_that_is_harmless(method, key, retry, answer):
    assert told(method, answer, key=key)["retry"] == retry


def test_what_was_never_sent_may_go_out_at_once():
    assert told("POST", Fault(Phase.CONNECT, "refused"))["retry"] == "now"


def test_a_word_against_repeating_counts_more_than_a_key():
    answer = Response(500, ((b"Stripe-Should-Retry", b"false"),))

    assert told("POST", answer, key=True)["retry"] == "no"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 410, 422])
def test_a_refusal_is_never_repeated(status):
    assert told("GET", Response(status, JSON, b'{"message": "no"}'))["retry"] == "no"


def test_a_date_to_come_back_counts_from_the_date_of_the_answer():
    answer = Response(
        429, ((b"Date", b"Tue, 14 Nov 2023 10:00:00 GMT"), (b"Retry-After", b"Tue, 14 Nov 2023 10:01:30 GMT"))
    )

    assert told("GET", answer)["retry_after"] == 90


def test_fields_and_items_are_plain_data():
    body = json.dumps({"entries": [{"id": "a"}, {"id": "b"}]}).encode()
    failed = {"successful": [{"id": "a"}], "failed": [{"id": "b", "code": "Throttled"}]}

    batch = told("POST", Response(200, JSON, json.dumps(failed).encode()), body=body)
    invalid = told("POST", Response(422, JSON, b'{"errors": {"name": ["is required"]}}'))

    assert [(item["index"], item["key"], item["ok"], item["retry"]) for item in batch["items"]] == [
        (0, "a", True, False),
        (1, "b", False, True),
    ]
    assert invalid["fields"] == [{"pointer": "/name", "reason": "missing", "message": "is required"}]
    assert json.loads(json.dumps([batch, invalid]))

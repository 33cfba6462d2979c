"""A refused request is mended where evidence says how; where it does not, a precise question is asked."""

from __future__ import annotations

import json
from typing import Any

import pytest

from discovery.exchange import Request, Response
from discovery.hints import Hint, Reason
from policies.history import Memory
from policies.outcome import Effect, classify
from policies.repair import (
    Evidence,
    FillField,
    NeedsInput,
    RenameField,
    Repaired,
    SpellField,
    WriteField,
    needs_input,
    prepare,
    repair,
)

JSON = ((b"content-type", b"application/json"),)


def asked(body: Any, target: bytes = b"/orders", method: str = "POST") -> Request:
    text = json.dumps(body).encode()
    return Request(method, target, (*JSON, (b"content-length", str(len(text)).encode())), text)


def got(target: bytes, body: Any, call: str = "c1") -> Memory:
    return Memory(call, Request("GET", target), Response(200, JSON, json.dumps(body).encode()))


def sent(outcome: Any) -> Any:
    assert isinstance(outcome, Repaired)
    request = outcome.request
    assert request.header(b"content-length") == str(len(request.body)).encode()
    return json.loads(request.body)


def missing(pointer: str, message: str = "is required", allowed: tuple[Any, ...] = ()) -> Hint:
    return Hint(pointer, Reason.MISSING, allowed, message)


# Renames


@pytest.mark.parametrize(
    "message",
    [
        "qty was renamed to quantity.",
        "Unknown field 'qty'. It has been replaced by `quantity`.",
        "qty is now called quantity",
        "qty is no longer supported, use quantity instead",
        "Deprecated: qty. Please use the field quantity instead.",
    ],
)
def test_a_field_is_renamed_where_the_answer_spells_out_the_new_name(message: str):
    outcome = repair(asked({"sku": "a", "qty": 3}), [Hint("/qty", Reason.UNKNOWN, (), message)])

    assert sent(outcome) == {"sku": "a", "quantity": 3}
    assert isinstance(outcome, Repaired) and outcome.mends == (RenameField("body", "/qty", "/quantity"),)


def test_what_is_renamed_in_one_item_is_renamed_in_all():
    body = {"items": [{"qty": 1}, {"qty": 2}]}

    outcome = repair(asked(body), [Hint("/items/0/qty", Reason.UNKNOWN, (), "qty was renamed to quantity")])

    assert sent(outcome) == {"items": [{"quantity": 1}, {"quantity": 2}]}


def test_a_required_field_that_says_what_it_was_called_is_a_rename():
    hints = [missing("/quantity", "quantity (formerly qty) is required")]

    assert sent(repair(asked({"qty": 3}), hints)) == {"quantity": 3}


@pytest.mark.parametrize(
    ("hints", "body"),
    [
        ([Hint("/qty", Reason.UNKNOWN, (), "qty is unknown")], {"qty": 3}),
        ([Hint("/discount", Reason.UNKNOWN, (), "unknown field"), missing("/tax")], {"discount": 3}),
        ([Hint("/discount", Reason.UNKNOWN, (), "unknown field. Did you mean 'account'?")], {"discount": 3}),
        ([Hint("/qty", Reason.UNKNOWN, (), "qty was not renamed to quantity")], {"qty": 3}),
        ([Hint("/qty", Reason.UNKNOWN, (), "do not use quantity instead of qty")], {"qty": 3}),
        ([Hint("/qty", Reason.UNKNOWN, (), "qty was renamed to count. qty was replaced by number.")], {"qty": 3}),
        ([Hint("/qty", Reason.UNKNOWN, (), "qty was renamed to quantity")], {"qty": 3, "quantity": 4}),
        ([Hint("/qty", Reason.UNKNOWN, (), "qty was renamed to quantity"), missing("/tax")], {"qty": 3}),
    ],
)
def test_no_name_is_guessed_and_nothing_is_mended_in_part(hints: list[Hint], body: Any):
    assert isinstance(repair(asked(body), hints), NeedsInput)


def test_a_guess_that_is_missing_as_well_is_a_rename():
    hints = [Hint("/qty", Reason.UNKNOWN, (), "did you mean 'quantity'?"), missing("/quantity")]

    assert sent(repair(asked({"qty": 3}), hints)) == {"quantity": 3}


# Values written another way


@pytest.mark.parametrize(
    ("value", "message", "now"),
    [
        (12, "must be a string", "12"),
        ("12", "must be an integer", 12),
        ("12.5", "should be a number", 12.5),
        ("a", "must be an array", ["a"]),
        (["a"], "expected string", "a"),
        (1_700_000_000, "must be an RFC 3339 date-time", "2023-11-14T22:13:20Z"),
        ("2023-11-14T22:13:20Z", "must be a unix timestamp", 1_700_000_000),
        ("2023-11-14T22:13:20Z", "must be epoch milliseconds", 1_700_000_000_000),
    ],
)
def test_a_value_is_written_as_the_answer_asks(value: Any, message: str, now: Any):
    outcome = repair(asked({"v": value}), [Hint("/v", Reason.TYPE, (), message)])

    assert sent(outcome) == {"v": now}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("12.5", "must be an integer"),
        ("twelve", "must be a number"),
        ("007", "must be an integer"),
        (1.0e300, "must be a string"),
        (["a", "b"], "expected string"),
        ({"a": 1}, "must be a string"),
        (True, "must be a string"),
        (12, "has the wrong type"),
        ("2023-11-14T22:13:20.5Z", "must be a unix timestamp"),
        ("x", "must be a string"),
    ],
)
def test_a_value_that_would_lose_something_is_asked_for(value: Any, message: str):
    assert isinstance(repair(asked({"v": value}), [Hint("/v", Reason.TYPE, (), message)]), NeedsInput)


def test_the_contract_tells_the_type_where_the_answer_does_not():
    evidence = Evidence(types={"/v": frozenset({"string", "null"})})

    assert sent(repair(asked({"v": 12}), [Hint("/v", Reason.TYPE, (), "is wrong")], evidence)) == {"v": "12"}


def test_a_word_is_spelled_as_it_is_allowed_if_only_one_is_the_same_word():
    one = Hint("/state", Reason.ENUM, ("in_progress", "done"), "not allowed")
    two = Hint("/state", Reason.ENUM, ("in_progress", "IN_PROGRESS"), "not allowed")

    assert sent(repair(asked({"state": "IN-PROGRESS"}), [one])) == {"state": "in_progress"}
    assert isinstance(repair(asked({"state": "in-progress"}), [two]), NeedsInput)


# Fields that are required now


def test_a_required_field_is_filled_from_config_or_as_the_only_value_allowed():
    configured = Evidence(config={"/region": "eu"})

    assert sent(repair(asked({}), [missing("/region")], configured)) == {"region": "eu"}
    assert sent(repair(asked({}), [missing("/version", allowed=("v2",))])) == {"version": "v2"}
    assert isinstance(repair(asked({}), [missing("/version", allowed=("v1", "v2"))]), NeedsInput)


CUSTOMER = {"id": "cus_17", "email": "ada@example.com", "phone": "123", "status": "active", "currency": "EUR"}


@pytest.mark.parametrize(
    ("body", "history"),
    [
        ({"customer_id": "cus_17"}, [got(b"/customers/cus_17", CUSTOMER)]),
        ({"customer": "cus_17"}, [got(b"/customers", {"data": [CUSTOMER]})]),
        ({"customer": "cus_17"}, [got(b"/search", {"customers": [CUSTOMER]})]),
        ({"customerId": "cus_17"}, [got(b"/customers/cus_17", CUSTOMER), got(b"/customers/cus_17", CUSTOMER)]),
    ],
)
def test_a_required_field_is_filled_from_what_this_instance_saw_of_the_same_thing(
    body: Any, history: list[Memory]
):
    outcome = repair(asked(body), [missing("/email")], Evidence(history))

    assert sent(outcome) == {**body, "email": "ada@example.com"}
    assert isinstance(outcome, Repaired) and "call c1" in outcome.why[0]


def test_a_thing_that_is_sent_back_gets_what_it_had():
    request = asked({"name": "Ada"}, b"/customers/cus_17", "PUT")

    outcome = repair(request, [missing("/status")], Evidence([got(b"/customers/cus_17", CUSTOMER)]))

    assert sent(outcome)["status"] == "active"


@pytest.mark.parametrize(
    ("field", "body", "history"),
    [
        # another customer's
        ("email", {"customer_id": "cus_18"}, [got(b"/customers/cus_17", CUSTOMER)]),
        # nothing says whose
        ("email", {"total": 3}, [got(b"/customers/cus_17", CUSTOMER)]),
        # two values of that name
        (
            "email",
            {"customer_id": "cus_17"},
            [got(b"/customers/cus_17", CUSTOMER), got(b"/customers/cus_18", {"id": "cus_18", "email": "b@x.org"})],
        ),
        # it changed in between
        (
            "email",
            {"customer_id": "cus_17"},
            [got(b"/customers/cus_17", CUSTOMER), got(b"/customers/cus_17", {**CUSTOMER, "email": "new@x.org"})],
        ),
        # a customer's status is no order's
        ("status", {"customer_id": "cus_17"}, [got(b"/customers/cus_17", CUSTOMER)]),
        ("currency", {"customer_id": "cus_17"}, [got(b"/customers/cus_17", CUSTOMER)]),
        # the same number, of another kind of thing
        ("email", {"product_id": 17}, [got(b"/customers/17", {"id": 17, "email": "a@x.org"})]),
        # a member contradicts
        (
            "email",
            {"customer_id": "cus_17", "phone": "999"},
            [got(b"/customers/cus_17", CUSTOMER)],
        ),
        # an object that only refers to the thing
        (
            "terminal",
            {"customer_id": "cus_17"},
            [got(b"/payments/p1", {"id": "p1", "customer_id": "cus_17", "terminal": "t9"})],
        ),
        # a similar name
        ("email_address", {"customer_id": "cus_17"}, [got(b"/customers/cus_17", CUSTOMER)]),
        # secrets are never passed on
        ("api_key", {"customer_id": "cus_17"}, [got(b"/customers/cus_17", {"id": "cus_17", "api_key": "k"})]),
        # null is no value
        ("fax", {"customer_id": "cus_17"}, [got(b"/customers/cus_17", {"id": "cus_17", "fax": None})]),
    ],
)
def test_a_look_alike_in_the_history_is_never_filled_in(field: str, body: Any, history: list[Memory]):
    outcome = repair(asked(body), [missing(f"/{field}")], Evidence(history))

    assert isinstance(outcome, NeedsInput)
    assert [one.pointer for one in outcome.fields] == [f"/{field}"]


def test_a_value_of_another_type_than_the_contract_has_is_not_filled_in():
    evidence = Evidence([got(b"/customers/cus_17", CUSTOMER)], types={"/phone": frozenset({"number"})})

    assert isinstance(repair(asked({"customer_id": "cus_17"}), [missing("/phone")], evidence), NeedsInput)


def test_what_is_asked_for_names_the_place_what_is_allowed_and_what_was_seen():
    history = [got(b"/customers/cus_17", CUSTOMER, "a"), got(b"/carts/9", {"id": 9, "currency": "USD"}, "b")]

    outcome = repair(asked({"total": 3}), [missing("/currency", allowed=("EUR", "USD"))], Evidence(history))

    assert isinstance(outcome, NeedsInput)
    assert outcome.fields[0].told() == {
        "pointer": "/currency",
        "reason": "missing",
        "message": "is required",
        "allowed": ["EUR", "USD"],
        "candidates": [
            {"value": "EUR", "from": "answer of call a, /currency"},
            {"value": "USD", "from": "answer of call b, /currency"},
        ],
    }


def test_what_is_asked_for_is_a_problem_of_status_422():
    outcome = repair(asked({}), [missing("/tax"), missing("/due")])

    assert isinstance(outcome, NeedsInput)
    problem = needs_input(outcome)
    assert (problem.slug, problem.status) == ("needs-input", 422)
    assert [one["pointer"] for one in problem.members["fields"]] == ["/tax", "/due"]  # type: ignore


def test_a_refusal_that_names_no_field_is_not_ours_to_mend():
    assert repair(asked({}), [Hint("", Reason.OTHER, (), "no")]) is None


# The query


def test_parameters_of_a_query_are_renamed_and_filled_and_keep_their_bytes():
    request = Request("GET", b"/orders?q=a%20b+c&lim=5")
    hints = [
        Hint("/lim", Reason.UNKNOWN, (), "lim was renamed to limit", "query"),
        Hint("/version", Reason.MISSING, ("2",), "", "query"),
    ]

    outcome = repair(request, hints)

    assert isinstance(outcome, Repaired)
    assert outcome.request.target == b"/orders?q=a%20b+c&limit=5&version=2"


# From a real refusal to the next instance


def test_bytes_beside_a_mend_stay_as_they_were():
    body = b'{ "qty" : 3.50,\t"note":"\\u00e9" }'

    outcome = repair(
        Request("POST", b"/o", JSON, body), [Hint("/qty", Reason.UNKNOWN, (), "use quantity instead")]
    )

    assert isinstance(outcome, Repaired)
    assert outcome.request.body == b'{ "quantity" : 3.50,\t"note":"\\u00e9" }'


def test_an_answer_is_read_mended_and_what_held_serves_the_next_instance():
    refusal = {
        "errors": [
            {"field": "qty", "code": "unknown_field", "message": "qty was renamed to quantity"},
            {"field": "email", "code": "required", "message": "email is required"},
        ]
    }
    first = asked({"customer_id": "cus_17", "qty": 3})
    reading = classify(first, Response(422, JSON, json.dumps(refusal).encode()), 0.0)
    assert reading.effect is Effect.NONE

    outcome = repair(first, reading.hints, Evidence([got(b"/customers/cus_17", CUSTOMER)]))
    assert sent(outcome) == {"customer_id": "cus_17", "quantity": 3, "email": "ada@example.com"}
    assert isinstance(outcome, Repaired)
    assert "ada@example.com" not in repr(outcome.mends)

    other = {"id": "cus_99", "email": "ben@example.com"}
    next_one = asked({"customer_id": "cus_99", "qty": 1})
    prepared = prepare(next_one, outcome.mends, Evidence([got(b"/customers/cus_99", other, "c7")]))
    assert sent(prepared) == {"customer_id": "cus_99", "quantity": 1, "email": "ben@example.com"}

    stranger = prepare(next_one, outcome.mends)
    assert sent(stranger) == {"customer_id": "cus_99", "quantity": 1}

    assert prepare(asked({"customer_id": "cus_99", "quantity": 1}), outcome.mends) is None


def test_lessons_are_values_of_their_own():
    lessons = (
        RenameField("body", "/a", "/b"),
        WriteField("body", "/b", "string"),
        SpellField("body", "/c", "x", "X"),
        FillField("body", "/d", "allowed", 1),
    )

    assert sent(prepare(asked({"a": 1, "c": "x"}), lessons)) == {"b": "1", "c": "X", "d": 1}

"""What an upstream newly refuses of requests it took before; and what looks like it and is the caller's fault."""

import json
from collections.abc import Callable

import pytest

from discovery.drift import Drift, drifts, templates_of
from discovery.drift_telling import tell
from discovery.drift_watch import Watch
from discovery.exchange import Exchange, Request, Response
from discovery.traffic import Evidence

JSON = ((b"content-type", b"application/json"),)
KEY = b"a key of this test's own"


def order(number: int, **more: object) -> dict[str, object]:
    return {"customer": f"cus_{number:04}", "currency": ("eur", "gbp", "usd")[number % 3], **more}


def posted(body: object, complaint: str = "", field: str = "") -> Exchange:
    request = Request("POST", b"/orders", JSON, json.dumps(body).encode())
    if complaint:
        told = {"errors": [{"field": field, "message": complaint}]}
        return Exchange("shop", request, Response(422, JSON, json.dumps(told).encode()))
    return Exchange("shop", request, Response(201, JSON, json.dumps({"id": "ord_1", "ok": True}).encode()))


def found(exchanges: list[Exchange]) -> list[Drift]:
    watch, evidence = Watch(KEY), Evidence(KEY)
    for one in exchanges:
        watch.fold(one)
        evidence.fold(one)
    loaded = Watch.load(json.loads(json.dumps(watch.state())))
    assert drifts(loaded, templates_of(evidence)) == drifts(watch, templates_of(evidence))
    return drifts(watch, templates_of(evidence))


Ask = Callable[[int], dict[str, object]]
CASES: list[tuple[str, str, str, Ask, str]] = [
    ("field-removed", "coupon", "unknown field", lambda n: order(n, coupon=f"C-{n}"), "no longer accepted"),
    ("type-changed", "qty", "must be an integer", lambda n: order(n, qty=str(n + 1)), "refused now for its type"),
    ("type-changed", "note", "is too long (maximum is 8)", lambda n: order(n, note="x" * (9 + n % 5)), "length"),
    ("type-changed", "day", "is not a valid date", lambda n: order(n, day=f"0{n % 9 + 1}.02.2026"), "format"),
    ("type-changed", "seats", "must be less than 10", lambda n: order(n, seats=20 + n % 4), "out of range"),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "field", "complaint", "body", "words"), CASES, ids=lambda one: str(one)[:12])
def test_what_was_accepted_and_is_refused_since_is_told(
    kind: str, field: str, complaint: str, body: Ask, words: str
) -> None:
    before = [posted(body(number)) for number in range(25)]
    after = [posted(body(number), complaint, field) for number in range(8)]

    (told,) = found(before + after)

    assert (told.kind, told.where, told.pointer) == (kind, "request.body", f"/{field}")
    assert (told.evidence["n_after"], told.evidence["hits"], told.severity) == (8, 8, "breaking")
    assert words in tell(told)


def test_a_word_that_left_the_allowed_set_is_told_with_the_words_that_stayed() -> None:
    before = [posted(order(number)) for number in range(40)]
    refused = 'is not included in the list; must be one of "eur", "usd"'
    after = [
        posted(order(number), refused if order(number)["currency"] == "gbp" else "", "currency")
        for number in range(30)
    ]

    (told,) = found(before + after)

    assert (told.kind, told.pointer, told.evidence["reason"]) == ("type-changed", "/currency", "enum")
    assert tell(told).startswith(
        "POST /orders: /currency in the request body is refused now as none of the allowed values, "
        "where the same values were accepted (allowed: eur, usd)"
    )


@pytest.mark.parametrize(
    ("field", "complaint", "wrong"),
    [
        ("currency", "is not included in the list", {"currency": "doubloon"}),
        ("qty", "must be an integer", {"qty": "many"}),
        ("coupon", "unknown field", {"coupon": "C-1"}),
        ("note", "is too long (maximum is 99 characters)", {"note": "x" * 300}),
    ],
)
def test_a_caller_that_starts_to_send_nonsense_is_no_change(
    field: str, complaint: str, wrong: dict[str, object]
) -> None:
    before = [posted(order(number, qty=3, note="short")) for number in range(30)]
    after = [posted(order(number, **wrong), complaint, field) for number in range(20)]

    assert found(before + after) == []


def test_a_stock_that_runs_out_for_one_order_and_not_for_others_is_no_change() -> None:
    before = [posted(order(number, seats=1 + number % 4)) for number in range(30)]
    after = [
        posted(order(number, seats=1 + number % 4), "exceeds the maximum available" if number % 3 else "", "seats")
        for number in range(30)
    ]

    assert found(before + after) == []


# Operations


def asked(path: str, status: int) -> Exchange:
    body = {"id": path, "state": "done"} if status == 200 else {"message": "not found"}
    return Exchange("shop", Request("GET", path.encode()), Response(status, JSON, json.dumps(body).encode()))


def test_an_operation_that_was_not_there_and_is_now_is_told() -> None:
    before = [asked(f"/orders/{500000 + number}/lines", 404) for number in range(12)]
    after = [asked(f"/orders/{500000 + number}/lines", 200) for number in range(4, 16)]

    (told,) = found(before + after)

    assert (told.kind, told.before) == ("operation-added", None)
    assert "is there now, where there was nothing; 12 calls before were answered as if it did not exist" in tell(
        told
    )


def test_things_that_are_asked_for_until_they_exist_are_no_new_operation() -> None:
    polled = [
        asked(f"/reports/{500000 + number}", status) for number in range(20) for status in (404, 404, 404, 200)
    ]

    assert found(polled) == []


def test_things_that_are_deleted_one_by_one_are_no_operation_that_went() -> None:
    exchanges = [asked(f"/orders/{500000 + number}", 200) for number in range(20)]
    exchanges += [asked(f"/orders/{500000 + number}", 404) for number in range(4)]
    exchanges += [asked(f"/orders/{500000 + number}", 200) for number in range(20, 24)]
    exchanges += [asked(f"/orders/{500000 + number}", 404) for number in range(4, 8)]

    assert found(exchanges) == []

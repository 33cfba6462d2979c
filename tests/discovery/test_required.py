"""What is called required: never missing, and believed to stay so by what else is known of the API."""

from typing import Any

import pytest
from shop import exchange

from discovery.exchange import Exchange
from discovery.openapi import document
from discovery.traffic import Evidence


def required_in_answers(exchanges: list[Exchange], path: str) -> list[str]:
    schema = told(exchanges)["paths"][path]["get"]["responses"]["200"]["content"]["application/json"]["schema"]
    return list(schema.get("required", []))


def told(exchanges: list[Exchange]) -> dict[str, Any]:
    evidence = Evidence()
    for one in exchanges:
        evidence.fold(one)
    return document(evidence, "shop")


def test_one_answer_shows_what_names_an_object_and_two_the_rest() -> None:
    things = [exchange("GET", f"/things/{n}", 200, {"id": n, "size": 2}) for n in range(100, 102)]

    assert required_in_answers(things[:1], "/things/{thing_id}") == ["id"]
    assert required_in_answers(things, "/things/{thing_id}") == ["id", "size"]


def test_what_is_missing_once_or_null_once_is_not_required() -> None:
    things = [exchange("GET", f"/things/{n}", 200, {"id": n, "size": 2, "tone": 1}) for n in range(100, 120)]
    things += [exchange("GET", "/things/7", 200, {"id": 7, "tone": None})]

    assert required_in_answers(things, "/things/{thing_id}") == ["id"]


def test_what_the_same_thing_lacks_elsewhere_is_not_required_here() -> None:
    whole = {"id": 1, "size": 2, "shape": "round", "tone": 3, "grade": "A"}
    here = [exchange("GET", f"/things/{n}", 200, whole) for n in range(100, 104)]
    elsewhere = [exchange("GET", f"/parts/{n}", 200, {**whole, "tone": None}) for n in range(100, 104)]

    assert "tone" in required_in_answers(here, "/things/{thing_id}")
    assert "tone" not in required_in_answers(here + elsewhere, "/things/{thing_id}")


def test_requests_need_more_samples_than_answers() -> None:
    sent = [exchange("POST", "/things", 201, {"id": n}, {"name": "lamp", "size": n}) for n in range(5)]

    def required(exchanges: list[Exchange]) -> list[str]:
        body = told(exchanges)["paths"]["/things"]["post"]["requestBody"]["content"]["application/json"]
        return list(body["schema"].get("required", []))

    assert required(sent[:4]) == []
    assert required(sent) == ["name", "size"]


def page(number: int, *, empty: bool) -> Exchange:
    """A wide answer of an API that writes an empty list out, or has none to show."""
    measures = {f"measure_{index}": 1.5 for index in range(40)}
    return exchange("GET", f"/pages/{number}", 200, {"id": number, "items": [] if empty else [1], **measures})


@pytest.mark.parametrize(("empty", "listed"), [(True, True), (False, False)])
def test_an_api_that_never_shows_anything_empty_is_believed_to_leave_it_out(empty: bool, listed: bool) -> None:
    pages = [page(number, empty=empty and number == 100) for number in range(100, 110)]

    assert ("items" in required_in_answers(pages, "/pages/{page_id}")) is listed


@pytest.mark.parametrize("query", ["fields=id", "fields[things]=id", "opt_fields=id", "$select=id"])
def test_where_callers_choose_the_members_none_is_required(query: str) -> None:
    plain = [exchange("GET", f"/things/{n}", 200, {"id": n, "size": 1}) for n in range(200)]
    chosen = [exchange("GET", f"/things/{n}?{query}", 200, {"id": n, "size": 1}) for n in range(3)]

    assert required_in_answers(plain, "/things/{thing_id}") == ["id", "size"]
    assert required_in_answers(plain + chosen, "/things/{thing_id}") == []

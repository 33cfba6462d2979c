"""What was learned reads as a valid OpenAPI document that accepts all it was learned from."""

import random
from functools import cache
from typing import Any

import openapi_spec_validator
import pytest
from shop import exchange, traffic

from discovery.contract import Contract, given, templates_of
from discovery.exchange import Exchange, Request, Response
from discovery.openapi import document
from discovery.schema import Claims
from discovery.traffic import Evidence


def learned(exchanges: list[Exchange], **more: Any) -> dict[str, Any]:
    evidence = Evidence(b"key")
    for one in exchanges:
        evidence.fold(one)
    return document(evidence, "shop", ["https://shop.example"], **more)


@cache
def shop() -> dict[str, Any]:
    """The document of the made-up shop."""
    return learned(traffic())


def body_of(told: dict[str, Any], path: str, method: str = "get", status: str = "200") -> dict[str, Any]:
    return plain(told, told["paths"][path][method]["responses"][status]["content"]["application/json"]["schema"])


def plain(told: dict[str, Any], schema: dict[str, Any]) -> dict[str, Any]:
    return told["components"]["schemas"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


@pytest.mark.parametrize("evidence", [False, True])
def test_the_document_is_valid(evidence: bool) -> None:
    openapi_spec_validator.validate(learned(traffic(), claims=Claims(evidence=evidence)))


def test_a_contract_accepts_every_exchange_it_was_learned_from() -> None:
    contract = Contract(shop())

    accepted = [one for one in traffic() if isinstance(one.answer, Response) and one.answer.status < 400]

    assert [violation for one in accepted for violation in contract.check(one)] == []


def test_the_contract_is_the_same_in_whatever_order_it_was_learned() -> None:
    shuffled = traffic()
    random.Random(5).shuffle(shuffled)

    assert learned(shuffled) == shop()


def test_refused_requests_never_teach_the_request_but_their_answers_teach_errors() -> None:
    told = shop()

    order = told["paths"]["/v1/orders"]["post"]

    sent = plain(told, order["requestBody"]["content"]["application/json"]["schema"])
    assert set(sent["properties"]) == {"sku", "quantity"}
    assert sent["required"] == ["quantity", "sku"]
    assert "detail" in body_of(told, "/v1/orders", "post", "422")["properties"]


def test_what_is_required_null_or_chosen_is_claimed_as_the_evidence_carries_it() -> None:
    told = shop()

    user = body_of(told, "/v1/users/{user_login}")
    order = body_of(told, "/v1/orders/{order_id}")

    assert user["required"] == ["id", "kind", "login"]
    assert user["properties"]["bio"] == {"type": ["string", "null"]}
    assert user["properties"]["kind"]["enum"] == ["ADMIN", "STAFF"]
    assert order["properties"]["created_at"]["format"] == "date-time"
    assert order["properties"]["prices"] == {"type": "object", "additionalProperties": {"type": "integer"}}


def test_the_same_thing_in_two_places_is_one_component() -> None:
    told = shop()

    assert "User" in told["components"]["schemas"]
    items = body_of(told, "/v1/users")["items"]
    assert items == {"$ref": "#/components/schemas/User"}


def test_query_parameters_have_the_type_of_their_texts() -> None:
    told = shop()

    parameters = told["paths"]["/v1/users/{user_login}/orders"]["get"]["parameters"]

    assert {"name": "page", "in": "query", "schema": {"type": "integer"}, "required": True} in parameters


def test_what_a_new_exchange_does_wrong_is_told_without_its_values() -> None:
    contract = Contract(shop())
    wrong = exchange("GET", "/v1/users/ada", 200, {"id": "secret-7", "login": "ada"})

    violations = contract.check(wrong)

    assert {(v.where, v.pointer, v.message) for v in violations} == {
        ("response.200", "/id", "should be integer, is string"),
        ("response.200", "", "lacks kind"),
    }


def test_an_unknown_path_is_a_violation() -> None:
    assert [v.where for v in Contract(shop()).check(exchange("GET", "/v9/none", 200, {}))] == ["path"]


def test_counts_are_told_on_request() -> None:
    told = learned(traffic(), claims=Claims(evidence=True))

    bio = body_of(told, "/v1/users/{user_login}")["properties"]["bio"]["x-gimbal"]

    assert bio["n"] > 0 and 0 < bio["presence"][0] < bio["presence"][1] < 1
    assert "x-gimbal" not in str(shop())


def test_bodies_of_any_kind_are_described() -> None:
    form = ((b"content-type", b"application/x-www-form-urlencoded"),)
    seen = [
        Exchange("x", Request("POST", b"/forms", form, b"amount=5&name=a"), Response(200, form, b"ok=1")),
        Exchange(
            "x", Request("GET", b"/xml"), Response(200, ((b"content-type", b"text/xml"),), b"<a><b>1</b></a>")
        ),
        Exchange("x", Request("GET", b"/bin"), Response(200, ((b"content-type", b"image/png"),), b"\x89PNG\0\0")),
        Exchange(
            "x", Request("GET", b"/lie"), Response(200, ((b"content-type", b"application/json"),), b"<html>")
        ),
    ]

    told = learned(seen)

    openapi_spec_validator.validate(told)
    form_schema = told["paths"]["/forms"]["post"]["requestBody"]["content"]["application/x-www-form-urlencoded"]
    assert form_schema["schema"]["properties"]["amount"] == {"type": "integer"}
    assert "application/xml" in str(told["paths"]["/xml"]) or "text/xml" in str(told["paths"]["/xml"])
    assert "image/png" in told["paths"]["/bin"]["get"]["responses"]["200"]["content"]


OLD = {
    "swagger": "2.0",
    "basePath": "/v2",
    "definitions": {"Pet": {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}}},
    "paths": {
        "/pets/{petId}": {
            "get": {
                "produces": ["application/json"],
                "parameters": [{"name": "petId", "in": "path", "type": "integer", "required": True}],
                "responses": {"200": {"description": "ok", "schema": {"$ref": "#/definitions/Pet"}}},
            }
        }
    },
}


def test_traffic_is_held_against_a_document_of_the_vendor() -> None:
    contract = given(OLD)

    assert templates_of(contract) == ["/v2/pets/{petId}"]
    assert contract.check(exchange("GET", "/v2/pets/7", 200, {"id": 7})) == []
    assert [v.message for v in contract.check(exchange("GET", "/v2/pets/7", 200, {}))] == ["lacks id"]


def test_a_given_document_of_openapi_3_0_may_say_nullable() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "string", "nullable": True}}}
    answer = {"description": "ok", "content": {"application/json": {"schema": schema}}}
    contract = given({"openapi": "3.0.3", "paths": {"/a": {"get": {"responses": {"200": answer}}}}})

    assert contract.check(exchange("GET", "/a", 200, {"a": None})) == []
    assert len(contract.check(exchange("GET", "/a", 200, {"a": 5}))) == 1


def test_pages_keys_headers_and_cookies_are_recognised() -> None:
    sent = ((b"X-Api-Key", b"k3y"), (b"X-Tenant", b"acme"), (b"Cookie", b"theme=dark"), (b"Accept", b"*/*"))
    seen = [
        Exchange(
            "x", Request("GET", b"/things?cursor=abc&limit=5", sent), exchange("GET", "/", 200, answer).answer
        )
        for answer in ({"data": [1], "next_cursor": "def"}, {"data": [], "next_cursor": None})
    ]

    told = learned(seen, claims=Claims(evidence=True))

    operation = told["paths"]["/things"]["get"]
    assert [(p["in"], p["name"]) for p in operation["parameters"]] == [
        ("query", "cursor"),
        ("query", "limit"),
        ("header", "X-Tenant"),
        ("cookie", "theme"),
    ]
    assert told["components"]["securitySchemes"] == {
        "key_x_api_key": {"type": "apiKey", "in": "header", "name": "x-api-key"}
    }
    paging = {"style": "cursor", "parameters": ("cursor",), "size": "limit", "next": "next_cursor"}
    assert operation["x-gimbal"]["paging"] == paging
    openapi_spec_validator.validate(told)


def test_headers_of_sdks_are_left_out_and_shared_ones_told_once() -> None:
    sent = ((b"shop-version", b"2"), (b"x-shop-client-telemetry", b"{}"), (b"x-stainless-os", b"linux"))
    seen = [
        Exchange("x", Request("GET", target, sent), exchange("GET", "/", 200, {"id": 1}).answer)
        for target in (b"/things/1", b"/parts/1")
    ]

    told = learned(seen)

    once = {"name": "Shop-Version", "in": "header", "schema": {"type": "string"}}
    assert told["components"]["parameters"] == {"ShopVersion": once}
    for item in told["paths"].values():
        assert item["get"]["parameters"][1:] == [{"$ref": "#/components/parameters/ShopVersion"}]


def test_components_are_named_after_what_they_are_for() -> None:
    refused = {"code": "x", "message": "no", "field": "y"}
    listed = {"data": [{"id": 1, "name": "x", "size": 2}], "more": False, "total": 1}
    seen = [exchange("GET", f"/{path}/{n}", 404, refused) for path in ("lamps", "chairs") for n in range(3)]
    seen += [exchange("GET", f"/rooms/{n}/{path}", 200, listed) for path in ("lamps", "seats") for n in range(3)]

    told = learned(seen)

    assert {"Error", "LampList", "Lamp"} >= set(told["components"]["schemas"]) >= {"LampList"}

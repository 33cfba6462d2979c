"""Traffic held against a vendor's document: where it contradicts, and what is lacking there."""

import copy
from typing import Any

import pytest
from shop import exchange

from discovery.baseline import differences
from discovery.contract import given
from discovery.evidence import State
from discovery.exchange import Exchange, Json
from discovery.traffic import Evidence

VENDORS: dict[str, Any] = {
    "openapi": "3.0.3",
    "info": {"title": "shop", "version": "1"},
    "servers": [{"url": "https://shop.example/v1"}],
    "paths": {
        "/orders/{orderId}": {
            "get": {
                "parameters": [
                    {"name": "orderId", "in": "path", "required": True, "schema": {"type": "string"}},
                    {"name": "expand", "in": "query", "schema": {"type": "string"}},
                ],
                "responses": {
                    "200": {
                        "description": "one",
                        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Order"}}},
                    }
                },
            }
        }
    },
    "components": {
        "schemas": {
            "Order": {
                "allOf": [
                    {"type": "object", "required": ["id"], "properties": {"id": {"type": "integer"}}},
                    {
                        "properties": {
                            "state": {"type": "string", "enum": ["open", "paid"]},
                            "total": {"type": "number"},
                            "note": {"type": "string", "nullable": True},
                            "labels": {"type": "object", "additionalProperties": {"type": "string"}},
                            "parent": {"$ref": "#/components/schemas/Order"},
                            "lines": {
                                "type": "array",
                                "items": {
                                    "type": "object",
                                    "additionalProperties": False,
                                    "properties": {"sku": {"type": "string"}},
                                },
                            },
                        }
                    },
                ]
            }
        }
    },
}
FITTING: Json = {
    "id": 1,
    "state": "open",
    "total": 3,
    "note": None,
    "labels": {"a": "x"},
    "parent": {"id": 0},
    "lines": [{"sku": "lamp"}],
}


def told(exchanges: list[Exchange], vendors: State = VENDORS, prefix: str = "/v1") -> list[str]:
    evidence = Evidence()
    for one in exchanges:
        evidence.fold(one, prefix=prefix)
    found = differences(evidence, given(vendors), prefix)
    return [f"{one.verdict} {one.operation} {one.where} {one.pointer}: {one.message}" for one in found]


def order(**changes: Json) -> list[Exchange]:
    assert isinstance(FITTING, dict)
    return [exchange("GET", "/v1/orders/7", 200, {**FITTING, **changes})]


def test_traffic_that_fits_the_document_differs_in_nothing() -> None:
    assert told([*order(), *order(note="x", total=2.5)]) == []


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"id": "one"}, "contradicts {} /id: is integer in the document, was string"),
        ({"total": "3"}, "contradicts {} /total: is number in the document, was string"),
        ({"id": None}, "contradicts {} /id: is integer in the document, was null"),
        ({"state": "lost"}, "contradicts {} /state: was lost, which the document does not list"),
        ({"lines": [{"sku": 3}]}, "contradicts {} /lines/*/sku: is string in the document, was integer"),
        ({"lines": [{"sku": "a", "n": 3}]}, "contradicts {} /lines/*/n: is not in the document"),
        ({"labels": {"b": 3}}, "contradicts {} /labels/*: is string in the document, was integer"),
        ({"parent": {}}, "contradicts {} /parent/id: is required in the document, was missing in 1 of 1"),
        ({"a/b": 1}, "lacks {} /a~1b: is not in the document"),
    ],
)
def test_a_difference_is_told_with_its_place(changes: dict[str, Json], difference: str) -> None:
    assert told(order(**changes)) == [difference.format("GET /orders/{orderId} response.200")]


def test_operations_statuses_and_parameters_that_the_document_lacks_are_told() -> None:
    seen = [
        *order(),
        exchange("GET", "/v1/orders/7?page=1", 200, FITTING),
        exchange("GET", "/v1/orders/8", 404, {"error": "none"}),
        exchange("DELETE", "/v1/orders/7", 204),
    ]

    assert told(seen) == [
        "lacks DELETE /orders/{orderId} operation : is not in the document",
        "lacks GET /orders/{orderId} request.query /page: is not in the document",
        "lacks GET /orders/{orderId} response.404 : this status is not in the document",
    ]


def test_a_parameter_that_is_required_and_was_left_out_contradicts() -> None:
    vendors = copy.deepcopy(VENDORS)
    vendors["paths"]["/orders/{orderId}"]["get"]["parameters"][1]["required"] = True

    [difference] = told([*order(), exchange("GET", "/v1/orders/7?expand=x", 200, FITTING)], vendors)

    assert "/expand: is required in the document, was left out of 1 of 2 requests" in difference


def test_a_swagger_2_document_is_a_baseline_too() -> None:
    vendors: dict[str, Any] = {
        "swagger": "2.0",
        "info": {"title": "shop", "version": "1"},
        "basePath": "/v1",
        "definitions": {"New": {"type": "object", "required": ["sku"], "properties": {"sku": {"type": "string"}}}},
        "paths": {
            "/orders": {
                "post": {
                    "parameters": [{"in": "body", "name": "body", "schema": {"$ref": "#/definitions/New"}}],
                    "responses": {"201": {"description": "made"}},
                }
            }
        },
    }

    assert told([exchange("POST", "/v1/orders", 201, None, {"sku": "lamp"})], vendors) == []
    assert told([exchange("POST", "/v1/orders", 201, {"id": 1}, {"size": 1})], vendors) == [
        "contradicts POST /orders request.body /sku: is required in the document, was missing in 1 of 1",
        "lacks POST /orders request.body /size: is not in the document",
        "lacks POST /orders response.201 : a body (application/json) is not in the document",
    ]

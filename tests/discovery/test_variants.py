"""Variants that a tag explains: oneOf with a discriminator, valid, open to what was never seen."""

import json
import random
from typing import Any

import openapi_spec_validator
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from shop import exchange

from discovery.evidence import Node, Objects
from discovery.exchange import Json
from discovery.openapi import document
from discovery.schema import schema_of
from discovery.traffic import Evidence
from discovery.variants import union_of

METHODS: list[Json] = [
    {"id": "a", "type": "card", "created": 1, "card": {"brand": "blue", "last4": "4242"}},
    {"id": "b", "type": "debit", "created": 1, "account": {"bank": "left", "country": "DE"}},
    {"id": "c", "type": "credit", "created": 1, "account": {"bank": "right", "country": "FR"}},
    {"id": "d", "type": "voucher", "created": 1, "code": "x", "note": None},
]


def learned(bodies: list[Json]) -> dict[str, Any]:
    evidence = Evidence()
    for number, body in enumerate(bodies):
        evidence.fold(exchange("GET", f"/payment_methods/{100 + number}", 200, body))
    told = document(evidence, "shop")
    openapi_spec_validator.validate(told)
    return told


def answer(told: dict[str, Any]) -> dict[str, Any]:
    path = next(iter(told["paths"]))
    schema: dict[str, Any] = told["paths"][path]["get"]["responses"]["200"]["content"]["application/json"][
        "schema"
    ]
    return schema


def accepts(told: dict[str, Any], body: Json) -> bool:
    schema = {"$schema": Draft202012Validator.META_SCHEMA["$id"], "components": told["components"], **answer(told)}
    return bool(Draft202012Validator(schema).is_valid(body))


def test_variants_are_components_named_after_their_tag_and_what_they_are() -> None:
    told = learned(METHODS * 5)

    schema = answer(told)

    assert set(schema["properties"]) == {"id", "type", "created"}
    assert schema["required"] == ["created", "id", "type"]
    assert schema["discriminator"] == {
        "propertyName": "type",
        "mapping": {
            "card": "#/components/schemas/CardPaymentMethod",
            "credit": "#/components/schemas/CreditOrDebitPaymentMethod",
            "debit": "#/components/schemas/CreditOrDebitPaymentMethod",
            "voucher": "#/components/schemas/VoucherPaymentMethod",
        },
    }
    card = told["components"]["schemas"]["CardPaymentMethod"]
    assert card["properties"]["type"] == {"const": "card"}
    assert card["required"] == ["type", "card"]


def test_each_body_fits_its_variant_and_no_other() -> None:
    told = learned(METHODS * 5)

    assert all(accepts(told, body) for body in METHODS)
    assert not accepts(told, {"id": "a", "type": "card", "created": 1})
    assert not accepts(told, {"id": "a", "type": "card", "created": 1, "card": "4242"})


def test_a_value_never_seen_is_one_more_variant() -> None:
    told = learned(METHODS * 5)

    assert accepts(told, {"id": "e", "type": "wallet", "created": 1, "wallet": {}})


def test_a_nullable_union_accepts_null() -> None:
    holders: list[Json] = [{"id": n, "method": METHODS[n % 4] if n % 5 else None} for n in range(40)]
    told = learned(holders)

    assert all(accepts(told, body) for body in holders)
    assert {"type": "null"} in answer(told)["properties"]["method"]["anyOf"]


@pytest.mark.parametrize(
    "bodies",
    [
        METHODS,
        [{"type": kind, "size": 1, **({"note": "x"} if n % 2 else {})} for n in range(40) for kind in ("a", "b")],
        [{"type": kind, "size": 1} for kind in ("a", "b")] * 20,
        [*METHODS * 5, {"id": "x", "created": 1}],
        [{"type": f"kind {letter}", letter: 1} for letter in "abcdefghijklmnopqrstuvwxyz"] * 5,
    ],
    ids=["seen once", "not explained", "all alike", "one without a tag", "too many"],
)
def test_where_no_tag_explains_them_members_are_optional(bodies: list[Json]) -> None:
    objects = Node.of(*bodies).settle().get(Objects)

    assert objects is not None and union_of(objects) is None


@settings(max_examples=40, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 30))
def test_neither_order_nor_sharding_changes_a_union(dice: random.Random, cut: int) -> None:
    bodies = METHODS * 8
    whole = Node.of(*bodies)

    shuffled = dice.sample(bodies, len(bodies))
    merged = Node.of(*shuffled[cut:])
    merged.merge(Node.of(*shuffled[:cut]))

    assert json.dumps(schema_of(merged)) == json.dumps(schema_of(whole))

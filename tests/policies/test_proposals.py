"""A look-up is proposed from traffic that shows it to work, and from nothing else."""

from __future__ import annotations

import json
from typing import Any

import pytest

from discovery.exchange import Exchange, Fault, Phase, Request, Response
from policies.proposals import MADE, NEEDED, Form, Proposer, proposed

JSON = ((b"content-type", b"application/json"),)
BY_REF = Form("POST /charges", "/charges?ref={body.ref}", "/data/0")


def made(id: str, path: str = "/charges", **sent: Any) -> Exchange:
    request = Request("POST", path.encode(), JSON, json.dumps(sent).encode())
    return Exchange("billing", request, Response(201, JSON, json.dumps({"id": id}).encode()))


def shown(target: str, answer: Any, status: int = 200) -> Exchange:
    return Exchange(
        "billing", Request("GET", target.encode()), Response(status, JSON, json.dumps(answer).encode())
    )


def told(*exchanges: Exchange) -> list[tuple[Form, int]]:
    proposer = Proposer(b"k")
    for exchange in exchanges:
        proposer.fold(exchange)
    return [(one.form, one.seen) for one in proposed(*proposer.take())]


def searched(n: int, *, more: bool = False) -> list[Exchange]:
    """One charge made, and searched for by its reference."""
    other = [{"id": "ch-other", "ref": "r-other"}] if more else []
    return [
        made(f"ch-{n}", ref=f"ref-{n}", amount=5000, currency="EUR"),
        shown(f"/charges?ref=ref-{n}", {"data": [{"id": f"ch-{n}", "ref": f"ref-{n}"}, *other]}),
    ]


def many(one: Any, count: int = NEEDED) -> list[Exchange]:
    return [exchange for n in range(count) for exchange in one(n)]


def test_a_search_that_showed_what_was_made_is_proposed():
    assert told(*many(searched)) == [(BY_REF, NEEDED)]


def test_too_few_finds_and_repeated_looks_at_one_thing_are_no_proposal():
    assert told(*many(searched, NEEDED - 1)) == []
    assert told(*searched(1), *[searched(1)[1]] * 10) == []


def test_a_search_that_returns_others_beside_it_is_not_proposed():
    assert told(*many(lambda n: searched(n, more=True))) == []


def test_what_shows_another_object_speaks_against_it():
    wrong = shown("/charges?ref=ref-9", {"data": [{"id": "ch-1"}]})

    assert told(*many(searched), made("ch-9", ref="ref-9"), wrong) == []


def test_an_empty_answer_speaks_neither_way():
    assert told(*many(searched), made("ch-9", ref="ref-9"), shown("/charges?ref=ref-9", {"data": []})) == [
        (BY_REF, NEEDED)
    ]


def test_a_value_that_several_were_made_with_names_none():
    one = [exchange for n in range(4) for exchange in (made(f"ch-{n}", currency=f"EU{n % 2}"),)]
    looks = [shown(f"/charges?currency=EU{n}", {"data": [{"id": f"ch-{n + 2}"}]}) for n in range(2)]

    assert told(*one, *looks) == []


def test_a_thing_is_found_under_the_path_the_caller_chose_for_it():
    def item(n: int) -> list[Exchange]:
        thing = {"id": f"i-{n}", "code": f"c-{n}x"}
        return [
            made(f"i-{n}", f"/shops/4{n}/items", item={"code": f"c-{n}x"}),
            shown(f"/shops/4{n}/items/c-{n}x", thing),
        ]

    form = Form("POST /shops/{1}/items", "/shops/{path.1}/items/{body.item.code}", "")
    assert told(*many(item)) == [(form, NEEDED)]


def test_one_reference_may_go_to_several_operations():
    def both(n: int) -> list[Exchange]:
        return [made(f"o-{n}", "/orders", ref=f"ref-{n}"), *searched(n)]

    assert told(*many(both)) == [(BY_REF, NEEDED)]


@pytest.mark.parametrize(
    "target", ["/charges?ref=ref-{}&at=1699999999", "/charges?ref=ref-{}&api_key=x", "/of/99/charges?ref=ref-{}"]
)
def test_a_target_with_parts_nobody_could_fill_in_is_not_proposed(target: str):
    def one(n: int) -> list[Exchange]:
        return [made(f"ch-{n}", ref=f"ref-{n}"), shown(target.format(n), {"data": [{"id": f"ch-{n}"}]})]

    assert told(*many(one)) == []


def test_no_value_is_kept_in_the_clear_and_secrets_are_not_even_hashed():
    proposer = Proposer(b"k")
    proposer.fold(made("ch-1", ref="reference-one", password="reference-two"))

    kept = repr(proposer._made)
    assert "reference" not in kept and "ch-1" not in kept
    assert len(proposer._made) == 1


def test_memory_is_bounded_and_refusals_faults_and_odd_bodies_tell_nothing():
    proposer = Proposer(b"k")
    for n in range(MADE + 10):
        proposer.fold(made(f"ch-{n}", ref=f"ref-{n}"))
    size = len(proposer._made)
    lost = Fault(Phase.WAIT, "closed")
    proposer.fold(Exchange("billing", Request("POST", b"/charges", JSON, b'{"ref": "new"}'), lost))
    proposer.fold(shown("/charges?ref=ref-4000", {"error": "no"}, 404))
    proposer.fold(Exchange("billing", Request("POST", b"/charges", JSON, b"[1]"), Response(201, JSON, b"null")))

    assert size == MADE == len(proposer._made)
    assert proposer.take() == ({}, {})

"""What a look-up asks, and what its answer proves."""

from __future__ import annotations

import math

import pytest

from discovery.exchange import Fault, Phase, Request, Response
from policies.doubt import LOOKING, Applied, NotApplied, Unsure, assume, judge, look_up, says_it_exists
from policies.rules import Assume, Lookup, OperationRule, UpstreamRules, rules_for

JSON = (b"content-type", b"application/json")
CHARGE = Request(
    "POST",
    b"/accounts/a%20b/charges?mode=live",
    (JSON, (b"authorization", b"Bearer t"), (b"x-ref", b"h-1"), (b"if-match", b"x"), (b"idempotency-key", b"k")),
    b'{"ref": "r/1", "amount": 5, "customer": {"id": "c-1"}}',
)
LOOKUP = Lookup("/charges?ref={body.ref}", "/data/0", 60.0)


def answer(body: bytes, status: int = 200) -> Response:
    return Response(status, (JSON,), body)


def verdict(said: Response | Fault, age: float = 0.0, lookup: Lookup = LOOKUP):
    asked = look_up(lookup, CHARGE)
    assert asked is not None
    return judge(lookup, CHARGE, asked, said, age)


@pytest.mark.parametrize(
    ("template", "target"),
    [
        ("/charges?ref={body.ref}", b"/charges?ref=r%2F1"),
        ("/customers/{body.customer.id}/charges", b"/customers/c-1/charges"),
        ("/charges?amount={body.amount}&mode={query.mode}", b"/charges?amount=5&mode=live"),
        ("/refs/{header.X-Ref}", b"/refs/h-1"),
        ("/{path.0}/{path.2}", b"/accounts/charges"),
    ],
)
def test_a_look_up_is_filled_in_from_the_request(template: str, target: bytes):
    asked = look_up(Lookup(template, ""), CHARGE)

    assert asked is not None
    assert (asked.method, asked.target) == ("GET", target)


def test_a_look_up_asks_as_the_caller_but_neither_conditionally_nor_under_a_key():
    asked = look_up(LOOKUP, CHARGE)

    assert asked is not None
    assert [name for name, _ in asked.headers] == [b"authorization", b"x-ref"]


def test_a_request_that_lacks_what_the_look_up_names_is_not_looked_up():
    assert look_up(Lookup("/charges?ref={body.nothing}", ""), CHARGE) is None


def test_presence_proves_that_it_was_applied_and_is_told_as_the_reply():
    proved = verdict(answer(b'{"data": [{"id": 9, "ref": "r/1"}]}'))

    assert isinstance(proved, Applied)
    assert (proved.reply.status, proved.reply.body) == (200, b'{"id":9,"ref":"r/1"}')
    assert proved.reply.header(b"gimbal-evidence") == b"lookup"


def test_what_is_found_under_another_reference_proves_nothing():
    proved = verdict(answer(b'{"data": [{"id": 9, "ref": "other"}]}'))

    assert isinstance(proved, Unsure)
    assert proved.again is None and "'other'" in proved.why


@pytest.mark.parametrize("absent", [answer(b'{"data": []}'), answer(b'{"data": [null]}'), answer(b"", 404)])
def test_absence_proves_something_only_after_its_time(absent: Response):
    assert isinstance(verdict(absent, 59.9), Unsure)
    assert isinstance(verdict(absent, 60.0), NotApplied)
    assert isinstance(verdict(absent, 1e6, Lookup(LOOKUP.get, LOOKUP.found, math.inf)), Unsure)


def test_the_look_after_absence_begins_to_count_comes_in_time():
    proved = verdict(answer(b'{"data": []}'), 58.0)

    assert isinstance(proved, Unsure)
    assert proved.again == pytest.approx(2.05)


@pytest.mark.parametrize(
    "said", [answer(b"", 500), answer(b"", 403), Response(302), Fault(Phase.WAIT, "closed")], ids=str
)
def test_an_answer_that_is_none_proves_nothing_and_is_asked_again_for_an_hour(said: Response | Fault):
    early, late = verdict(said, 10.0), verdict(said, 61.0 + LOOKING)

    assert isinstance(early, Unsure) and early.again is not None
    assert isinstance(late, Unsure) and late.again is None


def test_what_is_declared_holds_and_a_declared_repeat_has_its_limit():
    def rules(assumed: Assume):
        upstream = UpstreamRules(
            "u", "http://u", attempts=3, operations=(OperationRule("POST /x", assume=assumed),)
        )
        return rules_for(upstream, "POST", "/x")

    assert isinstance(assume(rules(Assume.APPLIED), 1), Applied)
    assert isinstance(assume(rules(Assume.NOT_APPLIED), 2), NotApplied)
    assert isinstance(assume(rules(Assume.NOT_APPLIED), 3), Unsure)
    assert isinstance(assume(rules(Assume.ASK), 1), Unsure)


@pytest.mark.parametrize(
    ("said", "exists"),
    [
        (answer(b"", 409), True),
        (answer(b'{"error": {"code": "already_exists"}}', 422), True),
        (answer(b'{"error": "amount is required"}', 422), False),
    ],
)
def test_a_refusal_that_says_it_is_there_already_is_recognised(said: Response, exists: bool):
    assert says_it_exists(said) is exists

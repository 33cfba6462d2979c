"""The key an upstream gets, and where two requests differ."""

import orjson

from discovery.exchange import Request
from policies.keys import differences, key_for, with_key
from policies.rules import Idempotency, Stores

REQUEST = Request("POST", b"/charges?a=1", ((b"idempotency-key", b"mine"), (b"x", b"1")), b'{"amount":1}')


def test_an_upstream_without_keys_gets_the_request_as_it_is():
    assert with_key(REQUEST, Idempotency(), "k") is REQUEST


def test_a_key_takes_the_place_of_the_callers_own():
    keyed = with_key(REQUEST, Idempotency("header"), "k")

    assert keyed.headers == ((b"x", b"1"), (b"Idempotency-Key", b"k"))
    assert keyed.body == REQUEST.body


def test_a_key_may_travel_in_query_or_body():
    assert with_key(REQUEST, Idempotency("query", "key"), "k").target == b"/charges?a=1&key=k"
    assert orjson.loads(with_key(REQUEST, Idempotency("body", "key"), "k").body) == {"amount": 1, "key": "k"}


def test_a_body_that_is_no_object_is_left_alone():
    listed = Request("POST", b"/x", (), b"[1]")

    assert with_key(listed, Idempotency("body", "key"), "k") is not None
    assert with_key(listed, Idempotency("body", "key"), "k").body == b"[1]"


def test_differences_are_named_and_never_quoted():
    other = Request("POST", b"/charges?a=2", (), b'{"amount":2,"note":"secret"}')

    assert differences(REQUEST, other) == ["query", "body/amount", "body/note"]


def test_the_same_bytes_under_other_headers_differ_in_headers():
    assert differences(REQUEST, Request("POST", b"/charges?a=1", (), REQUEST.body)) == ["headers"]


def test_an_upstream_that_remembers_only_successes_gets_one_key_for_all_generations():
    definite, success = Idempotency("header"), Idempotency("header", stores=Stores.SUCCESS)

    assert key_for("call", 1, definite) != key_for("call", 2, definite)
    assert key_for("call", 1, success) == key_for("call", 2, success) == key_for("call", 1, definite)
    assert key_for("call", 2, success, "item") != key_for("call", 2, success)

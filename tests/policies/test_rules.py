"""Settings per upstream and operation; the most specific wins."""

import math
from dataclasses import replace

import pytest

from policies.rules import Idempotency, OperationRule, UpstreamRules, rules_for

SHOP = UpstreamRules("shop", "https://shop.example")


def test_a_method_says_what_is_safe_and_idempotent_unless_told_otherwise():
    get, put, post = (rules_for(SHOP, method, "/x") for method in ("GET", "PUT", "POST"))

    assert (get.safe, get.replay, get.window) == (True, False, math.inf)
    assert (put.safe, put.replay, put.window) == (False, True, math.inf)
    assert (post.safe, post.replay, post.window) == (False, True, 0.0)


def test_an_operation_overrules_its_method():
    search = OperationRule("POST /search", safe=True)
    rules = rules_for(replace(SHOP, operations=(search,)), "POST", "/search")

    assert (rules.safe, rules.replay, rules.idempotent) == (True, False, True)


def test_the_most_specific_operation_wins_whatever_the_order():
    wide, near = OperationRule("* /orders/{id}", wait=1.0), OperationRule("POST /orders/open", wait=2.0)

    for operations in ((wide, near), (near, wide)):
        assert rules_for(replace(SHOP, operations=operations), "POST", "/orders/open").wait == 2.0


@pytest.mark.parametrize(
    ("match", "method", "path", "fits"),
    [
        ("POST /charges", "POST", "/charges", True),
        ("POST /charges", "POST", "/charges/1", False),
        ("POST /charges/{id}", "POST", "/charges/1", True),
        ("POST /charges/{id}", "POST", "/charges/1/refund", False),
        ("* /v1/**", "DELETE", "/v1/a/b/c", True),
        ("/a.b", "GET", "/axb", False),
    ],
)
def test_a_pattern_matches_whole_paths(match, method, path, fits):
    assert OperationRule(match).matches(method, path) is fits


@pytest.mark.parametrize(("window", "safe"), [(86400.0, 86340.0), (100.0, 90.0), (20.0, 15.0), (3.0, 0.0)])
def test_the_end_of_a_keys_window_is_kept_back(window, safe):
    keyed = replace(SHOP, idempotency=Idempotency("header", window=window))

    assert rules_for(keyed, "POST", "/x").window == safe

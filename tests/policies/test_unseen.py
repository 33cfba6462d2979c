"""Dialects written after the rules: how answers are read that nobody looked at while the rules were written.

Each set in `fixtures/outcomes/` was written without a look at the code, and read once before anything was mended;
docs/outcomes.md has those first numbers. Here stands what each reaches since.
"""

import json
import re
from collections import Counter
from pathlib import Path

import pytest

from gateway.recordings import read_exchange
from policies.explain import explain

NOW = 1_700_000_000.0
SETS = Path(__file__).parents[2] / "fixtures" / "outcomes"
ALIKE = {"length": "range", "unique": "other"}
BARS = {
    "second": {"outcome": 0.98, "effect": 1.0, "precision": 0.96, "recall": 0.96, "reason": 0.86, "items": 1.0},
    "third": {"outcome": 0.99, "effect": 0.99, "precision": 0.96, "recall": 0.94, "reason": 0.94, "items": 1.0},
    "fifth": {"outcome": 1.0, "effect": 1.0, "precision": 0.86, "recall": 0.86, "reason": 1.0, "items": 1.0},
    "fourth": {"outcome": 0.98, "effect": 1.0, "precision": 0.98, "recall": 0.91, "reason": 0.97, "items": 1.0},
}


def cases_of(name):
    return [json.loads(line) for line in (SETS / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()]


@pytest.fixture(scope="module", params=BARS)
def told(request):
    """A set's name, and each of its cases with what it is read as."""
    return request.param, [
        (case, explain(read_exchange(case["exchange"]), NOW)) for case in cases_of(request.param)
    ]


def fields_of(got):
    return {f["pointer"]: f["reason"] for f in got["fields"] if f.get("in", "body") in ("body", "query")}


def test_a_set_that_was_written_unseen_is_read_as_well_as_its_bar_says(told):
    name, pairs = told
    counts = Counter()
    for case, got in pairs:
        expected = case["expected"]
        counts["cases"] += 1
        counts["outcome"] += got["outcome"] in expected["outcome"]
        counts["effect"] += got["effect"] in expected["effect"]
        if "fields" in expected:
            named = fields_of(got)
            counts["labelled"] += len(expected["fields"])
            counts["answered"] += len(named)
            for pointer in named.keys() & expected["fields"].keys():
                counts["hits"] += 1
                wanted = expected["fields"][pointer]
                wanted = {wanted} if isinstance(wanted, str) else set(wanted)
                counts["reasons"] += ALIKE.get(named[pointer], named[pointer]) in {ALIKE.get(w, w) for w in wanted}
        items = {key: item["ok"] for item in got["items"] for key in (item["key"], item["index"])}
        for key, done, _ in expected.get("items", ()):
            counts["items"] += 1
            counts["items right"] += items.get(key) is done

    reached = {
        "outcome": counts["outcome"] / counts["cases"],
        "effect": counts["effect"] / counts["cases"],
        "precision": counts["hits"] / counts["answered"],
        "recall": counts["hits"] / counts["labelled"],
        "reason": counts["reasons"] / counts["hits"],
        "items": counts["items right"] / counts["items"] if counts["items"] else 1.0,
    }
    assert not {what: share for what, share in reached.items() if share < BARS[name][what]}


def test_no_error_of_a_set_is_taken_for_success(told):
    assert not [
        c["name"]
        for c, got in told[1]
        if got["outcome"] == "success" and "success" not in c["expected"]["outcome"]
    ]


def test_no_refusal_of_a_set_is_sent_again(told):
    final = {"refused", "validation"}
    assert not [c["name"] for c, got in told[1] if got["retry"] != "no" and set(c["expected"]["outcome"]) <= final]


def test_no_unsafe_call_of_a_set_whose_effect_is_unknown_is_repeated_or_called_without_effect(told):
    unsafe = [
        (case, got)
        for case, got in told[1]
        if case["expected"]["effect"] == ["unknown"] and case["exchange"]["method"] in ("POST", "PATCH")
    ]

    assert not [c["name"] for c, got in unsafe if got["effect"] != "unknown" or got["retry"] in ("now", "later")]


def test_no_item_that_failed_is_taken_for_done_and_none_that_is_done_is_sent_again(told):
    wrong = [
        (case["name"], key)
        for case, got in told[1]
        for item in got["items"]
        for key, done, _ in case["expected"].get("items", ())
        if key in (item["key"], item["index"]) and ((item["ok"] and not done) or (item["retry"] and done))
    ]
    assert not wrong


@pytest.mark.parametrize("name", BARS)
def test_a_set_names_its_cases_once(name):
    names = [case["name"] for case in cases_of(name)]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[\w:.-]+", one) for one in names)

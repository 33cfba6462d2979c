"""Edits lead there and back, touch nothing else, and never make anything up."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from discovery.adapt import Adaptation, Evidenced, back, dump, forward, load, verify
from discovery.edits import (
    Coerce,
    Default,
    Edit,
    EnumMap,
    Form,
    Lost,
    Move,
    Rename,
    ToList,
    ToScalar,
    Unwrap,
    Wrap,
)
from discovery.shape import Shape, example_of, merged, misfits, shape_of
from discovery.shape import load as load_shape
from discovery.splice import open_text

NAMES = st.sampled_from(["a", "b", "c", "name", "full_name", 'q"uote', "umlaut-ü", "sl/ash"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(10**15), 10**15)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8)
    | st.sampled_from(["12", "7.5", "007", "paid", "2024-05-01T10:00:00Z", "1e5"])
)
TREES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=4),
    max_leaves=12,
)
OBJECTS = st.dictionaries(NAMES, TREES, max_size=5)
EDITS = st.sampled_from(
    [
        Rename("/a", "/full_name"),
        Rename("/b/a", "/b/c"),
        Rename("/b/*/a", "/b/*/name"),
        Move("/a", "/b/a"),
        Move("/b/a", "/a"),
        Move("/b/*/a", "/b/*/c/name"),
        Wrap("/data"),
        Wrap("/data/result"),
        ToList("/a"),
        ToScalar("/a"),
        Coerce("/a", Form.NUMBER, Form.NUMERIC),
        Coerce("/a", Form.NUMERIC, Form.NUMBER),
        Coerce("/b/*", Form.EPOCH, Form.DATE_TIME),
        Coerce("/b", Form.DATE_TIME, Form.EPOCH_MS),
        EnumMap("/a", (("paid", "PAID"), ("12", "twelve"))),
    ]
)


def undone(edits: list[Edit], body: Any) -> Any:
    return json.loads(back(edits, json.dumps(body).encode()).body)


def made(edits: list[Edit], body: Any) -> Any:
    there = forward(edits, json.dumps(body).encode())
    return None if there is None else json.loads(there.body)


@given(OBJECTS, st.lists(EDITS, min_size=1, max_size=3))
@settings(max_examples=200, deadline=None)
def test_a_request_goes_forward_only_where_the_way_back_leads_to_the_same(body: Any, edits: list[Edit]):
    text = json.dumps(body, ensure_ascii=False).encode("utf-8", "surrogatepass")
    there = forward(edits, text)

    if there is not None and there.done:
        assert json.loads(back(edits, there.body).body) == body


@given(
    st.fixed_dictionaries({"a": st.integers(0, 10**14) | st.just("x")}, optional={"b": TREES, "c": TREES}),
    st.sampled_from([Rename("/a", "/z"), Move("/a", "/z/y"), Wrap("/z"), ToList("/a")]),
)
def test_a_place_that_is_free_is_always_reached(body: Any, edit: Edit):
    there = forward([edit], json.dumps(body).encode())

    assert there is not None and there.done == (edit,)


@given(OBJECTS, st.sampled_from([None, 1, 4, "\t"]), st.booleans())
@settings(max_examples=60, deadline=None)
def test_a_body_that_is_opened_and_not_edited_keeps_every_byte(body: Any, indent: Any, plain: bool):
    text = "\n " + json.dumps(body, indent=indent, ensure_ascii=plain) + "\r\n"
    assume(not any("\ud800" <= c <= "\udfff" for c in text))
    opened = open_text(text.encode())
    assert opened is not None
    lead, root, tail = opened

    def touch(node: Any) -> None:
        for member in node.members:
            touch(member.value)

    touch(root)

    assert lead + root.text() + tail == text


def test_bytes_beside_an_edit_stay_as_they_were():
    body = b'{ "n":1.50,\n  "full_name" : "A\\u00e9",\t"big":12345678901234567890.10, "full_name2":[ 1 , 2 ] }\n'

    adapted = back([Rename("/name", "/full_name")], body)

    assert adapted.body == body.replace(b'"full_name" :', b'"name" :')


def test_each_object_of_a_list_is_edited():
    edits: list[Edit] = [Rename("/data/*/name", "/data/*/full_name")]

    answer = undone(edits, {"data": [{"full_name": "a"}, {"id": 2}, {"full_name": "c"}]})

    assert answer == {"data": [{"name": "a"}, {"id": 2}, {"name": "c"}]}


def test_stars_meet_map_keys_that_are_values_and_no_names():
    uuid = "8f14e45f-ceea-467f-a34c-8f14e45fceea"
    edits: list[Edit] = [Rename("/by_id/*/name", "/by_id/*/title")]

    answer = undone(edits, {"by_id": {uuid: {"title": "x"}, "meta": {"title": "stays"}}})

    assert answer == {"by_id": {uuid: {"name": "x"}, "meta": {"title": "stays"}}}


def test_an_edit_that_finds_its_pinned_place_taken_leaves_both():
    body = {"name": "pinned", "full_name": "new"}

    assert undone([Rename("/name", "/full_name")], body) == body


def test_a_repeated_key_is_not_edited_and_counts_as_degraded():
    adapted = back([Rename("/name", "/full_name")], b'{"full_name": 1, "full_name": 2}')

    assert adapted.body == b'{"full_name": 1, "full_name": 2}'
    assert adapted.degraded == ("/name",)


def test_moved_members_find_their_old_object_again():
    edits: list[Edit] = [Move("/address/city", "/city"), Move("/address/zip", "/zip")]

    assert undone(edits, {"id": 1, "city": "Ulm", "zip": "89073"}) == {
        "id": 1,
        "address": {"zip": "89073", "city": "Ulm"},
    }


def test_edits_inside_a_renamed_object_inside_an_envelope():
    edits: list[Edit] = [
        Coerce("/customer/age", Form.NUMBER, Form.NUMERIC),
        Rename("/customer/name", "/customer/full_name"),
        Rename("/customer", "/client"),
        Wrap("/data"),
    ]
    pinned = {"customer": {"name": "x", "age": 7}}

    there = made(edits, pinned)

    assert there == {"data": {"client": {"full_name": "x", "age": "7"}}}
    assert undone(edits, there) == pinned


@pytest.mark.parametrize(
    ("edit", "now", "pinned"),
    [
        (Coerce("/v", Form.NUMBER, Form.NUMERIC), "12.50", 12.5),
        (Coerce("/v", Form.NUMERIC, Form.NUMBER), 1042, "1042"),
        (Coerce("/v", Form.EPOCH, Form.DATE_TIME), "2023-11-14T22:13:20Z", 1_700_000_000),
        (Coerce("/v", Form.EPOCH, Form.DATE_TIME), "2023-11-14T23:13:20.000+01:00", 1_700_000_000),
        (Coerce("/v", Form.EPOCH_MS, Form.DATE_TIME), "2023-11-14T22:13:20.25Z", 1_700_000_000_250),
        (Coerce("/v", Form.DATE_TIME, Form.EPOCH), 1_700_000_000, "2023-11-14T22:13:20Z"),
        (ToList("/v"), ["x"], "x"),
        (ToScalar("/v"), {"a": 1}, [{"a": 1}]),
        (EnumMap("/v", (("canceled", "CANCELLED"),)), "CANCELLED", "canceled"),
    ],
)
def test_values_are_brought_back(edit: Edit, now: Any, pinned: Any):
    assert undone([edit], {"v": now}) == {"v": pinned}


@pytest.mark.parametrize(
    ("edit", "now"),
    [
        (Coerce("/v", Form.NUMBER, Form.NUMERIC), "007"),
        (Coerce("/v", Form.NUMBER, Form.NUMERIC), "1e5"),
        (Coerce("/v", Form.NUMBER, Form.NUMERIC), "12345678901234567890"),
        (Coerce("/v", Form.NUMBER, Form.NUMERIC), "12 EUR"),
        (Coerce("/v", Form.NUMBER, Form.NUMERIC), {"amount": 1}),
        (Coerce("/v", Form.NUMERIC, Form.NUMBER), 1e300),
        (Coerce("/v", Form.NUMERIC, Form.NUMBER), True),
        (Coerce("/v", Form.EPOCH, Form.DATE_TIME), "2023-11-14T22:13:20.5Z"),
        (Coerce("/v", Form.EPOCH, Form.DATE_TIME), "2023-11-14T22:13:20"),
        (Coerce("/v", Form.DATE_TIME, Form.EPOCH), 1_700_000_000_000),
        (ToList("/v"), ["x", "y"]),
        (ToList("/v"), []),
        (Lost("/w"), 1),
        (Lost("/v", ("string",)), 1),
        (Lost("", ("array",)), 1),
    ],
)
def test_what_would_lose_something_is_left_as_it_is_and_counted(edit: Edit, now: Any):
    body = json.dumps({"v": now}).encode()

    adapted = back([edit], body)

    assert adapted.body == body
    assert len(adapted.degraded) == 1


def test_null_is_null_in_any_form():
    assert back([Coerce("/v", Form.NUMBER, Form.NUMERIC)], b'{"v": null}').degraded == ()


@pytest.mark.parametrize("edit", [Default("/a", None), Unwrap("/data"), Lost("/a")])
def test_a_request_is_never_edited_where_something_would_be_lost(edit: Edit):
    assert forward([edit], b'{"data": {}}') is None


@pytest.mark.parametrize("body", [b"", b"<xml/>", b"{", b"[" * 5000, b'{"a": \xff}'])
def test_what_is_no_json_is_returned_as_it_came(body: bytes):
    assert back([Rename("/name", "/full_name")], body).body == body


def test_adaptations_and_shapes_survive_the_store():
    edits = [
        Rename("/a", "/b"),
        Coerce("/c", Form.EPOCH, Form.DATE_TIME),
        EnumMap("/d", (("x", "X"),)),
        Default("/e", None),
        Wrap("/data"),
    ]
    adaptation = Adaptation(tuple(Evidenced(edit, True, "seen", Lost("/a", ("string",))) for edit in edits), 3, 4)
    shape = merged(shape_of({"a": [1, "x"]}), shape_of({"b": None}))

    assert load(json.loads(json.dumps(dump(adaptation)))) == adaptation
    assert load_shape(json.loads(json.dumps(shape.state()))) == shape


@given(st.lists(OBJECTS, min_size=1, max_size=4))
@settings(max_examples=40, deadline=None)
def test_every_body_fits_the_shape_it_was_merged_into_in_any_order(bodies: list[Any]):
    shapes = [shape_of(body) for body in bodies]
    one, other = Shape(), Shape()
    for shape in shapes:
        one = merged(one, shape)
    for shape in reversed(shapes):
        other = merged(shape, other)

    assert {at: p.kinds for at, p in one.places.items()} == {at: p.kinds for at, p in other.places.items()}
    assert all(misfits(shape, one) == set() for shape in shapes)


@given(OBJECTS)
@settings(max_examples=40, deadline=None)
def test_an_example_has_the_shape_and_none_of_the_texts(body: Any):
    body = {**body, "secret": "hunter2-very-secret"}
    example = example_of(body)

    assert misfits(shape_of(example), shape_of(body)) == set()
    assert "hunter2" not in json.dumps(example)


def test_an_adaptation_must_replay_on_what_was_seen():
    pin = shape_of({"id": 1, "name": "x", "tags": ["a"]})
    now = [
        example_of(body) for body in ({"id": 1, "label": "x", "tags": ["a"]}, {"id": 2, "label": "y", "tags": []})
    ]
    stray = [*now, example_of({"id": 3, "label": 7, "tags": []})]

    assert verify([Rename("/name", "/label")], now, pin)
    assert not verify([Rename("/name", "/label")], stray, pin)
    assert not verify([Rename("/name", "/tags")], now, pin)

"""Evidence merges in any order, keeps within its bounds, and keeps no values it should not."""

import math
import pickle
import random

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from discovery.evidence import (
    MAX_KEYS,
    MAX_VALUES,
    Arrays,
    Node,
    Nulls,
    Numbers,
    Objects,
    Strings,
    is_name,
)

NAMES = st.sampled_from(["id", "type", "status", "name", "items", "a", "b", "created_at", "4f1c9a2be0d7"])
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-1000, 1000)
    | st.floats(allow_nan=False, allow_infinity=False, width=32)
    | st.sampled_from(["open", "closed", "", "2024-05-01", "2024-05-01T10:00:00Z", "a@b.example", "x" * 50])
    | st.text(max_size=8)
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(NAMES, inner, max_size=5), max_leaves=12
)
DOCUMENTS = st.lists(VALUES, max_size=12)


@settings(max_examples=25, deadline=None)
@given(DOCUMENTS, st.randoms(use_true_random=False))
def test_the_order_of_what_is_seen_does_not_matter(values: list[object], shuffle: random.Random) -> None:
    shuffled = list(values)
    shuffle.shuffle(shuffled)

    assert Node.of(*values).state() == Node.of(*shuffled).state()


@settings(max_examples=25, deadline=None)
@given(DOCUMENTS, DOCUMENTS, DOCUMENTS)
def test_learning_in_shards_and_merging_is_learning_in_one_go(
    one: list[object], two: list[object], three: list[object]
) -> None:
    serial = Node.of(*one, *two, *three)

    left = Node.of(*one)
    left.merge(Node.of(*two))
    left.merge(Node.of(*three))
    right = Node.of(*two)
    right.merge(Node.of(*three))
    right.merge(Node.of(*one))

    assert left.state() == serial.state() == right.state()


@settings(max_examples=25, deadline=None)
@given(DOCUMENTS, DOCUMENTS)
def test_what_is_stored_comes_back_and_goes_on_learning(before: list[object], after: list[object]) -> None:
    stored = orjson.loads(orjson.dumps(Node.of(*before).state()))

    restored = Node().load(stored)
    for value in after:
        restored.fold(value)

    assert restored.state() == Node.of(*before, *after).state()


def test_presence_null_and_kinds_are_counted_apart() -> None:
    node = Node.of({"a": 1}, {"a": None}, {"a": "x"}, {}).settle()

    objects = node.get(Objects)
    assert objects is not None and objects.count == 4
    inner = objects.properties["a"]
    assert inner.count == 3
    assert {strategy.kind: strategy.count for strategy in inner.kinds()} == {"number": 1, "null": 1, "string": 1}


def test_times_of_first_and_last_sight_are_kept_also_on_the_fast_path() -> None:
    node = Node()
    for at in (50.0, 10.0, 90.0):
        node.fold({"a": "x"}, at)

    inner = node.settle().get(Objects).properties["a"].get(Strings)  # type: ignore[union-attr]

    assert inner is not None and (inner.first, inner.last) == (10.0, 90.0)


def test_a_few_short_words_are_kept_and_many_are_forgotten() -> None:
    few = Node.of(*({"status": word} for word in ["open", "closed"] * 5)).settle()
    many = Node.of(
        *({"status": f"s{chr(97 + i // 26)}{chr(97 + i % 26)}"} for i in range(MAX_VALUES + 1))
    ).settle()

    assert few.get(Objects).properties["status"].get(Strings).values == {"open": 5, "closed": 5}  # type: ignore[union-attr]
    assert many.get(Objects).properties["status"].get(Strings).values is None  # type: ignore[union-attr]


def test_no_value_of_a_person_a_secret_or_an_id_is_kept_anywhere() -> None:
    told = {
        "password": "hunter",
        "name": "Ada",
        "email": "ada@people.example",
        "token": "tok",
        "note": "sk_live_" + "abcdef123456" * 2,
        "id": "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "by_user": {"ada@people.example": 1, "f81d4fae-7dec-11d0-a765-00a0c91e6bf6": 2},
    }

    kept = orjson.dumps(Node.of(*[told] * 20).state())

    for value in (b"hunter", b"Ada", b"ada@", b'tok"', b"sk_live", b"f81d4fae"):
        assert value not in kept


def test_forms_are_claimed_only_while_every_value_has_them() -> None:
    times = Node.of("2024-05-01T10:00:00Z", "2024-05-02T10:00:00+02:00")
    mixed = Node.of("2024-05-01T10:00:00Z", "yesterday")

    assert times.get(Strings).form == "date-time"  # type: ignore[union-attr]
    assert mixed.get(Strings).form == ""  # type: ignore[union-attr]


def test_integers_widen_to_numbers_and_ranges_are_kept() -> None:
    node = Node.of(3, -1, 2.5)

    numbers = node.get(Numbers)
    assert numbers is not None and not numbers.whole and (numbers.low, numbers.high) == (-1, 3)


def test_arrays_are_seen_whole() -> None:
    node = Node.of([1, "x", None], []).settle()

    arrays = node.get(Arrays)
    assert arrays is not None and (arrays.low, arrays.high, arrays.empty) == (0, 3, 1)
    assert {type(strategy) for strategy in arrays.items.kinds()} == {Numbers, Strings, Nulls}


def test_thousands_of_one_off_keys_stay_within_the_bound_in_any_order() -> None:
    keys = [f"key{chr(97 + i % 26)}{'x' * (i % 7)}q{i:x}z" for i in range(6_000)]
    node, other = Node(), Node()
    for key in keys:
        node.fold({key: {"a": 1}})
    for key in reversed(keys):
        other.fold({key: {"a": 1}})

    state = node.state()

    assert len(state["o"]["p"]) <= MAX_KEYS
    assert state == other.state()
    assert len(pickle.dumps(state)) < 200_000


def test_a_tag_counts_which_keys_come_with_each_of_its_values() -> None:
    node = Node.of({"type": "card", "last4": "1"}, {"type": "bank", "iban": "x"}, {"type": "card"}).settle()

    tags = node.get(Objects).tags  # type: ignore[union-attr]

    assert tags == {"type": {"card": (2, {"type": 2, "last4": 1}), "bank": (1, {"type": 1, "iban": 1})}}


def test_keys_that_are_values_are_no_names() -> None:
    values = [
        "f81d4fae-7dec-11d0-a765-00a0c91e6bf6",
        "a@b.example",
        "2024-05-01",
        "1234567",
        "0oaspf3cfatE1nDO31d7",
    ]
    names = ["id", "created_at", "+1", "@type", "x-foo", "README.md", "Content-Type", "10"]

    assert not any(is_name(value) for value in values)
    assert all(is_name(name) for name in names)


def test_unknown_times_leave_no_trace() -> None:
    assert Node.of({"a": 1}).state() == {"o": {"n": 1, "p": {"a": {"i": {"n": 1, "t": "integer", "r": [1, 1]}}}}}
    assert math.isinf(Node.of(1).get(Numbers).first)  # type: ignore[union-attr]


def test_depth_beyond_the_bound_is_counted_but_not_looked_into() -> None:
    deep: object = "end"
    for _ in range(190):
        deep = {"a": [deep]}
    node = Node.of(deep)

    node.merge(Node.of(deep))

    assert node.state() == Node.of(deep, deep).state() == Node().load(node.state()).state()
    assert b"end" not in orjson.dumps(node.state())

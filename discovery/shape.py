"""Shapes: which places a body has, of which kinds, without its values.

A `Shape` is what a workflow type was written for: merged from several answers, it tells which members were always
there and which only at times. An *example* is one body with its values taken out (`example_of`): it can be edited
like a body, so an adaptation is replayed on examples before it is trusted. Neither holds a value of the API's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from discovery.edits import EPOCHS, Form, form_of
from discovery.evidence import is_name
from discovery.exchange import Json
from discovery.pointer import escaped

MAX_PLACES = 500
"""Places of one shape, as `discovery.drift_sketch` has them."""

MAX_DEPTH = 16

EXAMPLES: dict[str, Json] = {
    "null": None,
    "boolean": False,
    "integer": 7,
    "epoch": 1_000_000_000,
    "epoch-ms": 1_000_000_000_000,
    "number": 7.5,
    "decimal-text": "7.5",
    "date-time": "2001-01-01T00:00:00Z",
    "other-date-time": "2001-01-01T00:00:00.5+01:00",
    "string": "text",
}
"""Kind of a scalar -> what stands for it in an example. `date-time` is the form that epochs turn into exactly."""

DIGITS = "integer-text-"
"""Kinds of texts that are whole numbers, by their length: where all have one length, they may be padded codes."""

TEXTS = frozenset({"decimal-text", "date-time", "other-date-time", "string"})
NUMBERS = frozenset({"integer", "epoch", "epoch-ms", "number"})
WHOLE = frozenset({"integer", "epoch", "epoch-ms"})


def kind_of(value: Json) -> str:
    """Return the kind of a value: its JSON type, and of numbers and texts how they are written."""
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return "epoch" if value in EPOCHS else "epoch-ms" if value // 1000 in EPOCHS else "integer"
        case float():
            return "number"
        case list():
            return "array"
        case dict():
            return "object"
        case str():
            match form_of(value):
                case Form.NUMERIC:
                    return "decimal-text" if "." in value else f"{DIGITS}{len(value)}"
                case Form.DATE_TIME:
                    return "date-time" if len(value) == 20 and value[10] + value[19] == "TZ" else "other-date-time"
    return "string"


def json_type(kind: str) -> str:
    """Return a kind's JSON type: what a program that reads the body depends on."""
    return "string" if kind in TEXTS or kind.startswith(DIGITS) else "number" if kind in NUMBERS else kind


@dataclass(frozen=True, slots=True)
class Place:
    """One place: how many objects could have had it, how many did, as which kinds."""

    kinds: frozenset[str]
    present: int
    holders: int

    @property
    def always(self) -> bool:
        return self.present == self.holders

    @property
    def types(self) -> frozenset[str]:
        return frozenset(map(json_type, self.kinds))


@dataclass(frozen=True, slots=True)
class Shape:
    """Places by pointer, items and map keys as `*`. `answers` is how many bodies it was merged from."""

    places: Mapping[str, Place] = field(default_factory=dict)
    answers: int = 0

    def below(self, pointer: str) -> dict[str, Place]:
        """Return the places at and below `pointer`, as seen from there."""
        start = pointer + "/"
        return {
            place[len(pointer) :]: told
            for place, told in self.places.items()
            if place == pointer or place.startswith(start)
        }

    def state(self) -> Json:
        """Return the shape as JSON; `load` is its inverse."""
        return {
            "answers": self.answers,
            "places": {
                at: [[*sorted(place.kinds)], place.present, place.holders] for at, place in self.places.items()
            },
        }


def load(state: Json) -> Shape:
    """Return the shape whose `state` this is."""
    assert isinstance(state, dict)
    told, answers = state["places"], state["answers"]
    assert isinstance(told, dict) and isinstance(answers, int)
    places = {}
    for at, row in told.items():
        assert isinstance(row, list)
        kinds, present, holders = row
        assert isinstance(kinds, list) and isinstance(present, int) and isinstance(holders, int)
        places[at] = Place(frozenset(map(str, kinds)), present, holders)
    return Shape(places, answers)


def shape_of(value: Json) -> Shape:
    """Return the shape of one body."""
    kinds: dict[str, set[str]] = {}
    present: dict[str, int] = {}
    objects: dict[str, int] = {}
    for pointer, kind in _walk(value, "", 0):
        if pointer not in kinds and len(kinds) >= MAX_PLACES:
            break
        kinds.setdefault(pointer, set()).add(kind)
        present[pointer] = present.get(pointer, 0) + 1
        objects[pointer] = objects.get(pointer, 0) + (kind == "object")
    return Shape(
        {
            at: Place(frozenset(told), present[at], present[at] if _is_any(at) else objects[_parent(at)])
            for at, told in kinds.items()
        },
        1,
    )


def merged(one: Shape, other: Shape) -> Shape:
    """Return the shape of all bodies of both. The order makes no difference."""
    places = {}
    for at in [*one.places, *(at for at in other.places if at not in one.places)]:
        mine, theirs = one.places.get(at), other.places.get(at)
        places[at] = Place(
            (mine.kinds if mine else frozenset()) | (theirs.kinds if theirs else frozenset()),
            (mine.present if mine else 0) + (theirs.present if theirs else 0),
            (mine.holders if mine else _objects(one, at)) + (theirs.holders if theirs else _objects(other, at)),
        )
    return Shape(places, one.answers + other.answers)


def misfits(shape: Shape, pin: Shape) -> set[str]:
    """Return the pin's places that `shape` does not serve: always there and now lacking, or of another type."""
    wrong = set()
    for at, place in pin.places.items():
        here = shape.places.get(at)
        if here is not None and not here.types <= place.types:
            wrong.add(at)
        elif place.always and at and not _is_any(at):
            if here is None:
                if _objects(shape, at):
                    wrong.add(at)
            elif not here.always:
                wrong.add(at)
        elif here is None and not at:
            wrong.add(at)
    return wrong


def example_of(value: Json, depth: int = 0) -> Json:
    """Return a body with its values taken out; of an array the first two items, one of each look."""
    match value:
        case dict():
            if depth >= MAX_DEPTH:
                return {}
            kept = {key: inner for key, inner in value.items() if is_name(key)}
            named: dict[str, Json] = {key: example_of(inner, depth + 1) for key, inner in kept.items()}
            for key, inner in value.items():
                if key not in kept:
                    named["0"] = example_of(inner, depth + 1)
                    break
            return named
        case list():
            return [example_of(inner, depth + 1) for inner in value[:2]] if depth < MAX_DEPTH else []
        case _:
            kind = kind_of(value)
            return "7" * len(str(value)) if kind.startswith(DIGITS) else EXAMPLES[kind]


def _walk(value: Json, pointer: str, depth: int) -> Iterator[tuple[str, str]]:
    yield pointer, kind_of(value)
    if depth >= MAX_DEPTH:
        return
    match value:
        case dict():
            for key, inner in value.items():
                part = escaped(key) if is_name(key) else "*"
                yield from _walk(inner, f"{pointer}/{part}", depth + 1)
        case list():
            for inner in value:
                yield from _walk(inner, f"{pointer}/*", depth + 1)


def _is_any(pointer: str) -> bool:
    return not pointer or pointer.endswith("/*")


def _parent(pointer: str) -> str:
    return pointer.rpartition("/")[0]


def _objects(shape: Shape, at: str) -> int:
    """How many objects could have had a member that none had."""
    if _is_any(at):
        return 0
    parent = shape.places.get(_parent(at))
    if parent is None or "object" not in parent.kinds:
        return 0
    siblings = [
        place.holders
        for other, place in shape.places.items()
        if _parent(other) == _parent(at) and not _is_any(other)
    ]
    return max(siblings, default=parent.present)

"""Edits: the rewrites that lead from the shape a workflow was written for to the one an upstream has now.

Each edit says what became of one place: *forward* is from the pin to the contract (requests), *back* from the
contract to the pin (answers). An edit never invents: what it cannot carry over exactly it leaves as it stands, and
says so. `before` is the place in the pin, `after` the one in the contract.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Literal, NamedTuple, TypeAlias, assert_never

import orjson

from discovery.exchange import Json
from discovery.pointer import parts_of
from discovery.splice import Member, Node, places


@dataclass(frozen=True, slots=True)
class Rename:
    """A member has another name in the same object."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Move:
    """A member stands in another object. Stars must be shared: both places lie below the same last star."""

    before: str
    after: str


@dataclass(frozen=True, slots=True)
class Wrap:
    """The whole body now stands at `at`, inside an envelope."""

    at: str


@dataclass(frozen=True, slots=True)
class Unwrap:
    """What stood at `at` is now the whole body; what stood beside it is gone."""

    at: str


@dataclass(frozen=True, slots=True)
class ToList:
    """A value is now a list; of one item, or it cannot be brought back."""

    at: str


@dataclass(frozen=True, slots=True)
class ToScalar:
    """A list of one item is now that item."""

    at: str


class Form(StrEnum):
    """How a value is written, where one can be turned into the other without a loss."""

    NUMBER = "number"
    NUMERIC = "numeric string"
    EPOCH = "epoch seconds"
    EPOCH_MS = "epoch milliseconds"
    DATE_TIME = "RFC 3339"


@dataclass(frozen=True, slots=True)
class Coerce:
    """The same value, written another way."""

    at: str
    before: Form
    after: Form


@dataclass(frozen=True, slots=True)
class EnumMap:
    """Words of a closed set that are spelled another way: (in the pin, in the contract)."""

    at: str
    words: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Default:
    """A member that is left out now where it stood with `value`, as a person said or the pin shows."""

    at: str
    value: Json


@dataclass(frozen=True, slots=True)
class Lost:
    """A place of the pin that no evidence brings back: it lacks now, or is of none of the JSON `types` it was."""

    at: str
    types: tuple[str, ...] = ()


Edit: TypeAlias = Rename | Move | Wrap | Unwrap | ToList | ToScalar | Coerce | EnumMap | Default | Lost

Direction: TypeAlias = Literal["forward", "back"]


class Tally(NamedTuple):
    """What an edit did in one body: places rewritten, and places it had to leave."""

    done: int = 0
    left: int = 0


def is_lossless(edit: Edit) -> bool:
    """Tell whether nothing is lost on the way there and back: what edits on requests must be."""
    match edit:
        case Rename() | Move() | Wrap() | ToList() | ToScalar() | Coerce():
            return True
        case EnumMap(words=words):
            return len({old for old, _ in words}) == len({new for _, new in words}) == len(words)
        case Unwrap() | Default() | Lost():
            return False
        case _:
            assert_never(edit)


def place_of(edit: Edit) -> str:
    """Return the place in the pin that an edit is about."""
    match edit:
        case Rename(before=before) | Move(before=before):
            return before
        case Wrap():
            return ""
        case Unwrap(at=at) | ToList(at=at) | ToScalar(at=at) | Coerce(at=at) | EnumMap(at=at):
            return at
        case Default(at=at) | Lost(at=at):
            return at
        case _:
            assert_never(edit)


def perform(edit: Edit, root: Node, direction: Direction) -> Tally:
    """Edit the tree in place."""
    forward = direction == "forward"
    match edit:
        case Rename(before=before, after=after):
            return _rename(root, before, after) if forward else _rename(root, after, before)
        case Move(before=before, after=after):
            return _move(root, before, after) if forward else _move(root, after, before)
        case Wrap(at=at):
            return _wrap(root, at) if forward else _unwrap(root, at)
        case Unwrap(at=at):
            return _unwrap(root, at) if forward else _wrap(root, at)
        case ToList(at=at):
            return _each(root, at, _listed if forward else _single)
        case ToScalar(at=at):
            return _each(root, at, _single if forward else _listed)
        case Coerce(at=at, before=before, after=after):
            old, new = (before, after) if forward else (after, before)
            return _each(root, at, lambda node: _written(node, old, new))
        case EnumMap(at=at, words=words):
            table = dict(words) if forward else {new: old for old, new in words}
            return _each(root, at, lambda node: _spelled(node, table))
        case Default(at=at, value=value):
            return Tally() if forward else _default(root, at, value)
        case Lost(at=at, types=types):
            return Tally() if forward else Tally(0, sum(1 for _ in _lacking(root, at)) + _strange(root, at, types))
        case _:
            assert_never(edit)


# Places


def _rename(root: Node, old: str, new: str) -> Tally:
    *parent, name = parts_of(old)
    other = parts_of(new)[-1]
    done = left = 0
    for holder in places(root, parent):
        if (member := holder.find(name)) is None or holder.find(other) is not None:
            continue
        if holder.repeats(name):
            left += 1
        else:
            member.rename(other)
            done += 1
    return Tally(done, left)


def _move(root: Node, old: str, new: str) -> Tally:
    """Take from one place, put at the other. Objects on the way are made; emptied ones go."""
    source, target = parts_of(old), parts_of(new)
    shared = 1 + max((at for at, part in enumerate(source) if part == "*"), default=-1)
    if source[:shared] != target[:shared] or "*" in target[shared:]:
        return Tally(0, 1)
    done = left = 0
    for holder in places(root, source[:shared]):
        taken = _way(holder, source[shared:])
        if taken is None:
            continue
        if not _is_free(holder, target[shared:]) or any(node.repeats(member.name) for node, member in taken):
            left += 1
            continue
        value = taken[-1][1].value
        for node, member in reversed(taken):
            node.remove(member)
            if node.members:
                break
        _put(holder, target[shared:], value)
        done += 1
    return Tally(done, left)


def _way(holder: Node, parts: tuple[str, ...]) -> list[tuple[Node, Member]] | None:
    """Return the members on the way to a place, outermost first; None when it is not there."""
    found = []
    for part in parts:
        member = holder.find(part)
        if member is None:
            return None
        found.append((holder, member))
        holder = member.value
    return found


def _is_free(holder: Node, parts: tuple[str, ...]) -> bool:
    """Tell whether something can be put at a place and found alone there again: no member is there, and no
    empty object on the way, since an emptied one would be taken away."""
    for part in parts[:-1]:
        member = holder.find(part)
        if member is None:
            return holder.is_object
        holder = member.value
        if not holder.is_object or not holder.members:
            return False
    return holder.is_object and holder.find(parts[-1]) is None


def _put(holder: Node, parts: tuple[str, ...], value: Node) -> None:
    for at, part in enumerate(parts[:-1]):
        member = holder.find(part)
        if member is None:
            holder.add(part, _nested(parts[at + 1 :], value))
            return
        holder = member.value
    holder.add(parts[-1], value)


def _nested(parts: tuple[str, ...], value: Node) -> Node:
    for part in reversed(parts):
        outer = Node("{}")
        outer.add(part, value)
        value = outer
    return value


def _wrap(root: Node, at: str) -> Tally:
    inner = Node(root.text())
    root.write(_nested(parts_of(at), inner).text())
    return Tally(1)


def _unwrap(root: Node, at: str) -> Tally:
    way = _way(root, parts_of(at))
    if way is None:
        return Tally()
    root.write(way[-1][1].value.text())
    return Tally(1)


# Values


def _each(root: Node, at: str, turn: Callable[[Node], str | None | Literal[False]]) -> Tally:
    """Turn every value at a place. `turn` returns the new text, None where it is right already, False where it
    cannot be turned."""
    done = left = 0
    for node in places(root, parts_of(at)):
        turned = turn(node)
        if turned is False:
            left += 1
        elif turned is not None:
            node.write(turned)
            done += 1
    return Tally(done, left)


def _listed(node: Node) -> str | None:
    return None if node.is_array else f"[{node.text()}]"


def _single(node: Node) -> str | None | Literal[False]:
    if not node.is_array:
        return None
    return node.members[0].value.text() if len(node.members) == 1 else False


def _spelled(node: Node, table: dict[str, str]) -> str | None:
    word = node.value() if not node.is_array and not node.is_object else None
    if not isinstance(word, str) or word not in table:
        return None
    return orjson.dumps(table[word]).decode()


def _default(root: Node, at: str, value: Json) -> Tally:
    name = parts_of(at)[-1]
    done = 0
    for holder in _lacking(root, at):
        holder.add(name, Node(orjson.dumps(value).decode()))
        done += 1
    return Tally(done)


def _lacking(root: Node, at: str) -> Iterator[Node]:
    """Objects in which the member should be, and is not."""
    *parent, name = parts_of(at) or ("*",)
    return (
        holder for holder in [*places(root, parent)] if holder.is_object and name != "*" and not holder.find(name)
    )


def _strange(root: Node, at: str, types: tuple[str, ...]) -> int:
    return sum(node.json_type not in types for node in places(root, parts_of(at))) if types else 0


# Forms

_NUMBER = re.compile(r"-?(?:0|[1-9]\d*)(?:\.\d+)?")
_DATE_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?:\.(\d{1,9}))?(?:[Zz]|[+-]\d\d:\d\d)")
DIGITS = 15
"""Digits of a number that every reader keeps: most read numbers as IEEE 754 doubles."""

EPOCHS = range(1_000_000_000, 4_102_444_800)
"""Seconds from 2001 to 2100: what is taken for a time. Milliseconds are a thousand times that, so never both."""


def form_of(value: Json) -> Form | None:
    """Return the form of a scalar, by its writing alone; None where none is recognised."""
    match value:
        case bool():
            return None
        case int() | float():
            return Form.NUMBER
        case str() if is_numeric(value):
            return Form.NUMERIC
        case str() if _DATE_TIME.fullmatch(value):
            return Form.DATE_TIME
    return None


def is_numeric(text: str) -> bool:
    """Tell whether a text is a number as JSON writes it, exact for all readers: no `007`, `1e5`, no 20 digits."""
    return bool(_NUMBER.fullmatch(text)) and text != "-0" and sum(map(str.isdigit, text)) <= DIGITS


def convert(value: Json, old: Form, new: Form) -> Json | None:
    """Return a value of form `old` in form `new`; None where something would be lost."""
    node = Node(orjson.dumps(value).decode())
    text = _written(node, old, new)
    return orjson.loads(text) if isinstance(text, str) else None


def _written(node: Node, old: Form, new: Form) -> str | None | Literal[False]:
    text = node.text()
    if text == "null":
        return None
    is_text, wants_text = text[:1] == '"', new in (Form.NUMERIC, Form.DATE_TIME)
    if text[0] not in '"-0123456789':
        return False
    if is_text is wants_text:
        return None
    match old, new:
        case Form.NUMBER, Form.NUMERIC:
            return f'"{text}"' if is_numeric(text) else False
        case Form.NUMERIC, Form.NUMBER:
            return text[1:-1] if is_numeric(text[1:-1]) else False
        case ((Form.EPOCH | Form.EPOCH_MS), Form.DATE_TIME):
            return _dated(text, old)
        case Form.DATE_TIME, (Form.EPOCH | Form.EPOCH_MS):
            return _epoch(text[1:-1], new)
    return False


def _dated(text: str, old: Form) -> str | Literal[False]:
    if not text.isdigit():
        return False
    seconds, rest = divmod(int(text), 1000) if old is Form.EPOCH_MS else (int(text), 0)
    if seconds not in EPOCHS:
        return False
    told = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")
    return f'"{told}.{rest:03d}Z"' if old is Form.EPOCH_MS else f'"{told}Z"'


def _epoch(text: str, new: Form) -> str | Literal[False]:
    found = _DATE_TIME.fullmatch(text)
    if found is None:
        return False
    fraction = (found[1] or "").rstrip("0")
    if len(fraction) > (3 if new is Form.EPOCH_MS else 0):
        return False
    try:
        at = int(datetime.fromisoformat(re.sub(r"\.\d+", "", text).upper()).timestamp())
    except ValueError:
        return False
    if at not in EPOCHS:
        return False
    return str(at * 1000 + int(fraction.ljust(3, "0") or 0)) if new is Form.EPOCH_MS else str(at)

"""What one workflow instance has seen: values by name, in the objects they stood in, with where each came from.

It answers one question: which value, if any, does this instance know under this name, of the very thing that a
request is about? A request identifies a thing by its id (`/orders/o1`, `customer_id`), or by a natural key in an
object of the same kind. Where a member that both have differs, it is not that thing. Nothing leaves the instance.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import unquote

from discovery.body import form_tree, read_body
from discovery.exchange import Json, Request, Response
from discovery.lexical import is_identifying, plain, segment_kind, singular, words_of
from discovery.pointer import pointer_of
from discovery.redaction import is_secret_name
from discovery.shape import json_type, kind_of

MAX_OBJECTS = 2000
"""Objects of one exchange that are looked at."""

_ENVELOPES = frozenset(
    [
        "data",
        "result",
        "results",
        "items",
        "item",
        "response",
        "payload",
        "content",
        "records",
        "record",
        "value",
        "list",
        "entries",
        "object",
    ]
)
"""Members that name the message, not the thing inside."""

_KEYS = frozenset(
    [
        "email",
        "login",
        "username",
        "slug",
        "sku",
        "number",
        "reference",
        "ref",
        "identifier",
        "isbn",
        "ean",
        "iban",
    ]
)
"""Words that end the name of a natural key."""

_COMMON = frozenset(
    [
        "id",
        "uuid",
        "key",
        "status",
        "state",
        "type",
        "kind",
        "name",
        "title",
        "label",
        "description",
        "note",
        "notes",
        "comment",
        "amount",
        "total",
        "price",
        "count",
        "quantity",
        "number",
        "date",
        "time",
        "version",
        "url",
        "active",
        "enabled",
        "metadata",
        "created",
        "updated",
        "modified",
        "at",
        "reference",
        "ref",
        "currency",
        "value",
        "code",
        "tags",
        "language",
        "locale",
    ]
)
"""Words for what everything has of its own: what a customer has of it says nothing of the customer's order."""

Identity: TypeAlias = tuple[str, str, str]
"""(kind of thing, name of the key, value)."""


@dataclass(frozen=True, slots=True)
class Memory:
    """One earlier exchange of the same instance."""

    call: str
    request: Request
    answer: Response | None = None


@dataclass(frozen=True, slots=True)
class Known:
    """A value this instance has seen: its call, and where in it (`request` or `answer`, and a pointer)."""

    value: Json
    call: str
    side: str
    pointer: str
    holder: Thing

    @property
    def said(self) -> str:
        return f"{self.side} of call {self.call}, {self.pointer}"


@dataclass(frozen=True, slots=True)
class Thing:
    """One object with what kind of thing it is, as far as names tell."""

    kind: str
    pointer: str
    members: dict[str, Json]

    def identities(self) -> Iterator[Identity]:
        for name, value in self.members.items():
            if not isinstance(value, str | int) or isinstance(value, bool) or value == "":
                continue
            words = words_of(name)
            if plain(name) in ("id", "uuid", "guid", f"{self.kind}id", f"{self.kind}uuid"):
                yield self.kind, "id", str(value)
            elif words and words[-1] in _KEYS and is_identifying(name) and len(str(value)) >= 4:
                yield self.kind, plain(name), str(value)

    def contradicts(self, other: Thing) -> bool:
        """Tell whether a member that both have, of one value, differs; ids of different things may."""
        mine = {plain(name): value for name, value in self.members.items() if not isinstance(value, dict | list)}
        same_kind = self.kind == other.kind
        for name, value in other.members.items():
            key = plain(name)
            differs = key in mine and not isinstance(value, dict | list) and mine[key] != value
            if differs and (same_kind or key not in ("id", "uuid")):
                return True
        return False


def known_of(name: str, types: frozenset[str], history: Sequence[Memory]) -> list[Known]:
    """Return every scalar the instance has seen under `name`, of these JSON types (any, when none is said)."""
    if is_secret_name(name):
        return []
    return [
        Known(value, memory.call, side, f"{thing.pointer}/{member}", thing)
        for memory in history
        for side, thing in _things_of(memory)
        for member, value in thing.members.items()
        if plain(member) == plain(name)
        and not isinstance(value, dict | list | None)
        and (not types or json_type(kind_of(value)) in types)
    ]


def is_identified(known: Known, request: Request, holder: str) -> bool:
    """Tell whether `request` itself says that it is about the thing `known` was told of.

    `holder` is the place of the object that lacks the value. Of a thing of another kind, which the request only
    refers to, nothing is taken that everything has one of its own of.
    """
    things = list(things_in(read_body(request.headers, request.body).value, request.path))
    mine = next((thing for thing in things if thing.pointer == holder), None)
    kind = mine.kind if mine is not None else kind_of_path(request.path)
    told = set(_references(request, things))
    if not told & set(known.holder.identities()):
        return False
    if mine is not None and mine.contradicts(known.holder):
        return False
    name = known.pointer.rpartition("/")[2]
    return kind == known.holder.kind or not set(words_of(name)) & _COMMON


def things_in(tree: Json, path: bytes) -> Iterator[Thing]:
    """Yield the objects of a body, nearest to the root first."""
    todo: list[tuple[tuple[str | int, ...], str, Json]] = [((), kind_of_path(path), tree)]
    for seen, (place, kind, node) in enumerate(todo):
        if seen > MAX_OBJECTS:
            return
        match node:
            case dict():
                yield Thing(kind, pointer_of(place), node)
                for name, inner in node.items():
                    if isinstance(inner, dict | list):
                        inside = kind if name.lower() in _ENVELOPES else plain(singular(name))
                        todo.append(((*place, name), inside, inner))
            case list():
                todo += [((*place, at), kind, inner) for at, inner in enumerate(node)]


def kind_of_path(path: bytes) -> str:
    """Return the kind of thing a path is about: its last word, in the singular."""
    words = [part for part in unquote(path.decode("latin-1")).split("/") if part and _is_word(part)]
    return plain(singular(words[-1])) if words else ""


def _references(request: Request, things: Sequence[Thing]) -> Iterator[Identity]:
    """What a request says it is about: ids in its path, its query and its members, and natural keys."""
    kind = ""
    for part in unquote(request.path.decode("latin-1")).split("/"):
        if _is_word(part):
            kind = plain(singular(part))
        elif part and kind:
            yield kind, "id", part
    query = form_tree(request.query.decode("utf-8", "replace")) if request.query else {}
    for thing in [*things, Thing(kind, "", query)]:
        yield from thing.identities()
        for name, value in thing.members.items():
            if isinstance(value, str | int) and not isinstance(value, bool):
                stem = plain(name)
                yield (stem.removesuffix("id") or thing.kind), "id", str(value)


def _things_of(memory: Memory) -> Iterator[tuple[str, Thing]]:
    path = memory.request.path
    for thing in things_in(read_body(memory.request.headers, memory.request.body).value, path):
        yield "request", thing
    if memory.answer is not None:
        for thing in things_in(read_body(memory.answer.headers, memory.answer.body).value, path):
            yield "answer", thing


def _is_word(segment: str) -> bool:
    return segment.replace("_", "").replace("-", "").isalpha() and not segment_kind(segment)

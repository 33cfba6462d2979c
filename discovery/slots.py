"""The request as a tree of named slots: where a place that an upstream names lies in what was sent.

Whatever the request was (JSON, form with brackets, query, XML, multipart), it is seen as one tree, and
places are JSON Pointers into it: `items[0][price]=x` holds `/items/0/price`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property

from discovery.body import Kind, form_tree, read_body, read_json
from discovery.exchange import Json, Request
from discovery.lexical import plain, singular, words_of
from discovery.pointer import Path, path_of

MAX_SLOTS = 5_000
"""Slots of a request that are searched; places deeper in a larger one are found by their full path."""

_WRAPPER_WORDS = (
    "body query querystring payload request requestbody params parameters json data properties input root"
    " attributes variables form path value object fields obj dto model command"
)
WRAPPERS = frozenset(_WRAPPER_WORDS.split())
"""First parts of a place that often name the message, not a member of it."""


_VALUE_NAMES = frozenset({"value", "values", "content", "val", "stringvalue", "data"})


@dataclass(frozen=True)
class Slots:
    """A request's body and query as trees, with an index of what lies where."""

    body: Json
    query: dict[str, Json]
    path: str
    kind: Kind

    @cached_property
    def all(self) -> list[tuple[Path, Json]]:
        """Every slot of the body, nearest to the root first."""
        found: list[tuple[Path, Json]] = [((), self.body)] if isinstance(self.body, (dict, list)) else []
        for place, value in found:
            if len(found) > MAX_SLOTS:
                break
            if isinstance(value, dict):
                found += [((*place, key), child) for key, child in value.items()]
            elif isinstance(value, list):
                found += [((*place, index), child) for index, child in enumerate(value)]
        return found[1:]

    @cached_property
    def by_name(self) -> dict[str, list[Path]]:
        """Slots of the body by the plain form of their last name."""
        index: dict[str, list[Path]] = {}
        for place, _ in self.all:
            if isinstance(place[-1], str):
                index.setdefault(plain(place[-1]), []).append(place)
        return index

    @cached_property
    def objects(self) -> list[tuple[Path, dict[str, Json]]]:
        root: list[tuple[Path, Json]] = [((), self.body)]
        return [(place, value) for place, value in root + self.all if isinstance(value, dict)]

    @cached_property
    def by_value(self) -> dict[str, list[Path]]:
        """Slots of the body by the scalar they hold, as it is printed."""
        index: dict[str, list[Path]] = {}
        for place, value in self.all:
            if not isinstance(value, (dict, list)):
                index.setdefault(_printed(value), []).append(place)
        return index

    @cached_property
    def pairs(self) -> dict[str, Path]:
        """Where the value of a name given as data lies: a list of mappings of a label and a value."""
        index: dict[str, Path] = {}
        for place, node in self.objects:
            values = [key for key in node if plain(key) in _VALUE_NAMES] if place and 2 <= len(node) <= 4 else []
            if values and isinstance(place[-1], int):
                for key, label in node.items():
                    if isinstance(label, str) and key != values[0]:
                        index.setdefault(plain(label), (*place, values[0]))
        return index

    @property
    def silent(self) -> bool:
        """Nothing of the request is known: no body and no query."""
        return not self.query and self.body in (None, "", {}, [])

    def query_name(self, name: str) -> str | None:
        """Return the query parameter called `name`, whatever its case and separators."""
        wanted = plain(name)
        return next((key for key in self.query if plain(key) == wanted), None)


def slots_of(request: Request) -> Slots:
    """Return the slots of `request`; one whose body is unreadable has those of its query alone."""
    body = read_body(request.headers, request.body)
    tree: Json = body.value if body.kind not in (Kind.TEXT, Kind.HTML, Kind.BINARY, Kind.UNREADABLE) else None
    if body.kind is Kind.FORM and isinstance(tree, dict):
        tree = _unfolded(tree)
    query = form_tree(request.query.decode("utf-8", "replace")) if request.query else {}
    return Slots(tree, query, request.path.decode("utf-8", "replace"), body.kind)


def value_at(tree: Json, place: Path) -> Json:
    """Return the value at `place` in `tree`, or None."""
    for part in place:
        if isinstance(tree, dict):
            tree = tree.get(str(part))
        elif isinstance(tree, list) and isinstance(part, int) and part < len(tree):
            tree = tree[part]
        else:
            return None
    return tree


def find_place(slots: Slots, named: Path, given: bool = False) -> tuple[Path, bool]:
    """Return where `named` lies in the body, and whether something is there.

    `given`: the upstream gave it as a path, so that what is not there goes below the root or its envelope.
    The whole path is tried first, then without what names only the message around it, then by its end.
    """
    if not named:
        return (), True
    for whole in (".".join(map(str, named)), "/".join(map(str, named))):
        if isinstance(slots.body, dict) and whole in slots.body:
            return (whole,), True
    for start in range(len(named)):
        if start and not (isinstance(named[start - 1], int) or plain(str(named[start - 1])) in WRAPPERS):
            break
        if (place := _descend(slots.body, named[start:])) is not None:
            return place, True
    named = _within(slots, named)
    for start in range(len(named) - 1):
        if start and plain(str(named[start - 1])) not in WRAPPERS:
            break
        if (parent := _descend(slots.body, named[start:-1])) is not None:
            return (*parent, named[-1]), False
    for start in range(len(named)):
        if place := _by_end(slots, named[start:]):
            return place, True
    return _for_absent(slots, named, given and len(named) > 1), False


def _within(slots: Slots, named: Path) -> Path:
    """Return `named` without a beginning that cannot hold it: a number for no list, a scalar that was sent."""
    if len(named) > 1 and isinstance(named[0], int) and isinstance(slots.body, dict):
        return _within(slots, named[1:])
    for end in range(len(named) - 1, 0, -1):
        held = _descend(slots.body, named[:end])
        if held is not None and isinstance(value_at(slots.body, held), (str, int, float)):
            return named[end:]
    return named


def _descend(tree: Json, named: Path) -> Path | None:
    """Follow `named` from the root, names in any case; a list index may be missing where there is one element."""
    place: Path = ()
    for part in named:
        if isinstance(tree, list) and isinstance(part, str) and not part.isdecimal() and len(tree) == 1:
            place, tree = (*place, 0), tree[0]
        if isinstance(tree, dict):
            wanted = plain(str(part))
            key = str(part) if str(part) in tree else next((k for k in tree if plain(k) == wanted), None)
            if key is None:
                return None
            place, tree = (*place, key), tree[key]
        elif isinstance(tree, list) and str(part).isdecimal() and int(part) < len(tree):
            place, tree = (*place, int(part)), tree[int(part)]
        else:
            return None
    return place


def _by_end(slots: Slots, named: Path) -> Path | None:
    """The one slot (or the one nearest to the root) whose last names are `named`."""
    last = next((part for part in reversed(named) if isinstance(part, str)), None)
    if last is None:
        return None
    wanted = [plain(str(part)) for part in named]
    found = [
        place
        for place in slots.by_name.get(plain(last), ())
        if [plain(str(part)) for part in place[-len(wanted) :]] == wanted
    ]
    return min(found, key=len, default=None)


def pair_value(slots: Slots, name: str) -> Path | None:
    """Find `name` given as data: of `{"property": "email", "value": "x"}` the slot of the value."""
    return slots.pairs.get(plain(name))


def _for_absent(slots: Slots, named: Path, given: bool) -> Path:
    """Where a field that was not sent would go: below the longest part of its path that is there, or best fits."""
    for start in range(len(named)):
        if start and plain(str(named[start - 1])) not in WRAPPERS:
            break
        rest = named[start:]
        for end in range(len(rest) - 1, 0, -1):
            if (place := _descend(slots.body, rest[:end])) is not None:
                return place + rest[end:]
    if len(named) > 1 and slots.body in (None, {}, "", []):
        start = 1 if plain(str(named[0])) in ("body", "query", "payload", "requestbody") else 0
        return named[start:]
    if len(named) > 1:
        for start in range(len(named)):
            for end in range(len(named) - 1, start, -1):
                if place := _by_end(slots, named[start:end]):
                    return place + named[end:]
        trimmed = tuple(part for part in named[:-1] if plain(str(part)) not in WRAPPERS)
        if len(trimmed) == 1 and isinstance(trimmed[0], str) and is_named_by(slots.path, trimmed[0]):
            trimmed = ()  # `product.name`, of what is sent to /products
        return (*likely_parent(slots, named[-1], given), *trimmed, named[-1])
    return (*likely_parent(slots, named[-1], given), named[-1])


def likely_parent(slots: Slots, name: str | int, given: bool = False) -> Path:
    """Return the object a lacking `name` most likely belongs to.

    An element lacking what its siblings have; an empty object; the object inside a single-member envelope
    (`{"shipment": {..}}`), or the one named by the path (`POST /tickets` with `{"ticket": {..}}`); the root.
    """
    wanted = plain(str(name))
    for holder in slots.by_name.get(wanted, ()):
        if kin := lacking_kin(slots, holder):
            return kin[:-1]
    empty = [place for place, node in slots.objects if place and not node]
    if len(empty) == 1 and not given and words_of(str(empty[0][-1]))[:1] != words_of(str(name))[:1]:
        return empty[0]
    place: Path = ()
    tree = slots.body
    while isinstance(tree, dict) and not any(plain(key) == wanted for key in tree):
        inner = [key for key, value in tree.items() if isinstance(value, dict)]
        fits = [
            key for key in inner if is_named_by(slots.path, key) or (len(tree) == 1 and plain(key) in _ENVELOPES)
        ]
        if len(fits) != 1:
            break
        place, tree = (*place, fits[0]), tree[fits[0]]
    return place


def lacking_kin(slots: Slots, holder: Path) -> Path | None:
    """Return where the slot at `holder` would be in the one sibling of its object that lacks it.

    Siblings are of one kind when they stand in one list, share a member, or one of them is empty.
    """
    if len(holder) < 2:
        return None
    name, own = holder[-1], value_at(slots.body, holder[:-1])
    around = value_at(slots.body, holder[:-2])
    others = around.items() if isinstance(around, dict) else enumerate(around) if isinstance(around, list) else ()
    for key, node in others:
        alike = isinstance(node, dict) and (not node or (isinstance(own, dict) and bool(node.keys() & own.keys())))
        if key != holder[-2] and alike and isinstance(node, dict) and _lacks(node, plain(str(name))):
            return (*holder[:-2], key, name)
    return None


_ENVELOPES = WRAPPERS | {"item", "resource", "record", "entity", "document", "model", "config"}


def _lacks(node: dict[str, Json], wanted: str) -> bool:
    return not any(plain(key) == wanted for key in node)


def is_named_by(path: str, key: str) -> bool:
    words = [plain(word.partition(".")[0]) for word in path.split("/")[-3:]]
    return plain(key) in words or any(plain(key) == singular(word) for word in words)


def values_like(slots: Slots, text: str) -> list[Path]:
    """Return the slots of the body that hold `text` (a scalar as it is printed)."""
    return slots.by_value.get(text, [])


def _printed(value: Json) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# Forms


_BRACKETS = re.compile(r"[^\[\]]*(?:\[[^\[\]]*\])+")


def _unfolded(form: dict[str, Json]) -> dict[str, Json]:
    """Turn bracketed names into nesting, and members that hold JSON into what they hold."""
    tree: dict[str, Json] = {}
    for name, text in form.items():
        value = text
        if isinstance(text, str) and text[:1] in ("{", "["):
            with suppress(ValueError, RecursionError):
                value = read_json(text.encode("utf-8", "replace"))
        if not _BRACKETS.fullmatch(name) or name[:1] == "[":
            tree[name] = value
            continue
        _put(tree, path_of(name), value)
    return {key: _as_list(value) for key, value in tree.items()}


def _put(tree: dict[str, Json], place: Path, value: Json) -> None:
    node = tree
    for part in place[:-1]:
        child = node.setdefault(str(part), {})
        if not isinstance(child, dict):
            return
        node = child
    node[str(place[-1])] = value


def _as_list(value: Json) -> Json:
    """`{"0": .., "1": ..}` is a list."""
    if not isinstance(value, dict):
        return value
    inner = {key: _as_list(child) for key, child in value.items()}
    if inner and list(inner) == [str(number) for number in range(len(inner))]:
        return list(inner.values())
    return inner


def names_in_body(slots: Slots) -> Iterator[str]:
    """Yield every name a member of the body has, as it is written."""
    for place, _ in slots.all:
        if isinstance(place[-1], str):
            yield place[-1]

"""Components: objects that come more than once in a document, and variants, get a name and a place of their own.

A name is that of the member or the path it stands under, in the singular; a variant's has the tag's value before
it, a list's `List` behind it, a request's `Request`, and what a refusal says is an `Error`. Where two objects
would have the same name, the rarer one is called after what holds it too, else numbered.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

from discovery.lexical import singular, words_of

SHARED = 3
"""Properties from which an object is worth a component of its own when it comes twice."""

WRAPPERS = frozenset({"data", "items", "results", "result", "value", "values", "list", "content", "records"})
"""Members that only wrap what is asked for: it is called after what holds them."""


@dataclass(slots=True)
class _Found:
    """One object schema: how often it came, whether it is a variant, and under which (name, longer name)."""

    count: int = 0
    variant: bool = False
    names: Counter[tuple[str, str]] = field(default_factory=Counter)


def share(paths: dict[str, Any]) -> dict[str, Any]:
    """Replace objects below `paths` that are worth it by references; return the components they refer to."""
    found: dict[str, _Found] = {}
    for name, longer, schema, variant in _objects(paths, "Item", ""):
        if variant or "oneOf" in schema or len(schema["properties"]) >= SHARED:
            one = found.setdefault(_canonical(schema), _Found())
            one.count += 1
            one.variant = one.variant or variant
            one.names[name, longer] += 1
    shared: dict[str, Any] = {}
    given: dict[str, str] = {}
    worth = [text for text, one in found.items() if one.count > 1 or one.variant]
    for text in sorted(worth, key=lambda text: (-found[text].count, text)):
        names = found[text].names
        given[text] = _free(max(sorted(names), key=lambda name: names[name]), shared)
        shared[given[text]] = json.loads(text)
    _refer(paths, given)
    for schema in shared.values():
        _refer(schema, given)
    for holder in (paths, shared):
        _map(holder, shared)
    return {name: {"title": name, **schema} for name, schema in sorted(shared.items())}


def share_parameters(paths: dict[str, Any]) -> dict[str, Any]:
    """Replace headers and cookies that several operations take by references; return the components."""
    operations = [operation for item in paths.values() for operation in item.values()]
    told = [one for operation in operations for one in operation.get("parameters", ())]
    counts = Counter(_canonical(one) for one in told if one["in"] in ("header", "cookie"))
    shared: dict[str, Any] = {}
    given = {}
    for text in sorted(text for text, times in counts.items() if times > 1):
        one = json.loads(text)
        name = _free((_title(one["name"]), _title(one["name"]) + one["in"].title()), shared)
        shared[name], given[text] = one, {"$ref": f"#/components/parameters/{name}"}
    for operation in operations:
        if "parameters" in operation:
            operation["parameters"] = [given.get(_canonical(one), one) for one in operation["parameters"]]
    return dict(sorted(shared.items()))


def _free(names: tuple[str, str], taken: Mapping[str, Any]) -> str:
    for name in names:
        if name not in taken:
            return name
    number = 2
    while f"{names[0]}{number}" in taken:
        number += 1
    return f"{names[0]}{number}"


def _objects(node: Any, name: str, holder: str) -> Iterator[tuple[str, str, dict[str, Any], bool]]:
    """Yield each object schema below `node`: its name, a longer one, itself, and whether it is a variant."""
    if isinstance(node, list):
        for inner in node:
            yield from _objects(inner, name, holder)
    if not isinstance(node, dict):
        return
    if _is_object(node):
        called = name + "List" if _is_page(node) else name
        yield called, holder + called, node, False
    tag = _tag_of(node)
    for variant in node["oneOf"] if tag else ():
        if "title" not in variant:
            called = _value(variant, tag) + name
            yield called, holder + called, variant, True
            yield from _objects(variant["properties"], called, "")
    for key, inner in node.items():
        if key == "properties" and isinstance(inner, dict):
            for member, schema in inner.items():
                own = name if member in WRAPPERS else _title(member)
                yield from _objects(schema, own, holder if member in WRAPPERS else name)
        elif key.startswith("/"):
            yield from _objects(inner, _title_of_path(key), "")
        elif key == "requestBody":
            yield from _objects(inner, name + "Request", holder)
        elif key[:1] in ("4", "5") and isinstance(inner, dict) and "description" in inner:
            yield from _objects(inner, "Error", name)
        elif key not in ("x-gimbal", "parameters", "discriminator") and not (tag and key == "oneOf"):
            yield from _objects(inner, name, holder)


def _is_object(node: Mapping[str, Any]) -> bool:
    return isinstance(node.get("properties"), dict) and node.get("type") in ("object", ["object", "null"])


def _is_page(node: Mapping[str, Any]) -> bool:
    """Tell whether an object only wraps a list: `{"data": [..], "has_more": true}`."""
    members = node["properties"].items()
    return any(
        key in WRAPPERS and isinstance(inner, dict) and inner.get("type") == "array" for key, inner in members
    )


def _value(variant: Mapping[str, Any], tag: str) -> str:
    """Return the name of a variant's value at the tag; of several, the first two."""
    return "Or".join("".join(map(str.title, words_of(value))) for value in _values(variant, tag)[:2])


def _values(variant: Mapping[str, Any], tag: str) -> list[str]:
    told = variant["properties"][tag]
    return [told["const"]] if "const" in told else told["enum"]


def _tag_of(node: Mapping[str, Any]) -> str:
    """Return the tag of a schema that has variants, or `""`. The node may be a table of members of any name."""
    told = node.get("discriminator")
    return told["propertyName"] if isinstance(told, dict) and isinstance(node.get("oneOf"), list) else ""


def _title(key: str) -> str:
    words = words_of(key.strip("{}")) or ("item",)
    if words[-1] == "id" and len(words) > 1:
        words = words[:-1]
    return re.sub(r"\W", "", "".join(word.title() for word in (*words[:-1], singular(words[-1])))) or "Item"


def _title_of_path(path: str) -> str:
    """Name what a path leads to: `/users/{user_id}` -> User."""
    named = [segment for segment in path.split("/") if segment and not segment.startswith("{")]
    return _title(named[-1].partition(":")[0]) if named else "Item"


def _canonical(schema: Any) -> str:
    return json.dumps(schema, sort_keys=True, separators=(",", ":"))


def _reference(schema: Any, given: Mapping[str, str]) -> Any:
    if isinstance(schema, dict) and "properties" in schema and (name := given.get(_canonical(schema))):
        return {"$ref": f"#/components/schemas/{quote(name)}"}
    return schema


def _refer(node: Any, given: Mapping[str, str]) -> None:
    """Put references in place of shared schemas below `node`, outer ones first: they hold the inner ones."""
    for key in range(len(node)) if isinstance(node, list) else list(node):
        node[key] = _reference(node[key], given)
        if isinstance(node[key], (list, dict)):
            _refer(node[key], given)


def _map(node: Any, shared: Mapping[str, Any]) -> None:
    """Tell discriminators which value of the tag leads to which component."""
    if isinstance(node, dict) and (tag := _tag_of(node)):
        leads = {
            value: variant["$ref"]
            for variant in node["oneOf"]
            if "$ref" in variant
            for value in _values(shared[variant["$ref"].rpartition("/")[2]], tag)
        }
        node["discriminator"]["mapping"] = dict(sorted(leads.items()))
    for inner in node.values() if isinstance(node, dict) else node:
        if isinstance(inner, (list, dict)):
            _map(inner, shared)

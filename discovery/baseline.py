"""A vendor's document as a baseline: where what was seen contradicts it, and what it lacks.

Counts are held against it, not single exchanges, so each difference is told once, with how often it was seen. What
the document tells and traffic has not shown yet is no difference. Its paths say which segments are parameters.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from discovery.body import Kind
from discovery.contract import Contract, Document, fits_media, templates_of
from discovery.evidence import Arrays, Node, Numbers, Objects, Strings
from discovery.openapi import is_operation, kind_of_media
from discovery.operation import Operation
from discovery.schema import is_map
from discovery.templates import draw
from discovery.traffic import Answers, Evidence, Exchanges

Position: TypeAlias = "list[list[Document]]"
"""What a document says of one place: alternatives, each of schemas that hold together."""

MAX_ALTERNATIVES = 64
"""Alternatives of one place that are told apart; of more, any may hold, and nothing contradicts."""


class Verdict(StrEnum):
    """`contradicts`: the document says otherwise. `lacks`: it says nothing of it."""

    CONTRADICTS = "contradicts"
    LACKS = "lacks"


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing seen `n` times that the document does not say, or says otherwise.

    `where` is `operation`, `request.query`, `request.body` or `response.STATUS`; `pointer` leads to the place in a
    body, items and keys of maps as `*`.
    """

    verdict: Verdict
    operation: str
    where: str
    pointer: str
    message: str
    n: int


def differences(
    evidence: Evidence, baseline: Contract, prefix: str = "", overrides: Sequence[str] = ()
) -> list[Difference]:
    """Return how what was seen differs from `baseline`, in the order of its paths.

    `prefix` is the path of the upstream's base URL, which templates of the baseline may have and evidence has not.
    """
    known = {
        Operation(operation.method, operation.template.removeprefix(prefix) or "/").shape: told
        for operation, told in baseline.operations.items()
    }
    templates = [template.removeprefix(prefix) or "/" for template in templates_of(baseline)]
    found: list[Difference] = []
    for template in draw(evidence, [*overrides, *templates]):
        for method, exchanges in sorted(template.methods().items()):
            if is_operation(exchanges):
                name = f"{method} {template.path}"
                told = known.get(Operation(method, template.path).shape)
                found += _Reader(baseline, name).operation(exchanges, told)
    return found


@dataclass(frozen=True, slots=True)
class _Reader:
    """Holds what was seen of one operation against what the document says of it."""

    baseline: Contract
    name: str

    def operation(self, exchanges: Exchanges, told: Document | None) -> Iterator[Difference]:
        if told is None:
            yield self._lacks("operation", "", "is not in the document", exchanges.count)
            return
        yield from self._query(exchanges, told)
        declared = self.baseline.resolve(told.get("requestBody", {})).get("content", {})
        for kind, node in sorted(exchanges.bodies.items()):
            yield from self._body("request.body", kind, node, declared, list(exchanges.media))
        for status, answers in sorted(exchanges.answers.items()):
            if status < 500:
                yield from self._answers(status, answers, told.get("responses", {}))

    def _query(self, exchanges: Exchanges, told: Document) -> Iterator[Difference]:
        objects = exchanges.query.settle().get(Objects)
        seen = {name: node.count for name, node in objects.properties.items() if name} if objects else {}
        parameters = [self.baseline.resolve(parameter) for parameter in told.get("parameters", ())]
        declared = {one["name"]: one for one in parameters if one.get("in") == "query" and "name" in one}
        for name, count in sorted(seen.items()):
            if name not in declared and name.partition("[")[0] not in {one.partition("[")[0] for one in declared}:
                yield self._lacks("request.query", f"/{name}", "is not in the document", count)
        for name, one in sorted(declared.items()):
            missing = exchanges.accepted - seen.get(name, 0)
            if one.get("required") and missing > 0:
                message = (
                    f"is required in the document, was left out of {missing} of {exchanges.accepted} requests"
                )
                yield self._contradicts("request.query", f"/{name}", message, missing)

    def _answers(self, status: int, answers: Answers, table: Document) -> Iterator[Difference]:
        where = f"response.{status}"
        keys = (str(status), f"{status // 100}XX", f"{status // 100}xx", "default")
        declared = next((table[key] for key in keys if key in table), None)
        if declared is None:
            yield self._lacks(where, "", "this status is not in the document", answers.count)
            return
        content = self.baseline.resolve(declared).get("content", {})
        for kind, node in sorted(answers.bodies.items()):
            yield from self._body(where, kind, node, content, list(answers.media))

    def _body(
        self, where: str, kind: Kind, node: Node, content: Document, media: Sequence[str]
    ) -> Iterator[Difference]:
        own = [name for name in media if kind_of_media(name) is kind]
        if not content:
            yield self._lacks(
                where, "", f"a body ({', '.join(sorted(own)) or kind.value}) is not in the document", node.count
            )
            return
        held = next((inner for name, inner in content.items() for one in own if fits_media(name, one)), None)
        if held is None:
            yield self._lacks(
                where, "", f"{', '.join(sorted(own)) or kind.value} is not in the document", node.count
            )
        elif isinstance(held.get("schema"), dict) and kind in (Kind.JSON, Kind.FORM, Kind.MULTIPART):
            texts = kind is not Kind.JSON
            yield from self._node(where, "", node.settle(), self._position(held["schema"]), texts)

    def _node(
        self, where: str, pointer: str, node: Node, told: Position, texts: bool = False
    ) -> Iterator[Difference]:
        """`texts`: values came as text, so their types say nothing."""
        allowed = _types(told)
        for seen in sorted(node.kinds(), key=lambda strategy: strategy.code):
            kind = "integer" if isinstance(seen, Numbers) and seen.whole else seen.kind
            if not seen.count:
                continue
            if allowed is not None and kind not in allowed and not (texts and kind == "string"):
                words = " or ".join(sorted(allowed - ({"integer"} if "number" in allowed else set()))) or "nothing"
                yield self._contradicts(where, pointer, f"is {words} in the document, was {kind}", seen.count)
                continue
            match seen:
                case Strings():
                    yield from self._choice(where, pointer, seen, told)
                case Arrays():
                    yield from self._node(where, f"{pointer}/*", seen.items, self._items(told))
                case Objects():
                    yield from self._object(where, pointer, node.name, seen, told, texts)

    def _choice(self, where: str, pointer: str, strings: Strings, told: Position) -> Iterator[Difference]:
        lists = [
            [part["enum"] for part in variant if "enum" in part]
            for variant in told
            if _types([variant]) != {"null"}
        ]
        if not lists or not all(lists) or strings.values is None:
            return
        known = {value for found in lists for value in found[0]}
        if more := {value: count for value, count in strings.values.items() if value not in known}:
            names = ", ".join(sorted(more)[:3]) + (", ..." if len(more) > 3 else "")
            yield self._contradicts(
                where, pointer, f"was {names}, which the document does not list", sum(more.values())
            )

    def _object(
        self, where: str, pointer: str, name: str, objects: Objects, told: Position, texts: bool
    ) -> Iterator[Difference]:
        variants = [variant for variant in told if (types := _types([variant])) is None or "object" in types]
        if not variants or any(_is_silent(variant) for variant in variants):
            return
        for key in sorted({key for variant in variants for part in variant for key in part.get("required", ())}):
            node = objects.properties.get(key)
            missing = objects.count - (node.count if node else 0)
            if missing > 0 and all(
                any(key in part.get("required", ()) for part in variant) for variant in variants
            ):
                message = f"is required in the document, was missing in {missing} of {objects.count}"
                yield self._contradicts(where, f"{pointer}/{_escaped(key)}", message, missing)
        values = self._below(variants, "additionalProperties")
        declared = {key for variant in variants for part in variant for key in part.get("properties", {})}
        stems = declared if texts else set()  # of a form: what stands before the brackets
        unknown = sorted(key for key in objects.properties.keys() - declared if key.partition("[")[0] not in stems)
        if not values and len(unknown) > 1 and is_map(objects, name):
            count = sum(objects.properties[key].count for key in unknown)
            yield self._lacks(where, f"{pointer}/*", "keys of all kinds are not in the document", count)
            unknown = []
        for key, inner in sorted(objects.properties.items()):
            place = f"{pointer}/{_escaped(key)}"
            if key in declared:
                yield from self._node(where, place, inner, self._below(variants, "properties", key), texts)
            elif values:
                yield from self._node(where, f"{pointer}/*", inner, values, texts)
            elif key in unknown:
                closed = all(any(part.get("additionalProperties") is False for part in one) for one in variants)
                say = self._contradicts if closed else self._lacks
                yield say(where, place, "is not in the document", inner.count)

    def _below(self, variants: Position, word: str, key: str | None = None) -> Position:
        found: Position = []
        for variant in variants:
            groups = []
            for part in variant:
                inner = part.get(word, {}) if key is None else part.get(word, {}).get(key)
                if isinstance(inner, dict) and (inner or key is not None):
                    groups.append(self._position(inner))
            found += _together(groups) if groups else []
        return found

    def _items(self, told: Position) -> Position:
        return self._below(told, "items") or [[]]

    def _position(self, schema: Any, above: frozenset[int] = frozenset()) -> Position:
        """Return what `schema` says, its references followed. One that leads back to itself says nothing more."""
        schema = self.baseline.resolve(schema)
        if not schema or id(schema) in above:
            return [[]]
        above |= {id(schema)}
        plain = {key: value for key, value in schema.items() if key not in ("allOf", "anyOf", "oneOf", "const")}
        if "const" in schema:
            plain["enum"] = [schema["const"]]
        groups: list[Position] = [[[plain]] if plain else [[]]]
        groups += [self._position(inner, above) for inner in schema.get("allOf", ())]
        for word in ("anyOf", "oneOf"):
            if schema.get(word):
                groups.append([one for inner in schema[word] for one in self._position(inner, above)])
        return _together(groups)

    def _contradicts(self, where: str, pointer: str, message: str, n: int) -> Difference:
        return Difference(Verdict.CONTRADICTS, self.name, where, pointer, message, n)

    def _lacks(self, where: str, pointer: str, message: str, n: int) -> Difference:
        return Difference(Verdict.LACKS, self.name, where, pointer, message, n)


def _together(groups: Sequence[Position]) -> Position:
    told: Position = [[]]
    for group in groups:
        if len(told) * len(group) > MAX_ALTERNATIVES:
            return [[]]
        told = [one + other for one in told for other in group]
    return told


def _types(told: Position) -> set[str] | None:
    """Return the types a place may have, `integer` for each `number` too; None when anything goes."""
    types: set[str] = set()
    for variant in told:
        own: set[str] | None = None
        for part in variant:
            named = part.get("type") or (
                "object" if "properties" in part else "array" if "items" in part else None
            )
            if named is not None:
                these = {named} if isinstance(named, str) else set(named)
                these |= {"integer"} if "number" in these else set()
                own = these if own is None else own & these
        if own is None:
            return None
        types |= own
    return types if told else None


def _is_silent(variant: Sequence[Document]) -> bool:
    """Tell whether nothing is said of an object's members: any may come."""
    return not any("properties" in part or "additionalProperties" in part for part in variant)


def _escaped(key: str) -> str:
    return key.replace("~", "~0").replace("/", "~1")

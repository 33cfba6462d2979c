# ruff: noqa: SIM905 (a list of words reads best as words)
"""From evidence to JSON Schema: what may be claimed of a place in a body, and what may not yet.

A schema always accepts all it was learned from. Beyond that it claims a thing only where the evidence carries it:
`required` as `discovery.required` says; `enum` where a
closed set of words came again and again under a name that stands for one; `additionalProperties` where keys
behave like data.
Variants that a tag explains (`discovery.variants`) are `oneOf` with a discriminator, beside their common members.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any, TypeAlias

from discovery.evidence import Arrays, Booleans, Counted, Node, Nulls, Numbers, Objects, Strings
from discovery.lexical import STRING_FORMATS, words_of
from discovery.required import ENOUGH, Enough, Things, required_of, required_with
from discovery.variants import Union, Variant, union_of

Schema: TypeAlias = "dict[str, Any]"


@dataclass(frozen=True, slots=True)
class Claims:
    """From how much evidence a claim is made. The defaults are measured; see `docs/discovery.md`.

    `enum`: texts seen, and times each value came on average; more (`enum_plain`) where values are ordinary words,
    not written in capitals. `evidence`: whether schemas tell their counts in
    `x-gimbal` members.
    """

    required: Enough = ENOUGH
    enum: int = 10
    enum_repeat: float = 3.0
    enum_plain: int = 20
    evidence: bool = False


_CHOICES = frozenset(
    "type status state kind mode level severity visibility method conclusion role priority side direction "
    "order scope interval platform usage category phase stage pipeline permission permissions policy protocol "
    "algorithm frequency period unit channel environment region tier plan variant association ecosystem "
    "resolution outcome result dimension access privacy gender strategy behavior sort stack format "
    "funding outcome encoding disposition".split()
)
"""Last words of names whose values are chosen from a list."""

_UPPER = re.compile(r"[A-Z][A-Z0-9]*(?:[_-][A-Z0-9]+)*")
_LOWER = re.compile(r"[a-z][a-z0-9]*(?:[_-][a-z0-9]+)*|[a-z]+(?:[A-Z][a-z]+)+")
_TITLE = re.compile(r"[A-Z][a-z]+(?:[A-Z][a-z]+)*")

_MAPS = frozenset(
    "metadata labels annotations attributes variables env environment headers params parameters options "
    "properties fields extra custom data translations links files languages permissions settings values "
    "counts stats".split()
)
"""Last words of names under which maps are found."""

_NAME = re.compile(r"[@$_]?[A-Za-z][A-Za-z0-9]*(?:[_-][A-Za-z0-9]+)*|[+-]1")


# Schemas


def presence(count: int, of: int) -> tuple[float, float]:
    """Return the interval (Wilson, 95 %) in which the share of objects that have a key lies."""
    if not of:
        return 0.0, 1.0
    share, z2 = count / of, 3.8416
    middle = (share + z2 / (2 * of)) / (1 + z2 / of)
    half = math.sqrt(z2 * (share * (1 - share) / of + z2 / (4 * of * of))) / (1 + z2 / of)
    return round(max(0.0, middle - half), 4), round(min(1.0, middle + half), 4)


def schema_of(node: Node, things: Things | None = None, claims: Claims = Claims()) -> Schema:
    """Return the schema of all that was seen at `node`. It accepts every value the node was folded from."""
    return _schema(node.settle(), things, claims)


def _schema(node: Node, things: Things | None, claims: Claims) -> Schema:
    schemas: list[Schema] = []
    nullable = False
    for strategy in sorted(node.kinds(), key=lambda strategy: strategy.code):
        match strategy:
            case _ if not strategy.count:
                continue
            case Nulls():
                nullable = True
            case Booleans():
                schemas.append({"type": "boolean"})
            case Numbers():
                schemas.append(_numbers(strategy, claims))
            case Strings():
                schemas.append(_strings(strategy, node.name, claims))
            case Arrays():
                schemas.append(_arrays(strategy, things, claims))
            case Objects():
                schemas.append(_object(strategy, node.name, things, claims))
    if not schemas:
        return {"type": "null"} if nullable else {}
    if nullable and "oneOf" in schemas[0]:
        schemas.append({"type": "null"})
    elif nullable:
        schemas = [*schemas, {"type": "null"}] if len(schemas) > 1 or "type" not in schemas[0] else schemas
        if len(schemas) == 1:
            schemas[0]["type"] = [schemas[0]["type"], "null"]
            if "enum" in schemas[0]:
                schemas[0]["enum"] = [*schemas[0]["enum"], None]
    return schemas[0] if len(schemas) == 1 else {"anyOf": schemas}


def _told(strategy: Counted, claims: Claims, **more: Any) -> Schema:
    if not claims.evidence:
        return {}
    times = {} if strategy.last < 0 else {"first": strategy.first, "last": strategy.last}
    return {"x-gimbal": {"n": strategy.count, **times, **more}}


def _numbers(numbers: Numbers, claims: Claims) -> Schema:
    return {"type": "integer" if numbers.whole else "number"} | _told(
        numbers, claims, low=numbers.low, high=numbers.high
    )


def _strings(strings: Strings, name: str, claims: Claims) -> Schema:
    schema: Schema = {"type": "string"}
    if strings.form in STRING_FORMATS and not strings.empty:
        schema["format"] = strings.form
    elif choices := choices_of(strings, name, claims):
        schema["enum"] = choices
    return schema | _told(strings, claims, length=[min(strings.low, strings.high), strings.high])


def choices_of(strings: Strings, name: str, claims: Claims) -> list[str]:
    """Return the values of a closed set, or nothing: too few samples, too many values, not a choice's name."""
    values = strings.values
    if not values or strings.empty or not 2 <= len(values) <= 24:
        return []
    total = sum(values.values())
    if total < claims.enum or total / len(values) < claims.enum_repeat:
        return []
    words = words_of(name)
    chosen = bool(words) and words[-1] in _CHOICES
    if all(_UPPER.fullmatch(value) for value in values) and (chosen or max(map(len, values)) > 2):
        return sorted(values)
    plain = total >= claims.enum_plain and total / len(values) >= 2 * claims.enum_repeat
    if chosen and plain and all(_LOWER.fullmatch(value) for value in values):
        return sorted(values)
    return []


def _arrays(arrays: Arrays, things: Things | None, claims: Claims) -> Schema:
    return {"type": "array", "items": _schema(arrays.items, things, claims)} | _told(
        arrays, claims, length=[min(arrays.low, arrays.high), arrays.high]
    )


def _object(objects: Objects, name: str, things: Things | None, claims: Claims) -> Schema:
    if is_map(objects, name):
        values = Node(name)
        for inner in objects.properties.values():
            values.merge(inner)
        if objects.rest is not None:
            values.merge(objects.rest)
        return {"type": "object", "additionalProperties": _schema(values.settle(), things, claims)} | _told(
            objects, claims, keys=len(objects.properties)
        )
    schema: Schema = {"type": "object"}
    properties = objects.properties
    members: dict[str, Schema] = {}
    for key, inner in sorted(properties.items()):
        told = _schema(inner, things, claims)
        if not properties.keys().isdisjoint(told.get("enum", ())):
            del told["enum"]  # it names the member that comes with it: a tag, and more will follow
        if claims.evidence:
            told.setdefault("x-gimbal", {})["presence"] = presence(inner.count, objects.count)
        members[key] = told
    must = required_of(objects, things, claims.required)
    if (union := union_of(objects)) and not claims.required.never:
        variants = [
            _variant(variant, union, members, required_with(variant, objects, things, claims.required), claims)
            for variant in union.variants
        ]
        if "enum" not in members[union.tag]:
            variants.append(_other(union))
        schema |= {
            "properties": {key: told for key, told in members.items() if key in union.common},
            "required": sorted({*must, union.tag}),
            "oneOf": variants,
            "discriminator": {"propertyName": union.tag},
        }
    else:
        schema |= ({"properties": members} if members else {}) | ({"required": must} if must else {})
    if objects.rest is not None:
        schema["additionalProperties"] = _schema(objects.rest, things, claims)
    return schema | _told(objects, claims)


def _variant(
    variant: Variant, union: Union, members: Mapping[str, Schema], must: Sequence[str], claims: Claims
) -> Schema:
    """The schema of one variant: its values of the tag, and what it has beside the common members."""
    tag: Schema = {"enum": sorted(variant.values)} if len(variant.values) > 1 else {"const": variant.values[0]}
    own = {key: deepcopy(members[key]) for key in sorted(variant.keys) if key not in union.common}
    schema: Schema = {"type": "object", "properties": {union.tag: tag, **own}, "required": [union.tag, *must]}
    return schema | ({"x-gimbal": {"n": variant.count}} if claims.evidence else {})


def _other(union: Union) -> Schema:
    """The schema of what is none of the variants: more will follow, where the tag's values are no closed set."""
    known = sorted(value for variant in union.variants for value in variant.values)
    tag: Schema = {"type": "string", "not": {"enum": known}}
    return {"title": "Other", "type": "object", "properties": {union.tag: tag}, "required": [union.tag]}


def is_map(objects: Objects, name: str) -> bool:
    """Tell whether an object's keys are data: many, sparse, odd, with values all of one kind."""
    properties = objects.properties
    count, names = objects.count, len(properties)
    if objects.limit is not None:
        return True
    if objects.rest is not None and (names <= 2 or objects.rest.count > sum(n.count for n in properties.values())):
        return True
    if names < 3:
        return False
    kinds = {strategy.kind for node in properties.values() for strategy in node.kinds() if strategy.kind != "null"}
    if len(kinds) > 1:
        return False
    words = words_of(name)
    hinted = bool(words) and words[-1] in _MAPS
    odd = sum(1 for key in properties if not _NAME.fullmatch(key)) / names
    total = sum(node.count for node in properties.values())
    density = total / (names * count)
    always = sum(1 for node in properties.values() if node.count >= count) / names
    if "object" in kinds and not _same_shape(properties):
        return False
    if names < 4 and not odd:
        return False
    score = 2.5 * odd + (1.0 if hinted else 0.0)
    score += 1.0 if density < 0.35 else 0.0 if density < 0.7 else -1.0
    score += 0.7 if names > 12 else 0.0
    score += 0.7 if names > 40 else 0.0
    score -= 1.5 * always
    score += _uncommon(properties)
    return score >= 1.8


def _same_shape(properties: Mapping[str, Node]) -> bool:
    shapes = [frozenset(objects.properties) for node in properties.values() if (objects := node.get(Objects))]
    union: set[str] = set().union(*shapes)
    if not union:
        return True
    return sum(len(shape) for shape in shapes) / (len(shapes) * len(union)) >= 0.45


def _uncommon(properties: Mapping[str, Node]) -> float:
    """Keys written in several styles were chosen by several people."""
    styles = {
        "upper"
        if key.isupper()
        else "title"
        if _TITLE.fullmatch(key)
        else "snake"
        if "_" in key
        else "kebab"
        if "-" in key
        else "camel"
        if key != key.lower()
        else "plain"
        for key in properties
    }
    styles.discard("plain")
    return 0.5 * (len(styles) - 1) if len(styles) > 1 else 0.0

"""A contract for people to read: what is known of an API's operations, and of one of them in depth.

Facts only, drawn from the evidence: how often each thing was seen, how surely it is always there, and why a part
of a path is taken for a parameter. The command line and the console lay them out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from discovery.evidence import Arrays, Node, Objects
from discovery.openapi import is_operation
from discovery.operation import Operation
from discovery.pointer import pointer_of
from discovery.schema import is_map, presence, schema_of
from discovery.templates import Template, draw
from discovery.traffic import Evidence, Exchanges


@dataclass(frozen=True, slots=True)
class KnownOperation:
    """One operation at a glance. `fields` are the members of a successful answer's top level, `undecided` names
    parameters that may still turn out to be parts of the path."""

    method: str
    path: str
    seen: int
    accepted: int
    statuses: dict[str, int]
    fields: int
    of_items: bool
    undecided: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class KnownParameter:
    """A variable part of a path, with the reason it is taken for one."""

    name: str
    kinds: tuple[str, ...]
    certain: bool
    why: str


@dataclass(frozen=True, slots=True)
class KnownPlace:
    """A place of a body or query: there in `seen` of `of` cases, and of all most likely in a share `between` these
    two. None: it stands for any key of a map."""

    pointer: str
    type: str
    seen: int
    of: int
    between: tuple[float, float] | None


@dataclass(frozen=True, slots=True)
class KnownPart:
    """A query or a body: `title` says which (`query`, `request json`, `answer 200 json`)."""

    title: str
    places: tuple[KnownPlace, ...]


@dataclass(frozen=True, slots=True)
class InDepth:
    """All that is known of one operation."""

    operation: KnownOperation
    parameters: tuple[KnownParameter, ...]
    parts: tuple[KnownPart, ...]


def operations_of(evidence: Evidence, overrides: Sequence[str] = ()) -> list[KnownOperation]:
    """Return the operations that were seen, in the order of their paths."""
    return [
        _glance(template, method, exchanges)
        for template in draw(evidence, overrides)
        for method, exchanges in sorted(template.methods().items())
        if is_operation(exchanges)
    ]


def in_depth(evidence: Evidence, overrides: Sequence[str], method: str, path: str) -> InDepth | None:
    """Return one operation in depth; parameters of `path` may go by any name. None: it was not seen."""
    wanted = Operation(method.upper(), path).shape
    for template in draw(evidence, overrides):
        exchanges = template.methods().get(method.upper())
        if exchanges is None or Operation(method.upper(), template.path).shape != wanted:
            continue
        parameters = tuple(
            KnownParameter(parameter.name, parameter.kinds, parameter.certain, parameter.why)
            for parameter in template.parameters
        )
        parts = tuple(part for part in _parts(exchanges) if part.places)
        return InDepth(_glance(template, method.upper(), exchanges), parameters, parts)
    return None


def _glance(template: Template, method: str, exchanges: Exchanges) -> KnownOperation:
    statuses = {str(status): answers.count for status, answers in sorted(exchanges.answers.items())}
    undecided = tuple(parameter.name for parameter in template.parameters if not parameter.certain)
    fields, of_items = _fields(exchanges)
    return KnownOperation(
        method, template.path, exchanges.count, exchanges.accepted, statuses, fields, of_items, undecided
    )


def _fields(exchanges: Exchanges) -> tuple[int, bool]:
    """How many members the top level of a successful answer has, and whether they are those of its items."""
    for status, answers in sorted(exchanges.answers.items()):
        for node in answers.bodies.values():
            node.settle()
            arrays = node.get(Arrays)
            objects = node.get(Objects) or (arrays and arrays.items.get(Objects))
            if status < 300 and objects:
                return len(objects.properties), arrays is not None
    return 0, False


def _parts(exchanges: Exchanges) -> Iterator[KnownPart]:
    yield _part("query", exchanges.query, exchanges.accepted)
    for kind, node in sorted(exchanges.bodies.items()):
        yield _part(f"request {kind.value}", node)
    for status, answers in sorted(exchanges.answers.items()):
        for kind, node in sorted(answers.bodies.items()):
            yield _part(f"answer {status} {kind.value}", node)


def _part(title: str, node: Node, of: int = 0) -> KnownPart:
    return KnownPart(title, tuple(_places(node.settle(), "", of or node.count)))


def _places(node: Node, pointer: str, of: int) -> Iterator[KnownPlace]:
    """A place, then those below it."""
    if pointer:
        seen = min(node.count, of)
        yield KnownPlace(pointer, _type(node), seen, of, presence(seen, of))
    if objects := node.get(Objects):
        if is_map(objects, node.name):
            yield KnownPlace(f"{pointer}/*", "map of values", objects.count, of, None)
            return
        for key, inner in sorted(objects.properties.items()):
            yield from _places(inner, pointer + pointer_of((key,)), objects.count if pointer else of)
    if arrays := node.get(Arrays):
        yield from _places(arrays.items, f"{pointer}/*", arrays.items.count)


def _type(node: Node) -> str:
    schema = schema_of(node)
    kinds = schema.get("type") or [inner.get("type") for inner in schema.get("anyOf", ())]
    text = kinds if isinstance(kinds, str) else " or ".join(str(kind) for kind in kinds)
    text += f" ({schema['format']})" if "format" in schema else ""
    return text + (f" of {', '.join(map(str, schema['enum']))}" if "enum" in schema else "")

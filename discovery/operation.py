"""Which operation a request belongs to: a method and a path template, given or learned."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cached_property
from urllib.parse import unquote

_PARAMETER = re.compile(r"\{[^{}]*\}")


@dataclass(frozen=True, slots=True)
class Operation:
    """One method at one path template: `GET /orders/{order_id}`."""

    method: str
    template: str

    def __str__(self) -> str:
        return f"{self.method} {self.template}"

    @property
    def shape(self) -> str:
        """The operation with its parameters' names erased: a renamed parameter is no other operation."""
        return f"{self.method} {_PARAMETER.sub('{}', self.template)}"


@dataclass(slots=True)
class _Fork:
    """Segments that may follow: words, then patterns with a part that is fixed, then anything."""

    words: dict[str, _Fork] = field(default_factory=dict)
    patterns: dict[str, tuple[re.Pattern[str], _Fork]] = field(default_factory=dict)
    any: _Fork | None = None
    ends: dict[str, Operation] = field(default_factory=dict)


class Router:
    """Finds a request's operation among many: a literal segment wins over a partial one, that over a parameter."""

    def __init__(self, operations: Iterable[Operation]) -> None:
        self.operations = tuple(operations)

    @cached_property
    def _root(self) -> _Fork:
        root = _Fork()
        for operation in self.operations:
            fork = root
            for segment in operation.template.strip("/").split("/"):
                fork = _step(fork, segment)
            fork.ends[operation.method] = operation
        return root

    def find(self, method: str, path: bytes) -> Operation | None:
        """Return the operation of `method` on `path` (below the base URL, without its query), or None."""
        segments = [unquote(raw) for raw in path.decode("utf-8", "replace").strip("/").split("/")]
        return _find(self._root, method.upper(), segments, 0)


def _step(fork: _Fork, segment: str) -> _Fork:
    if not _PARAMETER.search(segment):
        return fork.words.setdefault(segment, _Fork())
    if _PARAMETER.fullmatch(segment):
        fork.any = fork.any or _Fork()
        return fork.any
    shape = _PARAMETER.sub("{}", segment)
    if shape not in fork.patterns:
        pattern = ".+".join(re.escape(part) for part in shape.split("{}"))
        fork.patterns[shape] = (re.compile(pattern, re.S), _Fork())
    return fork.patterns[shape][1]


def _find(fork: _Fork, method: str, segments: list[str], index: int) -> Operation | None:
    if index == len(segments):
        return fork.ends.get(method)
    segment = segments[index]
    following = [fork.words[segment]] if segment in fork.words else []
    following += [after for pattern, after in fork.patterns.values() if pattern.fullmatch(segment)]
    if fork.any is not None and segment:
        following.append(fork.any)
    for after in following:
        if found := _find(after, method, segments, index + 1):
            return found
    return None

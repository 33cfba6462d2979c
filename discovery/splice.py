"""JSON text as a tree in which whatever is not touched keeps its bytes.

`open_text()` finds the root; members are looked for only where they are asked for, so an edit deep in a large body
costs a C-speed scan of what lies beside its way, and `Node.text()` gives back every other character as it was.
Places are JSON Pointers in which `*` is every item of an array, or every key of a map that is surely a value
(`discovery.evidence.is_name` tells), as `discovery.drift_sketch` writes them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from json.decoder import scanstring  # type: ignore[attr-defined]  # documented nowhere, stable since 2.6
from typing import Any, cast

import orjson

from discovery.evidence import is_name
from discovery.exchange import Json

LIMIT = 8 * 1024 * 1024
"""Bytes of a text that is opened, as `discovery.body` reads at most."""

_scan = cast(Any, json.JSONDecoder()).scan_once
_TYPES = {"{": "object", "[": "array", '"': "string", "t": "boolean", "f": "boolean", "n": "null"}
_SPACE = re.compile(r"[ \t\r\n]*")


@dataclass(slots=True)
class Member:
    """A member of an object, or an item of an array (then `name` is empty). Before and after it: blanks."""

    lead: str
    name: str
    label: str  # the quoted name and all up to the value
    value: Node
    tail: str

    def rename(self, name: str) -> None:
        colon = self.label[len(self.label.rstrip(" \t\r\n:")) :]
        self.name, self.label = name, _quoted(name) + colon


class Node:
    """One value of the text: as it stands, until its members are asked for."""

    __slots__ = ("_members", "_raw")

    def __init__(self, raw: str) -> None:
        self._raw = raw
        self._members: list[Member] | None = None

    @property
    def is_object(self) -> bool:
        return self._raw[0] == "{"

    @property
    def is_array(self) -> bool:
        return self._raw[0] == "["

    @property
    def json_type(self) -> str:
        return _TYPES.get(self._raw[0], "number")

    @property
    def members(self) -> list[Member]:
        """The members or items, to be changed in place; of a scalar none."""
        if self._members is None:
            self._members = _opened(self._raw) if self._raw[0] in "{[" else []
        return self._members

    def text(self) -> str:
        """Return the value as it is now."""
        if self._members is None or self._raw[0] not in "{[":
            return self._raw
        if not self._members:
            return self._raw if self._raw[1:-1].isspace() else self._raw[0] + self._raw[-1]
        inner = ",".join(
            f"{member.lead}{member.label}{member.value.text()}{member.tail}" for member in self._members
        )
        return f"{self._raw[0]}{inner}{self._raw[-1]}"

    def value(self) -> Json:
        return cast(Json, json.loads(self.text()))

    def write(self, raw: str) -> None:
        """Put another value in the place of this one."""
        self._raw, self._members = raw, None

    def find(self, name: str) -> Member | None:
        """Return the object's member `name`: of repeated ones the last, which is the one parsers keep."""
        if not self.is_object:
            return None
        return next((member for member in reversed(self.members) if member.name == name), None)

    def repeats(self, name: str) -> bool:
        """Tell whether the object has `name` more than once: readers differ on what that means."""
        return sum(member.name == name for member in self.members) > 1

    def add(self, name: str, value: Node) -> None:
        """Add a member at the end, spaced as the one before it."""
        members = self.members
        if members:
            last = members[-1]
            colon = last.label[len(last.label.rstrip(" \t\r\n:")) :]
            members.append(Member(last.lead, name, _quoted(name) + colon, value, last.tail))
            last.tail = ""
        else:
            members.append(Member("", name, _quoted(name) + ":", value, ""))

    def remove(self, member: Member) -> None:
        members = self.members
        index = next(at for at, one in enumerate(members) if one is member)
        del members[index]
        if index == len(members) and members:
            members[-1].tail = member.tail


def open_text(body: bytes) -> tuple[str, Node, str] | None:
    """Return what stands before the root, the root, and what stands after; None when this is no JSON to edit."""
    if not body or len(body) > LIMIT:
        return None
    try:
        orjson.loads(body)
        text = body.decode()
        start = cast("re.Match[str]", _SPACE.match(text)).end()
        end = len(text.rstrip(" \t\r\n"))
        return text[:start], Node(text[start:end]), text[end:]
    except (ValueError, RecursionError):
        return None


def places(node: Node, parts: Sequence[str]) -> Iterator[Node]:
    """Yield the values at a place: none, one, or as many as its stars meet."""
    if not parts:
        yield node
        return
    part, rest = parts[0], parts[1:]
    if part == "*":
        for member in node.members:
            if node.is_array or not is_name(member.name):
                yield from places(member.value, rest)
    elif node.is_array and part.isdigit():
        if int(part) < len(node.members):
            yield from places(node.members[int(part)].value, rest)
    elif (found := node.find(part)) is not None:
        yield from places(found.value, rest)


def _quoted(name: str) -> str:
    return json.dumps(name, ensure_ascii=not name.isprintable())


def _blank(text: str, at: int) -> int:
    return cast("re.Match[str]", _SPACE.match(text, at)).end()


def _opened(raw: str) -> list[Member]:
    """Part an object or an array, known to be valid, into its members."""
    members: list[Member] = []
    at, keyed = 1, raw[0] == "{"
    while True:
        start = _blank(raw, at)
        if not members and start == len(raw) - 1:
            return members
        lead, name, begin = raw[at:start], "", start
        if keyed:
            name, end = scanstring(raw, start + 1)
            begin = _blank(raw, raw.index(":", end) + 1)
        _, end = _scan(raw, begin)
        after = _blank(raw, end)
        members.append(Member(lead, name, raw[start:begin], Node(raw[begin:end]), raw[end:after]))
        if raw[after] != ",":
            return members
        at = after + 1

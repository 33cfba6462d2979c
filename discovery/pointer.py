"""JSON Pointers (RFC 6901): the one place in which they are written and taken apart.

Other spellings of a place (`a.b[0]`, `$.a.b`) are only read: `path_of()`.

In what `discovery` says of shapes a part may be `*`: every item of an array, every key of a map.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

Path: TypeAlias = tuple[str | int, ...]
"""Where a value lies in a document: names of members, positions in lists."""


def escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def unescaped(part: str) -> str:
    return part.replace("~1", "/").replace("~0", "~")


def pointer_of(place: Iterable[object]) -> str:
    return "".join(f"/{escaped(str(part))}" for part in place)


def parts_of(pointer: str) -> tuple[str, ...]:
    """Return the names of a pointer; a position is still text."""
    return tuple(unescaped(part) for part in pointer.split("/")[1:])


def place_of(pointer: str) -> Path:
    """Return the place a pointer names; parts that are numbers are positions."""
    return tuple(int(part) if part.isdecimal() else part for part in parts_of(pointer))


def parent_of(pointer: str) -> str:
    return pointer.rpartition("/")[0]


def name_of(pointer: str) -> str:
    """Return the last name of a pointer."""
    return unescaped(pointer.rpartition("/")[2])


def path_of(text: str) -> Path:
    """Split a pointer, a dotted, a bracketed or a JSONPath place into its parts."""
    text = text.strip().removeprefix("#").removeprefix("$").strip()
    if "/" in text and not re.search(r"\s|://", text):
        tokens = [unescaped(token) for token in text.split("/") if token]
        if len(tokens) == 1 and text[0] != "/":
            return path_of(tokens[0])
        return tuple(int(token) if token.isdecimal() else token for token in tokens if token[0] != "@")
    found = re.findall(r"[^.\[\]]+", text)
    return tuple(int(token) if token.isdecimal() else token.strip("'\"") for token in found[:40] if token.strip())

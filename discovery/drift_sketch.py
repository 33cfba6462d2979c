"""What drift detection keeps of a body: which places were there, of which kinds, and hashes of their values.

A `Sketch` has one `Row` a place. Places are JSON Pointers in which array items, and keys that are surely values
(ids, addresses), are `*`. Values themselves are not kept: only keyed hashes, so that "the same value stood
there before" can be told and nothing else. Cost: one visit of each node; what exceeds the bounds is left out.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from hashlib import blake2b
from typing import NamedTuple, TypeAlias

from discovery.evidence import is_name
from discovery.exchange import Json
from discovery.lexical import is_personal, is_token
from discovery.pointer import escaped
from discovery.redaction import is_secret_name, is_secret_value

NULL, BOOLEAN, NUMBER, STRING, ARRAY, OBJECT = 1, 2, 4, 8, 16, 32

KINDS = {NULL: "null", BOOLEAN: "boolean", NUMBER: "number", STRING: "string", ARRAY: "array", OBJECT: "object"}

MAX_ROWS = 500
"""Places of one body. The widest real bodies have some 300; a body of more is judged by its first ones."""

MAX_ITEMS = 12
"""Items of an array, and entries of a map, that are looked at: enough to meet every kind of item."""

MAX_HASHES = 8
"""Values hashed at one place of one body."""

MAX_DEPTH = 16
"""Levels of a body below which it is taken as it is."""

MAX_LENGTH = 4095
"""Characters of a text that was sent, as far as they are counted: limits lie below."""

STRONG = 1
"""The lowest bit of a value's hash: set when the value could tell one entity from another."""


class Row(NamedTuple):
    """One place in one body: how often it was there, how often as an object, as which kinds."""

    pointer: str
    present: int
    objects: int
    mask: int


@dataclass(frozen=True, slots=True)
class Sketch:
    """The rows of one body, parents before children, and the value hashes of each row."""

    rows: tuple[Row, ...]
    hashes: tuple[tuple[int, ...], ...]


Word: TypeAlias = "Callable[[str, int, str | float], None]"

Mark: TypeAlias = "Callable[[Json, bytes], int]"

NOTHING = Sketch((), ())


def sketch(value: Json, key: bytes, word: Word | None = None, mark: Mark | None = None) -> Sketch:
    """Return the sketch of a body. `word` is told harmless short values: (pointer, hash, value).

    `mark` is what is kept of a value, by default its `hash_of`.
    """
    found: dict[str, list[int]] = {}
    hashes: dict[str, list[int]] = {}

    def visit(value: Json, pointer: str, name: str, depth: int) -> None:
        row = found.get(pointer)
        if row is None:
            if len(found) >= MAX_ROWS:
                return
            row = found[pointer] = [0, 0, 0]
            hashes[pointer] = []
        row[0] += 1
        match value:
            case None:
                row[2] |= NULL
            case dict():
                row[1] += 1
                row[2] |= OBJECT
                if depth < MAX_DEPTH:
                    entries = 0
                    for member, inner in value.items():
                        if is_name(member):
                            visit(inner, f"{pointer}/{escaped(member)}", member, depth + 1)
                        elif (entries := entries + 1) <= MAX_ITEMS:
                            visit(inner, f"{pointer}/*", "*", depth + 1)
            case list():
                row[2] |= ARRAY
                if depth < MAX_DEPTH:
                    for inner in value[:MAX_ITEMS]:
                        visit(inner, f"{pointer}/*", name, depth + 1)
            case _:
                row[2] |= BOOLEAN if isinstance(value, bool) else STRING if isinstance(value, str) else NUMBER
                if len(hashes[pointer]) < MAX_HASHES and not is_secret_name(name):
                    hashes[pointer].append(told := kept(value, secret))
                    if word is not None and _is_word(value, name):
                        word(pointer, told, value)

    secret = key[:64]
    kept = mark or hash_of
    visit(value, "", "", 0)
    return Sketch(
        tuple(Row(pointer, *counts) for pointer, counts in found.items()),
        tuple(tuple(told) for told in hashes.values()),
    )


def hash_of(value: Json, key: bytes) -> int:
    """Return a keyed hash of 31 bits and `STRONG`; a number and its text have the same one."""
    text = str(value)
    raw = int.from_bytes(blake2b(text.encode("utf-8", "surrogatepass"), key=key, digest_size=4).digest(), "big")
    match value:
        case bool():
            strong = False
        case int():
            strong = abs(value) >= 1000
        case _:
            strong = len(text) >= 4
    return raw | STRONG if strong else raw & ~STRONG


def mark_of(value: Json, key: bytes) -> int:
    """Return what is kept of a value that was sent: its hash, the form of a text, and its length. 63 bits."""
    if not isinstance(value, str):
        return hash_of(value, key) << 32
    form = "".join("9" if one.isdigit() else "a" if one.isalpha() else one for one in value[:64])
    collapsed = "".join(one for one, last in zip(form, " " + form, strict=False) if one != last)
    return hash_of(value, key) << 32 | hash_of(collapsed, key) >> 20 << 20 | min(len(value), MAX_LENGTH)


def value_in(mark: int) -> int:
    return mark >> 32


def form_in(mark: int) -> int:
    return mark >> 20 & 0xFFF


def length_in(mark: int) -> int:
    return mark & MAX_LENGTH


def _is_word(value: Json, name: str) -> bool:
    if isinstance(value, str):
        return is_token(value) and not is_personal(name) and not is_secret_value(value)
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < 1000


def kinds_in(mask: int) -> list[str]:
    """Return the kinds of a mask in words, null last."""
    return [KINDS[bit] for bit in (BOOLEAN, NUMBER, STRING, ARRAY, OBJECT, NULL) if mask & bit]


def mask_of(words: str) -> int:
    """Return the mask of kinds in words, as `number or null`; the inverse of `kinds_in`."""
    told = words.split(" or ")
    return sum(bit for bit, kind in KINDS.items() if kind in told)

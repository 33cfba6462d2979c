"""Sentences that validators write by a fixed form, in which a place stands: libraries' own, whoever uses them.

A service that validates with a library passes on the library's words: Go's tags, Jackson's reference chain,
JSON Schema's instance path, GraphQL's variables. Their grammar is known, so their places are sure.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from discovery.pointer import Path, path_of


@dataclass(frozen=True, slots=True)
class Phrase:
    """A place that a sentence gives by its form, what is said of it, and a code if the form has one."""

    path: Path
    text: str
    codes: tuple[str, ...] = ()


def phrases_of(text: str) -> list[Phrase]:
    """Return the places `text` gives by one of the known forms; none where it is written freely."""
    return next((found for form in _FORMS if (found := list(form(text)))), [])


_TAGGED = re.compile(
    r"(?:Key: '(?:[A-Za-z]\w*\.)?([^']{1,200})' )?Error:\s*"
    r"Field validation for '([^']{1,100})' failed on the '([^']{1,40})' tag"
)


def _tagged(text: str) -> Iterator[Phrase]:
    """Go: `Key: 'Order.Lines[0].Sku' Error:Field validation for 'Sku' failed on the 'required' tag`."""
    for found in _TAGGED.finditer(text):
        yield Phrase(path_of(found[1] or found[2]), "", (found[3],))


_VARIABLE = re.compile(r"Variable \"?\$(\w{1,60})\"?(?P<rest>.{0,400}?)(?=Variable \"?\$|$)", re.S)
_AT = re.compile(r" at \"?\w+((?:\.\w+|\[\d+\])+)\"?")
_WITHIN = re.compile(r"[Ff]ield \"?(\w{1,60})\"? (?:of required type|is not defined|is required|was not provided)")
_EXPLAINED = re.compile(r"\(([\w.]{1,120})\)")


def _variable(text: str) -> Iterator[Phrase]:
    """GraphQL: `Variable "$input" got invalid value {..} at "input.lines[0]"; Field "sku" of required type ..`."""
    for found in _VARIABLE.finditer(text):
        path: Path = ("variables", found[1])
        rest = found["rest"]
        if inner := _AT.search(rest) or _EXPLAINED.search(rest.partition("invalid value for ")[2]):
            path += path_of(inner[1])
        if lacking := _WITHIN.search(rest):
            path, rest = (*path, lacking[1]), rest[lacking.start() :]
            rest = rest.replace("of required type", "is required: ").replace("is not defined", "is unknown field")
        elif re.match(r" of (?:required )?type .{1,80}(?:not provided|required)", rest):
            rest = "was not provided"
        yield Phrase(path, rest.strip(" ;."))


_CHAIN = re.compile(r"\(through reference chain: (.{1,600})\)", re.S)
_LINK = re.compile(r"\[\"([^\"]{1,100})\"\]|\[(\d{1,6})\]")


def _chained(text: str) -> Iterator[Phrase]:
    """Jackson: `.. (through reference chain: shop.Order["lines"]->java.util.ArrayList[0]->shop.Line["qty"])`."""
    if found := _CHAIN.search(text):
        path = tuple(link[1] or int(link[2]) for link in _LINK.finditer(found[1]))
        if path:
            yield Phrase(path, text[: found.start()])


_INSTANCE = re.compile(r"On instance((?:\[[^\]]{1,80}\])+):")


def _instance(text: str) -> Iterator[Phrase]:
    """Python's jsonschema: `'x' is not of type 'integer' .. On instance['lines'][0]['qty']:`."""
    if found := _INSTANCE.search(text):
        parts = re.findall(r"\[(?:'([^']*)'|(\d+))\]", found[1])
        yield Phrase(tuple(name or int(number) for name, number in parts), text.partition("\n")[0])


_MODELLED = re.compile(r"^([\w.]{1,200})\n {2,}(.{1,300})$", re.M)


def _modelled(text: str) -> Iterator[Phrase]:
    """pydantic as text: `1 validation error for Order\nlines.0.qty\n  Input should be .. [type=..]`."""
    if " validation error" in text[:60]:
        for found in _MODELLED.finditer(text):
            yield Phrase(path_of(found[1]), found[2], tuple(re.findall(r"type=([\w.]+)", found[2])))


_LED = re.compile(
    r"(?:^|(?<=\n)|(?<=: ))\s*(?:#?((?:/[\w$~.%-]+)+)|\$((?:\.\w+|\[\d+\]|\['[^']+'\])+))\s*:?\s+(?=\S)"
)


def _led(text: str) -> Iterator[Phrase]:
    """A pointer or JSONPath that leads its sentence: `#/lines/0/qty: expected type: Integer, found: String`."""
    for line in text.split("\n")[:20]:
        found = _LED.match(line)
        if found and (line.lstrip()[:1] in "#$" or ":" in found[0]):
            path, rest = path_of(found[1] or found[2]), line[found.end() :]
            if lacking := re.match(
                r"required (?:key|property) \[?['\"]?([\w.-]+)['\"]?\]? (?:not found|is missing)", rest
            ):
                path = path if path and path[-1] == lacking[1] else (*path, lacking[1])
                rest = "is required"
            yield Phrase(path, rest)


_CLOSED = re.compile(r"\bPath:? (?:'([\w.\[\]]{1,200})'|\$\.?([\w.\[\]']{1,200}))(?:,| \||$)")


def _closed(text: str) -> Iterator[Phrase]:
    """.NET: `The JSON value could not be converted to System.Int32. Path: $.lines[0].qty | LineNumber: 3`."""
    if found := _CLOSED.search(text):
        yield Phrase(path_of(found[1] or found[2]), text[: found.start()])


_OWNED = re.compile(
    r"on field '([\w.\[\]]{1,200})': rejected value \[(.{0,200}?)\]|at path [\"'`]([\w.\[\]]{1,200})[\"'`]"
    r"|Object\([\w\\ ]{1,200}\)\.([\w.\[\]]{1,200}):"
)


def _owned(text: str) -> Iterator[Phrase]:
    """Spring, Mongoose and Symfony: a field of an object named before its complaint."""
    found = list(_OWNED.finditer(text))
    ends = [*(one.start() for one in found[1:]), len(text)]
    for one, end in zip(found, ends, strict=False):
        rest = text[one.end() : end]
        said = re.findall(r"default message \[([^\]]{1,200})\]", rest)
        lacking = " was null" if one[2] == "null" else ""
        yield Phrase(
            path_of(one[1] or one[3] or one[4]), (said[-1] if said else rest if one[4] else text) + lacking
        )


_PARSED = re.compile(
    r"(?:^|: )([a-zA-Z_]\w*(?:\.\w+|\[\d+\])*): ((?:invalid (?:type|value|length)|unknown variant"
    r"|missing field)\b.{0,300})"
)


def _parsed(text: str) -> Iterator[Phrase]:
    """Rust's serde: `lines[0].qty: invalid type: string "x", expected u32 at line 1 column 10`."""
    for found in _PARSED.finditer(text):
        path, said = path_of(found[1]), found[2]
        lacking = re.match(r"missing field [`'](\w+)", said)
        yield Phrase((*path, lacking[1]) if lacking else path, said)


_FORMS = (_tagged, _variable, _chained, _instance, _modelled, _led, _closed, _owned, _parsed)

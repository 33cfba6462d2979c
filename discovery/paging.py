# ruff: noqa: SIM905 (a list of words reads best as words)
"""How an operation gives its results page by page, told by its parameters, its headers and its answers."""

from __future__ import annotations

from dataclasses import dataclass

from discovery.evidence import Node, Objects
from discovery.lexical import words_of
from discovery.traffic import Exchanges

_CURSORS = frozenset(
    "cursor|start cursor|next cursor|page token|next page token|next token|pagination token|continuation token|"
    "sync token|marker|after|before|starting after|ending before|since id|max id|continuation|page after|"
    "page cursor".split("|")
)
_OFFSETS = frozenset("offset|start|skip|start at|start index|from".split("|"))
_PAGES = frozenset("page|page number|page num|page no|pagenum".split("|"))
_SIZES = frozenset(
    "limit|per page|page size|count|max results|size|take|top|first|max|page limit|items per page|perpage".split(
        "|"
    )
)
_NEXT = frozenset(
    "next cursor|next page token|next token|next|has more|next page|end cursor|has next page|more|next url|"
    "next page url|next marker|cursor|continuation token".split("|")
)


@dataclass(frozen=True, slots=True)
class Paging:
    """`style` is `cursor`, `offset`, `page` or `link` (a `Link` header leads on). Names are the API's own."""

    style: str
    parameters: tuple[str, ...]
    size: str = ""
    next: str = ""  # the member of the answer that leads on


def paging_of(exchanges: Exchanges) -> Paging | None:
    """Return how the operation pages, or None where nothing shows that it does."""
    asked = exchanges.query.settle().get(Objects)
    names = {name: " ".join(words_of(name)) for name in (asked.properties if asked else ())}
    size = next((name for name in sorted(names) if names[name] in _SIZES), "")
    leads = _leads(exchanges)
    for style, words in (("cursor", _CURSORS), ("offset", _OFFSETS), ("page", _PAGES)):
        found = tuple(sorted(name for name in names if names[name] in words))
        if found and (size or leads or style != "cursor"):
            return Paging(style, found, size, leads)
    linked = any(status < 300 and "link" in told.headers for status, told in exchanges.answers.items())
    return Paging("link", (), size, leads) if linked else None


def _leads(exchanges: Exchanges) -> str:
    for status, answers in sorted(exchanges.answers.items()):
        for node in answers.bodies.values() if status < 300 else ():
            if name := _next(node.settle(), 2):
                return name
    return ""


def _next(node: Node, depth: int) -> str:
    objects = node.get(Objects)
    if objects is None or depth == 0:
        return ""
    for name, inner in sorted(objects.properties.items()):
        if " ".join(words_of(name)) in _NEXT:
            return name
        if below := _next(inner, depth - 1):
            return f"{name}/{below}"
    return ""

"""XML and HTML: a document as a plain tree, a page as the words a person reads.

The form of the tree is told in `discovery.body`. Bounded while it is read, so that nothing outgrows its bounds.
"""

from __future__ import annotations

import re
from html import unescape
from typing import cast

from defusedxml.ElementTree import DefusedXMLParser

from discovery.exchange import Json

MAX_DEPTH = 200
"""Levels of a tree, so that who walks it may recurse. Real bodies stay below 20."""

MAX_ELEMENTS = 200_000
"""XML elements: each costs some 300 bytes as a tree."""


class TooMuch(Exception):
    """More levels or elements than are read."""


class _Tree:
    """Builds the tree while expat reads, so that nothing outgrows its bounds."""

    def __init__(self) -> None:
        self.root: dict[str, Json] = {}
        self.open: list[tuple[str, dict[str, Json], list[str]]] = [("", self.root, [])]
        self.count = 0

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        self.count += 1
        if len(self.open) > MAX_DEPTH or self.count > MAX_ELEMENTS:
            raise TooMuch(f"XML of more than {MAX_DEPTH} levels or {MAX_ELEMENTS} elements")
        node: dict[str, Json] = {"@" + _local(name): value for name, value in attributes.items()}
        self.open.append((_local(tag), node, []))

    def data(self, text: str) -> None:
        self.open[-1][2].append(text)

    def end(self, tag: str) -> None:
        name, node, texts = self.open.pop()
        text = "".join(texts).strip()
        value: Json = node
        if not node:
            value = text
        elif node.get("@nil") in ("true", "1"):
            value = None
        elif text:
            node["#text"] = text
        parent = self.open[-1][1]
        before = parent.get(name)
        if name not in parent:
            parent[name] = value
        elif isinstance(before, list):
            before.append(value)
        else:
            parent[name] = [before, value]

    def close(self) -> dict[str, Json]:
        return self.root


def xml_tree(body: bytes) -> Json:
    """Return the tree of an XML document. Raises `TooMuch`, `DefusedXmlException`, `ParseError`, `LookupError`."""
    parser = DefusedXMLParser(target=_Tree(), forbid_dtd=False, forbid_entities=True, forbid_external=True)
    parser.feed(body.strip())
    return cast(Json, parser.close())


def _local(tag: str) -> str:
    return tag.rpartition("}")[2]


_TAGS = re.compile(r"<(script|style)\b.*?</\1>|<!--.*?-->|<[^>]*>", re.I | re.S)


def plain_text(html: str, limit: int = 20_000) -> str:
    """Return what a person would read of the first `limit` characters of `html`."""
    return " ".join(unescape(_TAGS.sub(" ", html[:limit])).split())

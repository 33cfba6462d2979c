"""Denials that stand in no member of an envelope: a text that opens with a word of failure, a list of nothing but
failures, a root that is a fault by its name. Asked only where `policies.denial` found none.
"""

from __future__ import annotations

import re

from discovery.exchange import Json
from discovery.lexical import plain
from policies.denial import IDENTITY, Denial, denial, shown
from policies.signs import sign_of_text

_FAULT_ROOT = re.compile(r"(?:^|[a-z])(?:(?:Exception|Fault|Error)(?:Report|Response|Message|Info)?|Errors)$")
_BLUNT_TEXT = re.compile(
    r"\s*(?:error|err|failed|failure|fail|nok|ko|nack|fehler|erreur|erro|exception|invalid|denied"
    r"|rejected|refused)"
    r"(?:\s*[:=;,|#!]|\s*-(?=[\s\d])|\s+\(?\d|\s*$|\s(?=.{0,100}$))",
    re.I,
)


def text_denial(text: str) -> Denial | None:
    """Return how a plain text denies success: it opens with a word of failure, and is short, as an answer is."""
    line = text.strip()
    if "\n" in line and (pairs := _pairs(line)):
        return denial(pairs, reading=False)
    if len(line) <= 100 and _NUMBERED.match(line) and sign_of_text(line) is not None:
        return Denial("text", shown(line), 0.6)
    if len(line) <= 300 and line.count("\n") <= 2 and _BLUNT_TEXT.match(line):
        return Denial("text", shown(line), 0.7)
    return None


_NUMBERED = re.compile(r"-?\d{1,5}\s*[,:;|]\s*[^\W\d][^,;|]*$")
_PAIR = re.compile(r"([\w.-]{1,60})\s*[=:]\s*(.*)")


def _pairs(text: str) -> dict[str, Json]:
    """A text of nothing but lines such as `Status=OK`; of any other, nothing."""
    lines = [_PAIR.fullmatch(line.strip()) for line in text.split("\n")[:60] if line.strip()]
    return {pair[1]: pair[2] for pair in lines if pair} if all(lines) else {}


def listed_denial(value: Json) -> Denial | None:
    """Return how a list of verdicts denies success where all of them fail and none can be told from its item.

    A verdict has an error's words and no identity of its own, as what was made would have.
    """
    holders = [("", value)] if isinstance(value, list) else list(value.items()) if isinstance(value, dict) else []
    for key, held in holders:
        if isinstance(held, list) and held and all(isinstance(one, dict) and _fails(one) for one in held[:100]):
            return Denial(str(key) or "list", shown(held[0]), 0.8)
    return None


_FAIL_WORDS = re.compile(
    r"^(?:err(?:or|code|no|msg)|error(?:text|code|message|msg|description|detail)s?|fail(?:ure)?reason)$"
)


def _fails(node: dict[str, Json]) -> bool:
    names = {plain(key): held for key, held in node.items()}
    said = any(_FAIL_WORDS.match(name) and isinstance(held, str) and held.strip() for name, held in names.items())
    status = next((str(names[name]) for name in ("status", "code", "success", "ok") if name in names), "")
    return said and not _identified(names) and not re.match(r"^(?:0+|true|ok|2\d\d|success\w*)$", status, re.I)


def _identified(names: dict[str, Json]) -> bool:
    return any(names.get(name) not in (None, "", 0) for name in IDENTITY)


def fault_denial(value: Json, last_word: str) -> Denial | None:
    """A body whose one member is a fault by its name, as the root of an XML answer is."""
    if not isinstance(value, dict) or len(value) != 1:
        return None
    key, held = next(iter(value.items()))
    if (
        held
        and isinstance(held, (dict, str))
        and _FAULT_ROOT.search(key)
        and plain(key).rstrip("s") not in last_word
    ):
        return Denial(key, shown(held), 0.85)
    return None

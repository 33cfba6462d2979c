"""Settling a doubt by evidence: what is asked of the upstream, and what its answer proves.

The order: the same bytes under the same key, while the upstream remembers it (`policies.claims` grants that
like any resumed call); a configured look-up; a declared assumption; a person. Nothing here guesses: an answer
proves that the call took effect, that it did not, or nothing yet.

Absence proves nothing before `absent_after`, counted from when the doubt was noticed, which is after the last
byte could have left. Presence proves nothing when what was found says in so many words that it is another's:
an upstream that ignores a search parameter returns whatever it likes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias
from urllib.parse import parse_qsl, quote

import orjson

from discovery.body import read_body
from discovery.complaints import complaints_of
from discovery.exchange import Fault, Headers, Json, Request, Response
from discovery.pointer import parts_of
from policies.rules import Assume, Lookup, Rules
from policies.signs import Sign, signs_of

LOOKING = 3600.0
"""Seconds after `absent_after` in which an inconclusive look-up is repeated; then a person is asked."""

FIRST_LOOK = 1.0
"""Seconds to the second look: what was just created may not be listed at once."""

LONGEST_PAUSE = 300.0
"""Seconds between looks at most."""

EVIDENCE = b"gimbal-evidence"
"""Response header of a reply that is not the upstream's answer to the call itself: how it was come by."""


@dataclass(frozen=True, slots=True)
class Applied:
    """It took effect. `reply` is what a caller is told in place of the answer that was lost."""

    reply: Response
    why: str


@dataclass(frozen=True, slots=True)
class NotApplied:
    """It had no effect: it may be sent again."""

    why: str


@dataclass(frozen=True, slots=True)
class Unsure:
    """Nothing is proved. `again`: seconds until another look makes sense; None: it makes none."""

    again: float | None
    why: str


Verdict: TypeAlias = Applied | NotApplied | Unsure


def look_up(lookup: Lookup, request: Request) -> Request | None:
    """Return the look-up for what `request` may have made; None where it lacks a value the look-up names.

    Templates are `{body.a.b}`, `{query.name}`, `{header.Name}` and `{path.0}` (a segment, from 0).
    """
    missing = False

    def fill(match: re.Match[str]) -> str:
        nonlocal missing
        value = _value(match[1], request)
        missing = missing or value is None
        return quote(value or "", safe="")

    target = _TEMPLATE.sub(fill, lookup.get)
    return None if missing else Request("GET", target.encode(), _reading(request.headers))


def judge(lookup: Lookup, request: Request, asked: Request, answer: Response | Fault, age: float) -> Verdict:
    """Return what `answer` to the look-up `asked` proves of `request`, `age` seconds after its doubt."""
    said = f"GET {asked.target.decode('latin-1')}"
    again = _again(lookup, age)
    match answer:
        case Fault():
            return Unsure(again, f"{said} was not answered ({answer.detail})")
        case Response(status=404):
            return _absent(lookup, age, f"{said}: status 404")
        case Response(status=status) if not 200 <= status < 300:
            return Unsure(again, f"{said}: status {status}")
    document = read_body(answer.headers, answer.body).value
    found = at(document, lookup.found)
    if not found:  # nothing, null, false, 0 or empty
        return _absent(lookup, age, f"{said}: {lookup.found or 'the answer'} is not there")
    other = _contradiction(lookup, request, found)
    if other:
        return Unsure(None, f"{said}: {lookup.found} is there, but {other}")
    body = orjson.dumps(found) if isinstance(found, dict) else answer.body
    headers: Headers = ((b"content-type", b"application/json"), (EVIDENCE, b"lookup"))
    return Applied(Response(200, headers, body), f"{said}: {lookup.found or 'the answer'} is there")


def assume(rules: Rules, attempts: int) -> Verdict:
    """Return what is declared of a doubt that no evidence settles."""
    match rules.assume:
        case Assume.APPLIED:
            return Applied(Response(204, ((EVIDENCE, b"assumed"),)), "the operation's policy takes it as applied")
        case Assume.NOT_APPLIED if attempts < rules.attempts:
            return NotApplied("the operation's policy takes it as not applied")
        case Assume.NOT_APPLIED:
            return Unsure(None, f"its policy takes it as not applied, but {attempts} attempts are used up")
        case Assume.ASK:
            return Unsure(None, "a person has to settle it")


def resolvable(rules: Rules) -> bool:
    """Is there anything to settle a doubt by, short of a person?"""
    return rules.lookup is not None or rules.assume is not Assume.ASK


def says_it_exists(answer: Response) -> bool:
    """Does a refusal say that the thing is there already? After a doubt that may be our own doing."""
    if answer.status == 409:
        return True
    complaints = complaints_of(read_body(answer.headers, answer.body).value)
    return any(sign is Sign.EXISTS for sign, _ in signs_of(complaints))


def at(document: Json, pointer: str) -> Json:
    """Return what `pointer` (RFC 6901) points to; None where nothing is."""
    value = document
    for name in parts_of(pointer):
        if isinstance(value, dict):
            value = value.get(name)
        elif isinstance(value, list) and name.isdecimal() and int(name) < len(value):
            value = value[int(name)]
        else:
            return None
    return value


_TEMPLATE = re.compile(r"\{([^{}]+)\}")

_UNREAD = frozenset({b"content-length", b"content-type", b"content-encoding", b"transfer-encoding", b"expect"})
"""Headers that speak of a body; conditions and keys (`if-*`, an idempotency key) would change what a GET tells."""


def _reading(headers: Headers) -> Headers:
    """Return the headers a look-up keeps of the call: who asks, and in what form it wants to be told."""
    return tuple(
        header
        for header in headers
        if (name := header[0].lower()) not in _UNREAD and name[:3] != b"if-" and b"idempotency" not in name
    )


def _value(name: str, request: Request) -> str | None:
    source, _, rest = name.partition(".")
    match source:
        case "body":
            return _text(_body_value(rest, request))
        case "query":
            return dict(parse_qsl(request.query.decode("latin-1"))).get(rest)
        case "header":
            value = request.header(rest.lower().encode())
            return None if value is None else value.decode("latin-1")
        case "path":
            segments = request.path.decode("latin-1").strip("/").split("/")
            return segments[int(rest)] if rest.isdecimal() and int(rest) < len(segments) else None
        case _:
            return None


def _body_value(path: str, request: Request) -> Json:
    body = read_body(request.headers, request.body).value
    return at(body, "/" + path.replace(".", "/"))


def _text(value: Json) -> str | None:
    match value:
        case bool():
            return "true" if value else "false"
        case str() if value:
            return value
        case int() | float():
            return str(value)
        case _:
            return None


def _absent(lookup: Lookup, age: float, why: str) -> Verdict:
    if age >= lookup.absent_after:
        return NotApplied(f"{why}, {age:.0f} s after the doubt (absent_after is {lookup.absent_after:g} s)")
    if math.isinf(lookup.absent_after):
        return Unsure(_again(lookup, age), f"{why}, which proves nothing without absent_after")
    return Unsure(_again(lookup, age), f"{why}, which proves nothing before {lookup.absent_after:g} s")


def _again(lookup: Lookup, age: float) -> float | None:
    """Return seconds to the next look: half the age, and just after absence begins to count."""
    proves = lookup.absent_after if math.isfinite(lookup.absent_after) else 0.0
    if age > proves + LOOKING:
        return None
    pause = min(LONGEST_PAUSE, max(FIRST_LOOK, age / 2))
    return proves - age + 0.05 if age < proves < age + pause else pause


def _contradiction(lookup: Lookup, request: Request, found: Json) -> str:
    """Return why what was found is another's: it has a member of the name looked for, with another value."""
    for name in _TEMPLATE.findall(lookup.get):
        source, _, path = name.partition(".")
        wanted = _value(name, request)
        if source not in ("body", "query") or wanted is None:
            continue
        member = path.rpartition(".")[2]
        held = [text for text in map(_text, _members(found, member)) if text is not None]
        if held and wanted not in held:
            return f"its {member} is {held[0][:40]!r}, not the one that was sent"
    return ""


def _members(value: Json, name: str, depth: int = 4) -> Iterator[Json]:
    if depth == 0:
        return
    if isinstance(value, dict):
        for key, held in value.items():
            if key == name:
                yield held
            yield from _members(held, name, depth - 1)
    elif isinstance(value, list):
        for held in value[:20]:
            yield from _members(held, name, depth - 1)

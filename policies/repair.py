"""Repairs of requests: what a definite refusal says is wrong, mended where evidence says how, else asked for.

`repair()` answers a refusal (effect none) that names fields: a `Repaired` request whose every mend says where it
has its value from, or `NeedsInput`: exactly what is asked of the workflow, with what could be meant. It renames a
field where the answer spells out the new name, writes a value another way where nothing is lost, and fills a
required field only from configuration, from the sole value that is allowed, or from this same instance's history
(`policies.history`): exactly one value of that name and form, of the very thing that the request identifies. All
or nothing: a request mended in part is not sent. A mend holds no value of the instance's, so what held is a lesson
for the next thousand: `prepare()` makes the same mends before the first sending, with each instance's own values.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeAlias
from urllib.parse import quote_plus, unquote_plus

import orjson

from discovery.edits import Form, Rename, convert, form_of, perform
from discovery.exchange import Json, Request
from discovery.hints import Hint, Reason
from discovery.lexical import plain
from discovery.pointer import parts_of, pointer_of
from discovery.redaction import is_secret_name
from discovery.shape import json_type, kind_of
from discovery.splice import Node, open_text, places
from policies.history import Known, Memory, is_identified, known_of
from policies.reply import Problem

MAX_CANDIDATES = 5


@dataclass(frozen=True, slots=True)
class RenameField:
    """A field goes by another name, as an answer spelled out."""

    where: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class WriteField:
    """A field's value, of JSON type or `discovery.edits.Form` `form` now; nothing is lost on the way."""

    where: str
    pointer: str
    form: str


@dataclass(frozen=True, slots=True)
class SpellField:
    """A word of a closed set, spelled as the answer allows it."""

    where: str
    pointer: str
    before: str
    after: str


@dataclass(frozen=True, slots=True)
class FillField:
    """A field that is required: `value` from `config` or as the sole one `allowed`; None: from the history."""

    where: str
    pointer: str
    source: Literal["config", "allowed", "history"]
    value: Json = None


Mend: TypeAlias = RenameField | WriteField | SpellField | FillField


@dataclass(frozen=True, slots=True)
class Repaired:
    """A request that may be sent in place of the refused one, and `why` for each of its mends, in order."""

    request: Request
    mends: tuple[Mend, ...]
    why: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Asked:
    """One field the workflow must see to. `candidates` are what it may have meant, each with its provenance."""

    pointer: str
    reason: Reason
    message: str
    allowed: tuple[Json, ...] = ()
    candidates: tuple[tuple[Json, str], ...] = ()

    def told(self) -> Json:
        """Return it as a member of a `needs-input` problem."""
        told: dict[str, Json] = {"pointer": self.pointer, "reason": self.reason.value, "message": self.message}
        if self.allowed:
            told["allowed"] = [*self.allowed]
        if self.candidates:
            told["candidates"] = [{"value": value, "from": said} for value, said in self.candidates]
        return told


@dataclass(frozen=True, slots=True)
class NeedsInput:
    """What is asked for. Nothing was sent in place of the refused request."""

    fields: tuple[Asked, ...]


@dataclass(frozen=True, slots=True)
class Evidence:
    """What a repair may draw on. `config` is by pointer; `types` are JSON types by pointer, from the contract."""

    history: Sequence[Memory] = ()
    config: Mapping[str, Json] | None = None
    types: Mapping[str, frozenset[str]] | None = None


def repair(
    request: Request, hints: Sequence[Hint], evidence: Evidence = Evidence()
) -> Repaired | NeedsInput | None:
    """Mend a refused request, or say what is needed. None: the refusal names no field.

    For a refusal whose effect is `none`, and once: a repaired request that is refused again is not repaired.
    """
    named = [hint for hint in hints if hint.pointer]
    if not named:
        return None
    mends: list[Mend] = []
    asked: list[Asked] = []
    renames = dict(_renames(request, named))
    reached = {(mend.where, mend.after) for mend in renames.values()}
    for hint in named:
        place = starred(hint.pointer)
        if hint not in renames and (hint.where, place) in reached:
            continue  # the new name of what is renamed
        mend = renames.get(hint) or _mend(request, replace(hint, pointer=place), evidence)
        if mend is None:
            asked.append(_asked(request, hint, evidence))
        else:
            mends.append(mend)
    if not asked:
        done = _made(request, tuple(dict.fromkeys(mends)), evidence)
        if done is not None:
            return done
        asked = [_asked(request, hint, evidence) for hint in named]
    return NeedsInput(tuple(asked))


def prepare(request: Request, lessons: Sequence[Mend], evidence: Evidence = Evidence()) -> Repaired | None:
    """Make the mends that earlier instances' refusals taught, before the first sending; None: none applies.

    A lesson that this request or this instance's history gives no ground for is left out.
    """
    done: Repaired | None = None
    for mend in lessons:
        held = _made(done.request if done else request, (mend,), evidence)
        if held is not None:
            before = done or Repaired(request, (), ())
            done = Repaired(held.request, before.mends + held.mends, before.why + held.why)
    return done


def ask(request: Request, hints: Sequence[Hint], evidence: Evidence = Evidence()) -> NeedsInput | None:
    """Return what a refusal asks for, without any mend. None: it names no field."""
    named = [hint for hint in hints if hint.pointer]
    return NeedsInput(tuple(_asked(request, hint, evidence) for hint in named)) if named else None


def refutes(hint: Hint, mend: Mend) -> bool:
    """Does a refusal say that a mend is wrong? That a renamed field has a wrong value says nothing of its name."""
    where, place = hint.where, starred(hint.pointer)
    match mend:
        case RenameField(at, before, after) if at == where:
            unknown = hint.reason in (Reason.UNKNOWN, Reason.OTHER)
            return (place == after and unknown) or (place == before and hint.reason is Reason.MISSING)
        case WriteField(at, pointer):
            return (at, pointer) == (where, place) and hint.reason in (Reason.TYPE, Reason.FORMAT)
        case SpellField(at, pointer):
            return (at, pointer) == (where, place) and hint.reason is Reason.ENUM
        case FillField(at, pointer):
            return (at, pointer) == (where, place)
        case _:
            return False


def needs_input(needed: NeedsInput) -> Problem:
    """Return the problem a workflow is told: the fields, and what it may have meant."""
    named = ", ".join(one.pointer for one in needed.fields)
    return Problem(
        "needs-input",
        422,
        "The upstream wants something the gateway may not invent",
        f"Send the step again with {named} as the upstream asks; nothing has taken effect.",
        {"fields": [one.told() for one in needed.fields]},
    )


# What each hint calls for


def _mend(request: Request, hint: Hint, evidence: Evidence) -> Mend | None:
    name = parts_of(hint.pointer)[-1]
    if hint.where not in ("body", "query") or is_secret_name(name):
        return None
    match hint.reason:
        case Reason.MISSING:
            if evidence.config and hint.pointer in evidence.config:
                return FillField(hint.where, hint.pointer, "config", evidence.config[hint.pointer])
            if len(hint.allowed) == 1:
                return FillField(hint.where, hint.pointer, "allowed", hint.allowed[0])
            if _recalled(request, hint.pointer, hint.allowed, evidence) is not None:
                return FillField(hint.where, hint.pointer, "history")
        case Reason.TYPE | Reason.FORMAT:
            form = _wanted(hint, evidence)
            return WriteField(hint.where, hint.pointer, form) if form else None
        case Reason.ENUM:
            told = {value for value in _values(request, hint.where, hint.pointer) if isinstance(value, str)}
            if len(told) == 1:
                word = told.pop()
                words = [value for value in hint.allowed if isinstance(value, str) and value != word]
                alike = [value for value in words if plain(value) == plain(word)]
                if len(alike) == 1:
                    return SpellField(hint.where, hint.pointer, word, alike[0])
    return None


_QUOTED_NAME = r"['\"`\[]?([A-Za-z_$][\w$\-]*)['\"`\]]?(?![\w\[(]|\.\w)"
_NOUN = r"(?:the )?(?:new )?(?:field |parameter |property |attribute |name |key )?"
_SPELLED = re.compile(
    rf"\b(?:(?:renamed|changed) (?:to|as)|replaced (?:by|with)|superseded by|now (?:called|named|known as))"
    rf" {_NOUN}{_QUOTED_NAME}"
    rf"|\b(?:please )?use {_NOUN}{_QUOTED_NAME}(?: field| parameter| property| attribute)?,? instead\b"
    rf"|\binstead,? (?:please )?use {_NOUN}{_QUOTED_NAME}",
    re.I,
)
_FORMERLY = re.compile(
    rf"\b(?:formerly|previously|renamed from|used to be(?: called)?) {_NOUN}{_QUOTED_NAME}", re.I
)
_GUESSED = re.compile(rf"\bdid you mean:? {_NOUN}{_QUOTED_NAME}", re.I)
_GOES_ON = re.compile(r"\s*(?:it|this|please|use|instead|now)\b", re.I)
_DENIED = re.compile(r"\b(?:not|never|n't|cannot)\W+(?:\w+\W+)?$", re.I)


def _renames(request: Request, hints: Sequence[Hint]) -> Iterator[tuple[Hint, RenameField]]:
    """New names that the answer spells out, for fields that were sent. A guess (`did you mean`) counts only where
    the field it names is said to be missing as well."""
    missing = {(hint.where, starred(hint.pointer)) for hint in hints if hint.reason is Reason.MISSING}
    for hint in hints:
        place = starred(hint.pointer)
        *parent, name = parts_of(place)
        if hint.reason is Reason.MISSING:
            olds = {old for old in _said(_FORMERLY, hint.message) if plain(old) != plain(name)}
            before = pointer_of((*parent, olds.pop())) if len(olds) == 1 else ""
            if before and _values(request, hint.where, before):
                yield hint, RenameField(hint.where, before, place)
        elif hint.reason in (Reason.UNKNOWN, Reason.OTHER):
            news = {
                pointer_of((*parent, new)) for new in _said(_SPELLED, _about(hint.message, name)) if new != name
            }
            if not news:
                guesses = {pointer_of((*parent, new)) for new in _said(_GUESSED, hint.message) if new != name}
                news = guesses if all((hint.where, new) in missing for new in guesses) else set()
            if len(news) == 1 and _values(request, hint.where, place):
                yield hint, RenameField(hint.where, place, news.pop())


def _said(pattern: re.Pattern[str], message: str) -> set[str]:
    return {
        next(group for group in found.groups() if group)
        for found in pattern.finditer(message)
        if not _DENIED.search(message[max(0, found.start() - 30) : found.start()])
    }


def _about(message: str, name: str) -> str:
    """Return the sentences of a message that are about the field: that name it, or go on from there."""
    parts = re.split(r"[;\n]|(?<=[a-z'\"`])\. ", message)
    names = re.compile(rf"(?<!\w){re.escape(name)}(?!\w)")
    if not names.search(message):
        return message
    about: list[str] = []
    goes_on = False
    for part in parts:
        goes_on = bool(names.search(part) or (goes_on and _GOES_ON.match(part)))
        about += [part] * goes_on
    return ". ".join(about)


_WANTED = tuple(
    (
        re.compile(
            rf"(?:must|should|has to|needs to|expected|expects?) (?:be |of )?(?:an? |type |in )*{said}", re.I
        ),
        form,
    )
    for said, form in (
        (r"(?:rfc ?-?3339|iso ?-?8601|date-?time)", Form.DATE_TIME.value),
        (r"(?:unix|epoch)\b.{0,20}milli", Form.EPOCH_MS.value),
        (r"(?:unix|epoch)", Form.EPOCH.value),
        (r"(?:str\b|string|text\b)", "string"),
        (r"(?:int\b|integer|whole number)", "integer"),
        (r"(?:number|numeric|float|decimal)", "number"),
        (r"(?:array|list)\b", "array"),
    )
)


def _wanted(hint: Hint, evidence: Evidence) -> str:
    """Return the form the answer asks for, else the contract's one type."""
    found = {form: None for pattern, form in _WANTED if pattern.search(hint.message)}
    if found:
        return next(iter(found)) if len(found) == 1 or "milli" in hint.message else ""
    types = (evidence.types or {}).get(hint.pointer, frozenset()) - {"null"}
    return next(iter(types)) if len(types) == 1 else ""


# Making them


def _made(request: Request, mends: Sequence[Mend], evidence: Evidence) -> Repaired | None:
    """Make all the mends, or none."""
    why = []
    for mend in mends:
        done = _one(request, mend, evidence)
        if done is None:
            return None
        request, said = done
        why.append(said)
    return Repaired(request, tuple(mends), tuple(why))


def _one(request: Request, mend: Mend, evidence: Evidence) -> tuple[Request, str] | None:
    match mend:
        case RenameField(where, before, after):
            said = f"{before} is {after} now: the upstream said so"
            changed = _renamed(request, where, before, after)
        case WriteField(where, pointer, form):
            said = f"{pointer} is written as {form}: the upstream asked for it, and nothing is lost"
            changed = _turned(request, where, pointer, lambda value: _rewritten(value, form))
        case SpellField(where, pointer, before, after):
            said = f"{pointer} is spelled {after}: of the allowed values the same word"
            changed = _turned(request, where, pointer, lambda value: after if value == before else value)
        case FillField(where, pointer, source, value):
            said = f"{pointer} is filled from what is {'configured' if source == 'config' else 'allowed'}"
            if source == "history":
                known = _recalled(request, pointer, (), evidence)
                if known is None:
                    return None
                value, said = known.value, f"{pointer} is filled from the {known.said}"
            changed = _filled(request, where, pointer, value)
    return (changed, said) if changed is not None and changed != request else None


def _recalled(request: Request, pointer: str, allowed: Sequence[Json], evidence: Evidence) -> Known | None:
    """Return the one value of that name and form that the instance has seen, if it is told of the very thing."""
    *parent, name = parts_of(pointer)
    if "*" in parent:
        return None
    known = known_of(name, (evidence.types or {}).get(pointer, frozenset()), evidence.history)
    told = {orjson.dumps(one.value) for one in known}
    if len(told) != 1 or (allowed and known[0].value not in allowed):
        return None
    holder = "".join("/" + part for part in parent)
    return next((one for one in reversed(known) if is_identified(one, request, holder)), None)


def _rewritten(value: Json, form: str) -> Json:
    """Return `value` in a form, or as it is where it has that form already; raises `_Lossy` where it cannot be."""
    kind = json_type(kind_of(value))
    match form, kind:
        case "array", _:
            return value if kind == "array" else [value]
        case (("string" | "integer" | "number"), "array") if isinstance(value, list) and len(value) == 1:
            return _rewritten(value[0], form)
        case "string", "number":
            return _converted(value, Form.NUMBER, Form.NUMERIC)
        case "string", "string":
            return value
        case (("integer" | "number"), "string"):
            turned = _converted(value, Form.NUMERIC, Form.NUMBER)
            return turned if form == "number" or isinstance(turned, int) else _lossy()
        case (("integer" | "number"), "number"):
            return value
        case (Form.DATE_TIME.value, "number"):
            seconds = isinstance(value, int) and value < 10**11
            return _converted(value, Form.EPOCH if seconds else Form.EPOCH_MS, Form.DATE_TIME)
        case ((Form.EPOCH.value | Form.EPOCH_MS.value), "string") if form_of(value) is Form.DATE_TIME:
            return _converted(value, Form.DATE_TIME, Form(form))
    return _lossy()


class _Lossy(Exception):
    """A value cannot be written that way without a loss."""


def _lossy() -> Json:
    raise _Lossy


def _converted(value: Json, old: Form, new: Form) -> Json:
    turned = convert(value, old, new)
    return _lossy() if turned is None else turned


# The body and the query


def _opened(request: Request) -> tuple[str, Node, str] | None:
    return open_text(request.body)


def _values(request: Request, where: str, pointer: str) -> list[Json]:
    parts = parts_of(pointer)
    if where == "query":
        return [value for name, value in _pairs(request) if (name,) == parts]
    opened = _opened(request)
    return [node.value() for node in places(opened[1], parts)] if opened else []


def _pairs(request: Request) -> list[tuple[str, str]]:
    parts = (pair.partition("=") for pair in request.query.decode("latin-1").split("&") if pair)
    return [(unquote_plus(name), unquote_plus(value)) for name, _, value in parts]


def _with_query(
    request: Request, turn: Mapping[str, str] | None = None, add: tuple[str, str] | None = None
) -> Request:
    """Return the request with parameters renamed, or one added; the others keep their bytes."""
    pairs = [pair for pair in request.query.split(b"&") if pair]
    for at, pair in enumerate(pairs):
        name, equals, value = pair.partition(b"=")
        new = (turn or {}).get(unquote_plus(name.decode("latin-1")))
        if new is not None:
            pairs[at] = quote_plus(new).encode() + equals + value
    if add is not None:
        pairs.append(f"{quote_plus(add[0])}={quote_plus(add[1])}".encode())
    return replace(request, target=request.path + b"?" + b"&".join(pairs))


def _renamed(request: Request, where: str, before: str, after: str) -> Request | None:
    if where == "query":
        old, new = before[1:], after[1:]
        names = [name for name, _ in _pairs(request)]
        return _with_query(request, {old: new}) if old in names and new not in names else None
    opened = _opened(request)
    if opened is None or not perform(Rename(before, after), opened[1], "forward").done:
        return None
    if any(True for _ in places(opened[1], parts_of(before))):  # one object had both: neither is sure
        return None
    return _rewrite(request, opened)


def _turned(request: Request, where: str, pointer: str, turn: Callable[[Json], Json]) -> Request | None:
    opened = _opened(request)
    if where != "body" or opened is None:
        return None  # a query's values are texts, however they are written
    for node in places(opened[1], parts_of(pointer)):
        value = node.value()
        try:
            turned = turn(value)
        except _Lossy:
            return None
        if turned != value or type(turned) is not type(value):
            node.write(orjson.dumps(turned).decode())
    return _rewrite(request, opened)


def _filled(request: Request, where: str, pointer: str, value: Json) -> Request | None:
    *parent, name = parts_of(pointer)
    if where == "query":
        if parent or isinstance(value, dict | list) or name in dict(_pairs(request)):
            return None
        return _with_query(request, add=(name, value if isinstance(value, str) else orjson.dumps(value).decode()))
    opened = _opened(request)
    holders = [node for node in places(opened[1], parent) if node.is_object] if opened else []
    if opened is None or not holders:
        return None
    for holder in holders:
        member = holder.find(name)
        if member is None:
            holder.add(name, Node(orjson.dumps(value).decode()))
        elif member.value.text() in ("null", '""'):
            member.value.write(orjson.dumps(value).decode())
    return _rewrite(request, opened)


def _rewrite(request: Request, opened: tuple[str, Node, str]) -> Request:
    lead, root, tail = opened
    return with_body(request, f"{lead}{root.text()}{tail}".encode())


def with_body(request: Request, body: bytes) -> Request:
    """Return the request with another body, its length told anew where it was told."""
    headers = tuple(
        (name, str(len(body)).encode()) if name.lower() == b"content-length" else (name, value)
        for name, value in request.headers
    )
    return replace(request, headers=headers, body=body)


# Asking


def _asked(request: Request, hint: Hint, evidence: Evidence) -> Asked:
    name = parts_of(hint.pointer)[-1]
    candidates: dict[bytes, tuple[Json, str]] = {}
    for known in known_of(name, frozenset(), evidence.history) if hint.reason is Reason.MISSING else ():
        if not hint.allowed or known.value in hint.allowed:
            candidates[orjson.dumps(known.value)] = known.value, known.said
    return Asked(
        hint.pointer, hint.reason, hint.message, hint.allowed, tuple(candidates.values())[:MAX_CANDIDATES]
    )


def starred(pointer: str) -> str:
    """A place in one item, as the place in all: what holds for one of them holds for the others."""
    return re.sub(r"/\d+(?=/|$)", "/*", pointer)

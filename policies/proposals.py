"""Look-ups learned from traffic: which GET shows what a POST created, by a value the POST carried.

A `Proposer` is fed with exchanges. It remembers of each creation the identity the upstream gave it and the
values it was asked with, as keyed hashes; when a GET that names one of those values returns the one object of
that identity, the GET's form is evidence for a look-up, and when it returns another's, evidence against it. What
is proposed is never used before a person has accepted it (`gateway.lookups`).

Only what names one object is evidence: a value that two creations share, an answer with several objects and an
answer without an identity are not. Nothing but names, small numbers and words of paths is kept in the clear.
"""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from urllib.parse import parse_qsl

from discovery.body import read_body
from discovery.exchange import Exchange, Json, Request, Response
from discovery.redaction import is_secret_name
from discovery.traffic import hash_of
from policies.rules import OperationRule

NEEDED = 3
"""Different objects found before a look-up is proposed: one may be chance, two a habit of tests."""

MADE = 4096
"""Values remembered, the latest: some hundred creations, or minutes of a busy upstream."""

VALUES = 16
"""Values of a request that are remembered; a reference stands near the top."""

OPERATIONS = 4
"""Operations remembered for one value: an order's number goes to several."""

SHORTEST = 3
"""Characters of a value that can name something."""

FORMS = 256
"""Forms of look-ups counted at a time in one process."""

IDENTITIES = ("id", "uuid", "uid", "guid", "sid", "key", "gid", "number")
"""Members that hold what an upstream calls a thing it made, the likeliest first."""


@dataclass(frozen=True, slots=True)
class Form:
    """A look-up that could be: for which operation, what to get, and where its answer has the object."""

    operation: str
    get: str
    found: str


@dataclass(frozen=True, slots=True)
class Proposal:
    """A form that found what was made `seen` times, each time another object; `against` speak against it."""

    form: Form
    seen: int
    against: int = 0

    def is_for(self, method: str, path: str) -> bool:
        return OperationRule(self.form.operation).matches(method, path)


@dataclass(slots=True)
class _Made:
    """A value something was made with: by which operation, under which name, and what came of it."""

    operation: str
    segments: tuple[bytes, ...]  # of the POST's path, hashed
    place: str  # body.a.b
    identity: bytes | None  # None: several things were made with it
    shown: set[Form] = field(default_factory=set)


class Proposer:
    """What one process saw of one upstream. `take()` hands the counts on; memory is bounded."""

    def __init__(self, key: bytes) -> None:
        self._key = key[:64]
        self._made: OrderedDict[bytes, dict[str, _Made]] = OrderedDict()  # by value, then operation
        self._seen: Counter[Form] = Counter()
        self._against: Counter[Form] = Counter()

    def fold(self, exchange: Exchange) -> None:
        """Take in an exchange; those without a whole, successful answer tell nothing."""
        request, answer = exchange.request, exchange.answer
        if not isinstance(answer, Response) or not 200 <= answer.status < 300:
            return
        if request.method == "POST":
            self._created(request, answer)
        elif request.method == "GET" and self._made:
            self._shown(request, answer)

    def take(self) -> tuple[Mapping[Form, int], Mapping[Form, int]]:
        """Return what was counted since the last time: finds, and what spoke against."""
        seen, against = self._seen, self._against
        self._seen, self._against = Counter(), Counter()
        return seen, against

    def _created(self, request: Request, answer: Response) -> None:
        sent = read_body(request.headers, request.body).value
        identity = self._identity(_unwrapped(read_body(answer.headers, answer.body).value))
        if not isinstance(sent, dict) or identity is None:
            return
        names = _segments(request.path)
        operation = "POST /" + "/".join(name if _is_word(name) else f"{{{n}}}" for n, name in enumerate(names))
        hashes = tuple(self._hash(name) for name in names)
        for place, text in _values(sent):
            value = self._hash(text)
            alike = self._made.setdefault(value, {})
            self._made.move_to_end(value)
            before = alike.get(operation)
            if before is None:
                if len(alike) < OPERATIONS:
                    alike[operation] = _Made(operation, hashes, f"body.{place}", identity)
            elif before.identity != identity:
                before.identity = None
                self._count(self._against, before.shown)
        while len(self._made) > MADE:
            self._made.popitem(last=False)

    def _shown(self, request: Request, answer: Response) -> None:
        asked = self._asked(request)
        if not asked:
            return
        document = read_body(answer.headers, answer.body).value
        for made, get in asked:
            for found, thing, others in _things(document):
                form = Form(made.operation, get, found)
                mine = made.identity is not None and self._identity(thing) == made.identity
                if not mine or others:
                    self._count(self._against, [form])
                elif form not in made.shown:
                    made.shown.add(form)
                    self._count(self._seen, [form])

    def _asked(self, request: Request) -> list[tuple[_Made, str]]:
        """Return what a GET asked for that was made here, each with the template of a look-up that asks alike."""
        segments = _segments(request.path)
        pairs = parse_qsl(request.query.decode("latin-1"), keep_blank_values=True)
        values = [(self._hash(text), n) for n, text in enumerate([*segments, *(value for _, value in pairs)])]
        found = []
        for value, place in values[: 2 * VALUES]:
            for made in self._made.get(value, {}).values():
                if get := self._template(made, segments, pairs, place):
                    found.append((made, get))
        return found

    def _template(self, made: _Made, segments: list[str], pairs: list[tuple[str, str]], place: int) -> str | None:
        """Return the target with the value at `place` named; None where another part of it is nobody's to know."""
        path = []
        for n, segment in enumerate(segments):
            if n == place:
                path.append(f"{{{made.place}}}")
            elif _is_word(segment):
                path.append(segment)
            elif (known := self._hash(segment)) in made.segments:
                path.append(f"{{path.{made.segments.index(known)}}}")
            else:
                return None
        query = []
        for n, (name, value) in enumerate(pairs, len(segments)):
            if not _NAME.fullmatch(name) or is_secret_name(name):
                return None
            if n != place and not _PLAIN.fullmatch(value):
                return None
            query.append(f"{name}={{{made.place}}}" if n == place else f"{name}={value}")
        return "/" + "/".join(path) + ("?" + "&".join(query) if query else "")

    def _identity(self, thing: Json) -> bytes | None:
        if not isinstance(thing, dict):
            return None
        for name in IDENTITIES:
            value = thing.get(name)
            if isinstance(value, str | int) and not isinstance(value, bool) and value != "":
                return self._hash(str(value))
        return None

    def _hash(self, text: str) -> bytes:
        return hash_of(text, self._key)

    def _count(self, counts: Counter[Form], forms: Iterable[Form]) -> None:
        for form in forms:
            if form in counts or len(counts) < FORMS:
                counts[form] += 1


def proposed(seen: Mapping[Form, int], against: Mapping[Form, int]) -> list[Proposal]:
    """Return what is worth a person's look, the best first: enough finds, and hardly anything against."""
    found = [
        Proposal(form, count, against.get(form, 0))
        for form, count in seen.items()
        if count >= NEEDED and 20 * against.get(form, 0) <= count
    ]
    return sorted(found, key=lambda one: (one.form.operation, -one.seen, one.form.get, one.form.found))


_NAME = re.compile(r"[A-Za-z][\w.-]{0,40}")
_WORD = re.compile(r"[A-Za-z][A-Za-z_.-]{0,30}|v\d{1,2}(?:\.\d)?", re.A)
_PLAIN = re.compile(r"[a-z_]{1,16}|\d{1,3}")


def _is_word(segment: str) -> bool:
    return _WORD.fullmatch(segment) is not None


def _segments(path: bytes) -> list[str]:
    return path.decode("latin-1").strip("/").split("/")


def _values(value: Mapping[str, Json], before: str = "", depth: int = 3) -> list[tuple[str, str]]:
    """Return the values of a request that could name something, by their dotted path."""
    found: list[tuple[str, str]] = []
    for name, held in value.items():
        if len(found) >= VALUES:
            break
        if not _NAME.fullmatch(name) or "." in name or is_secret_name(name):
            continue
        if isinstance(held, dict) and depth > 1:
            found += _values(held, f"{before}{name}.", depth - 1)
        elif isinstance(held, str | int) and not isinstance(held, bool):
            text = str(held)
            if SHORTEST <= len(text) <= 200:
                found.append((before + name, text))
    return found[:VALUES]


def _unwrapped(document: Json) -> Json:
    """Return the object itself where an answer wraps it alone: `{"data": {...}}`."""
    if isinstance(document, dict) and not any(name in document for name in IDENTITIES):
        inner = [held for held in document.values() if isinstance(held, dict)]
        return inner[0] if len(inner) == 1 else document
    return document


def _things(document: Json) -> Iterator[tuple[str, Json, bool]]:
    """Return the objects an answer may tell of: where, what, and whether others stand beside it."""
    if isinstance(document, list):
        if document:
            yield "/0", document[0], len(document) > 1
    elif isinstance(document, dict):
        if any(name in document for name in IDENTITIES):
            yield "", document, False
            return
        for name, held in document.items():
            if not _NAME.fullmatch(name):
                continue
            if isinstance(held, list) and held:
                yield f"/{name}/0", held[0], len(held) > 1
            elif isinstance(held, dict) and any(one in held for one in IDENTITIES):
                yield f"/{name}", held, False

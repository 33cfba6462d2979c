"""An upstream's evidence: a trie of path segments with what was asked and answered at each place.

`fold()` adds one exchange, `merge()` another evidence; both are free of order, like the `discovery.evidence` they
stand on. No template is decided here: segments that are surely values (numbers, UUIDs, random ids) share
one place per kind, words keep their own, and `discovery.templates` decides which of those are values too, anew
whenever it is asked. So nothing learned is ever lost to a template that was drawn too early.

What bounds it: `MAX_PLACES` per upstream (beyond it, the words of the smallest digests stay and the others share
a place), and per body what `discovery.evidence` promises.

For drift: `Exchanges` of one method at a place holds `query`, `bodies[kind]` and `answers[status].bodies[kind]`,
each a `Node`. `refused[status]` counts requests that an answer refused; they teach nothing of the request
contract, and what they had looked like is in `refused_query` and `refused_bodies`. `entities` keeps, for the 12
entities of the smallest digests, keyed hashes of the values of their answers, packed: see `hashes_of`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any
from urllib.parse import unquote_to_bytes

from discovery.body import TREES, Kind, content_type, form_tree, read_body
from discovery.evidence import Node, State, digest
from discovery.exchange import Exchange, Headers, Json, Request, Response
from discovery.lexical import is_identifying, is_version, segment_kind, split_segment
from discovery.redaction import is_secret_name

MAX_PLACES = 4000
"""Places of one upstream: the largest APIs have some 1,000 operations; words that are ids take the rest."""

MAX_SEGMENTS = 24
"""Segments of a path that are told apart; what lies deeper counts at the last one."""

MAX_MEDIA = 16
"""Media types, header names, statuses kept per exchange kind; an API has a handful of each."""

ENTITIES = 12
"""Entities per operation whose values are remembered as hashes."""

_STANDARD_HEADERS = frozenset(
    b"accept accept-charset accept-encoding accept-language access-control-request-headers age allow alt-svc "
    b"access-control-request-method authorization cache-control connection content-disposition "
    b"content-encoding content-language content-length content-md5 content-type cookie date dnt etag expect "
    b"expires from host idempotency-key if-match if-modified-since if-none-match if-range if-unmodified-since "
    b"keep-alive last-modified max-forwards origin pragma prefer proxy-authorization proxy-connection range "
    b"referer server set-cookie te traceparent tracestate trailer transfer-encoding upgrade "
    b"upgrade-insecure-requests user-agent vary via warning workflow-id workflow-type workflow-step "
    b"workflow-run workflow-progress x-forwarded-for x-forwarded-host x-forwarded-proto x-real-ip x-request-id "
    b"strict-transport-security x-content-type-options x-frame-options x-xss-protection "
    b"content-security-policy referrer-policy x-powered-by report-to nel cf-ray cf-cache-status server-timing "
    b"expect-ct p3p status permissions-policy priority x-content-security-policy x-dns-prefetch-control "
    b"x-download-options x-permitted-cross-domain-policies x-webkit-csp x-runtime x-served-by x-cache "
    b"x-cache-hits x-timer x-varnish x-aspnet-version".split()
)
"""Headers every HTTP message may bear: no parameters of an operation."""

_STANDARD_PREFIXES = (b"sec-", b"access-control-", b":", b"x-amz-cf-", b"cf-")


@dataclass(slots=True)
class Answers:
    """Answers of one status: how many, when, in which media types, with which headers, and their trees."""

    count: int = 0
    first: float = math.inf
    last: float = -math.inf
    media: dict[str, int] = field(default_factory=dict)
    headers: dict[str, int] = field(default_factory=dict)
    bodies: dict[Kind, Node] = field(default_factory=dict)

    def merge(self, other: Answers) -> None:
        self.count += other.count
        self.first, self.last = min(self.first, other.first), max(self.last, other.last)
        _add_all(self.media, other.media)
        _add_all(self.headers, other.headers)
        _merge_nodes(self.bodies, other.bodies)

    def state(self) -> State:
        times = [] if self.last < 0 else [int(self.first), int(self.last)]
        return {
            "n": self.count,
            "at": times,
            "media": dict(sorted(self.media.items())),
            "headers": dict(sorted(self.headers.items())),
            "bodies": {kind.value: node.state() for kind, node in sorted(self.bodies.items())},
        }

    @classmethod
    def load(cls, state: State) -> Answers:
        first, last = state["at"] or (math.inf, -math.inf)
        bodies = {Kind(kind): Node().load(inner) for kind, inner in state["bodies"].items()}
        return cls(state["n"], first, last, dict(state["media"]), dict(state["headers"]), bodies)


@dataclass(slots=True)
class Exchanges:
    """What one method at one place was asked and answered. Of requests, only accepted ones teach the contract."""

    accepted: int = 0
    refused: dict[int, int] = field(default_factory=dict)
    query: Node = field(default_factory=Node)
    headers: dict[str, int] = field(default_factory=dict)
    cookies: dict[str, int] = field(default_factory=dict)
    media: dict[str, int] = field(default_factory=dict)
    bodies: dict[Kind, Node] = field(default_factory=dict)
    refused_query: Node = field(default_factory=Node)
    refused_bodies: dict[Kind, Node] = field(default_factory=dict)
    answers: dict[int, Answers] = field(default_factory=dict)
    entities: dict[bytes, bytes] = field(default_factory=dict)

    @property
    def count(self) -> int:
        return sum(answers.count for answers in self.answers.values())

    def merge(self, other: Exchanges) -> None:
        self.accepted += other.accepted
        for status, count in other.refused.items():
            self.refused[status] = self.refused.get(status, 0) + count
        self.query.merge(other.query)
        _add_all(self.headers, other.headers)
        _add_all(self.cookies, other.cookies)
        _add_all(self.media, other.media)
        _merge_nodes(self.bodies, other.bodies)
        self.refused_query.merge(other.refused_query)
        _merge_nodes(self.refused_bodies, other.refused_bodies)
        for status, answers in other.answers.items():
            self.answers.setdefault(status, Answers()).merge(answers)
        for entity, packed in other.entities.items():
            self.remember(entity, packed)

    def remember(self, entity: bytes, packed: bytes) -> None:
        """Keep an entity's hashed values; of two tellings the greater one, so that order does not matter."""
        if entity in self.entities:
            self.entities[entity] = max(self.entities[entity], packed)
        elif len(self.entities) < ENTITIES:
            self.entities[entity] = packed
        elif entity < (greatest := max(self.entities)):
            del self.entities[greatest]
            self.entities[entity] = packed

    def state(self) -> State:
        return {
            "n": self.accepted,
            "refused": {str(status): count for status, count in sorted(self.refused.items())},
            "query": self.query.state(),
            "headers": dict(sorted(self.headers.items())),
            "cookies": dict(sorted(self.cookies.items())),
            "media": dict(sorted(self.media.items())),
            "bodies": {kind.value: node.state() for kind, node in sorted(self.bodies.items())},
            "refused_query": self.refused_query.state(),
            "refused_bodies": {kind.value: node.state() for kind, node in sorted(self.refused_bodies.items())},
            "answers": {str(status): answers.state() for status, answers in sorted(self.answers.items())},
            "entities": {key.hex(): packed.hex() for key, packed in sorted(self.entities.items())},
        }

    @classmethod
    def load(cls, state: State) -> Exchanges:
        return cls(
            state["n"],
            {int(status): count for status, count in state["refused"].items()},
            Node().load(state["query"]),
            dict(state["headers"]),
            dict(state["cookies"]),
            dict(state["media"]),
            {Kind(kind): Node().load(inner) for kind, inner in state["bodies"].items()},
            Node().load(state["refused_query"]),
            {Kind(kind): Node().load(inner) for kind, inner in state["refused_bodies"].items()},
            {int(status): Answers.load(inner) for status, inner in state["answers"].items()},
            {bytes.fromhex(key): bytes.fromhex(packed) for key, packed in state["entities"].items()},
        )


@dataclass(slots=True)
class Place:
    """One segment below another. `echoes`: names of answer fields that repeated the segment -> how often.

    `spread`: bits of the values it stood below, one of 64 for each: how many, roughly.
    """

    children: dict[str, Place] = field(default_factory=dict)
    methods: dict[str, Exchanges] = field(default_factory=dict)
    echoes: dict[str, int] = field(default_factory=dict)
    spread: int = 0

    def merge(self, other: Place) -> None:
        for segment, child in other.children.items():
            self.children.setdefault(segment, Place()).merge(child)
        for method, exchanges in other.methods.items():
            self.methods.setdefault(method, Exchanges()).merge(exchanges)
        _add_all(self.echoes, other.echoes)
        self.spread |= other.spread

    def walk(self) -> Iterator[Place]:
        yield self
        for child in self.children.values():
            yield from child.walk()

    def state(self) -> State:
        state: State = {}
        if self.methods:
            state["m"] = {method: exchanges.state() for method, exchanges in sorted(self.methods.items())}
        if self.echoes:
            state["e"] = dict(sorted(self.echoes.items()))
        if self.spread:
            state["s"] = self.spread
        if self.children:
            state["c"] = {segment: child.state() for segment, child in sorted(self.children.items())}
        return state

    @classmethod
    def load(cls, state: State) -> Place:
        return cls(
            {segment: cls.load(inner) for segment, inner in state.get("c", {}).items()},
            {method: Exchanges.load(inner) for method, inner in state.get("m", {}).items()},
            dict(state.get("e", {})),
            state.get("s", 0),
        )


class Evidence:
    """All that was seen of one upstream. `key` is the install's secret that values are hashed with."""

    def __init__(self, key: bytes = b"") -> None:
        self.key = key
        self.root = Place()
        self.auth: dict[str, int] = {}
        self.skipped: dict[str, int] = {}
        self.limit: bytes | None = None
        self.places = 1

    @property
    def count(self) -> int:
        return sum(exchanges.count for place in self.root.walk() for exchanges in place.methods.values())

    def fold(self, exchange: Exchange, accepted: bool | None = None, prefix: str = "") -> str | None:
        """Learn from one exchange; return why not, when there is nothing to learn.

        `accepted` says whether the upstream took the request; by default its status does. `prefix` is the base
        URL's path, which stands before every template and is not part of it.
        """
        answer = exchange.answer
        if not isinstance(answer, Response):
            return self._skip("no answer")
        request = exchange.request
        if not 100 <= answer.status <= 599 or not request.method.isalpha() or len(request.method) > 10:
            return self._skip("not HTTP")
        path = request.path
        if prefix and path.startswith(prefix.encode()):
            path = path[len(prefix.encode()) :]
        names = segments_of(path)
        place = self._place(names, path, answer)
        at = exchange.at if exchange.at is not None else math.nan
        method = request.method.upper()
        exchanges = place.methods.get(method)
        if exchanges is None:
            exchanges = place.methods[method] = Exchanges()
        taken = answer.status < 400 if accepted is None else accepted
        body = read_body(answer.headers, answer.body)
        self._requested(exchanges, request, answer.status, taken, at)
        self._answered(exchanges, answer, body.kind, body.value, at)
        if taken and isinstance(body.value, dict):
            entity = entity_of(self.key, path, body.value)
            if len(exchanges.entities) < ENTITIES or entity <= max(exchanges.entities):
                exchanges.remember(entity, hashes_of(self.key, body.value))
        return None

    def merge(self, other: Evidence) -> None:
        self.root.merge(other.root)
        _add_all(self.auth, other.auth, 64)
        _add_all(self.skipped, other.skipped, 64)
        if other.limit is not None:
            self.limit = other.limit if self.limit is None else min(self.limit, other.limit)
        if self.limit is not None:
            _fold_words(self.root, self.limit)
        self.places = sum(1 for _ in self.root.walk())
        self._trim()

    def state(self) -> State:
        self._trim()
        return {
            "version": 1,
            "root": self.root.state(),
            "auth": dict(sorted(self.auth.items())),
            "skipped": dict(sorted(self.skipped.items())),
            "limit": self.limit.hex() if self.limit is not None else None,
        }

    @classmethod
    def load(cls, state: State, key: bytes = b"") -> Evidence:
        evidence = cls(key)
        evidence.root = Place.load(state["root"])
        evidence.auth = dict(state["auth"])
        evidence.skipped = dict(state["skipped"])
        evidence.limit = bytes.fromhex(state["limit"]) if state["limit"] else None
        evidence.places = sum(1 for _ in evidence.root.walk())
        return evidence

    def _skip(self, why: str) -> str:
        self.skipped[why] = self.skipped.get(why, 0) + 1
        return why

    def _place(self, names: tuple[str, ...], path: bytes, answer: Response) -> Place:
        if self.places > 2 * MAX_PLACES:
            self._trim()
        place = self.root
        bit = 0
        for index, name in enumerate(names):
            word = name[0] != "{"
            crowded = word and self.limit is not None and digest(name) >= self.limit
            known = OVERFLOW if crowded else name
            child = place.children.get(known)
            if child is None:
                child = place.children[known] = Place()
                self.places += 1
            place = child
            place.spread |= bit
            bit = 0
            if not word:
                bit = 1 << digest(path.strip(b"/").split(b"/")[index].decode("latin-1"))[0] % 64
            elif not crowded and 200 <= answer.status < 300 and (key := echo_of(name, answer.body)):
                place.echoes[key] = place.echoes.get(key, 0) + 1
        return place

    def _trim(self) -> None:
        """Above the bound, let words of the greater digests share a place.

        The share of words that keep their own is halved until the rest fits: so it depends on what was seen alone.
        """
        while self.places > MAX_PLACES:
            least = int.from_bytes(self.limit, "big") if self.limit is not None else 1 << 64
            if least == 1:
                break
            self.limit = (least >> 1).to_bytes(8, "big")
            _fold_words(self.root, self.limit)
            self.places = sum(1 for _ in self.root.walk())

    def _requested(self, exchanges: Exchanges, request: Request, status: int, taken: bool, at: float) -> None:
        query = request.query
        if not taken:
            exchanges.refused[status] = exchanges.refused.get(status, 0) + 1
            if query:
                exchanges.refused_query.fold(form_tree(query.decode("utf-8", "replace")), at)
            if request.body:
                body = read_body(request.headers, request.body)
                if body.kind in TREES:
                    exchanges.refused_bodies.setdefault(body.kind, Node()).fold(body.value, at)
            return
        exchanges.accepted += 1
        if query:
            exchanges.query.fold(form_tree(query.decode("utf-8", "replace")), at)
        for name in parameters_of(tuple(name for name, _ in request.headers)):
            if is_secret_name(name):
                _add(self.auth, f"header:{name}", 64)
            else:
                _add(exchanges.headers, name)
        for key, value in request.headers:
            if len(key) in (6, 13) and key.lower() in (b"cookie", b"authorization"):
                self._credentials(exchanges, key.lower(), value)
        if request.body:
            body = read_body(request.headers, request.body)
            _add(exchanges.media, media_of(request.headers, body.kind))
            if body.kind in TREES:
                exchanges.bodies.setdefault(body.kind, Node()).fold(body.value, at)

    def _credentials(self, exchanges: Exchanges, key: bytes, value: bytes) -> None:
        if key == b"cookie":
            for crumb in value.split(b";")[:32]:
                _add(exchanges.cookies, crumb.partition(b"=")[0].strip().decode("latin-1"))
        elif scheme := re.match(rb"\s*([A-Za-z][\w-]{1,30})\s+\S", value):
            _add(self.auth, "http:" + scheme[1].decode().lower(), 64)
        else:
            _add(self.auth, "header:Authorization", 64)

    def _answered(self, exchanges: Exchanges, answer: Response, kind: Kind, value: Json, at: float) -> None:
        answers = exchanges.answers.get(answer.status)
        if answers is None:
            answers = exchanges.answers[answer.status] = Answers()
        answers.count += 1
        if not math.isnan(at):
            answers.first, answers.last = min(answers.first, at), max(answers.last, at)
        for name in parameters_of(tuple(name for name, _ in answer.headers)):
            _add(answers.headers, name)
        if kind is Kind.EMPTY:
            return
        _add(answers.media, media_of(answer.headers, kind))
        if kind in TREES:
            node = answers.bodies.get(kind)
            if node is None:
                node = answers.bodies[kind] = Node()
            node.fold(value, at)


OVERFLOW = "{word}"
"""The place shared by words beyond the bound."""


def _fold_words(place: Place, limit: bytes) -> None:
    for name in [name for name in place.children if name[0] != "{" and digest(name) >= limit]:
        crowded = place.children.pop(name)
        crowded.echoes.clear()  # they are about that word alone
        place.children.setdefault(OVERFLOW, Place()).merge(crowded)
    for child in place.children.values():
        _fold_words(child, limit)


def _add(counts: dict[str, int], name: str, bound: int = MAX_MEDIA * 2) -> None:
    """Count `name`; of too many names, those that sort first stay."""
    if name in counts:
        counts[name] += 1
        return
    counts[name] = 1
    if len(counts) > bound:
        del counts[max(counts)]


def _add_all(counts: dict[str, int], other: Mapping[str, int], bound: int = MAX_MEDIA * 2) -> None:
    for name, count in other.items():
        counts[name] = counts.get(name, 0) + count
    while len(counts) > bound:
        del counts[max(counts)]


def _merge_nodes(nodes: dict[Kind, Node], other: Mapping[Kind, Node]) -> None:
    for kind, node in other.items():
        nodes.setdefault(kind, Node()).merge(node)


@lru_cache(maxsize=16384)
def segments_of(path: bytes) -> tuple[str, ...]:
    """Return a path's segments as the trie knows them: words as they are, sure values as `{kind}`.

    A first segment stays as it is unless it is long: `/2/users` names a version. A custom verb or an
    extension stays with its value: `{opaque}:batchGet`, `{int}.json`.
    """
    names = []
    for index, raw in enumerate(path.strip(b"/").split(b"/")[:MAX_SEGMENTS]):
        text = unquote_to_bytes(raw).decode("utf-8", "replace")
        stem, suffix = split_segment(text)
        kind = segment_kind(stem)
        if index == 0 and kind in ("int", "date") and is_version(text):
            kind = ""
        if len(stem) > 100:
            kind = kind or "text"
        names.append(("{" + kind + "}" if kind else stem) + suffix if text else "{text}")
    return tuple(names) if names != ["{text}"] else ()


@lru_cache(maxsize=8192)
def parameters_of(names: tuple[bytes, ...]) -> tuple[str, ...]:
    """Return those of a message's header names that an operation may have given a meaning."""
    lower = {name.lower() for name in names}
    return tuple(
        sorted(
            name.decode("latin-1")
            for name in lower
            if name not in _STANDARD_HEADERS and not name.startswith(_STANDARD_PREFIXES) and len(name) < 60
        )
    )


def media_of(headers: Headers, kind: Kind) -> str:
    """Return the media type of a body: what the header says when that fits, else what the body is."""
    said = content_type(headers).decode("latin-1")
    fits = {
        Kind.JSON: "json" in said,
        Kind.XML: "xml" in said,
        Kind.FORM: "form-urlencoded" in said,
        Kind.MULTIPART: said.startswith("multipart/"),
    }
    if said and fits.get(kind, True) and re.fullmatch(r"[\w.+-]+/[\w.+-]+", said):
        return said
    return _MEDIA.get(kind, "application/octet-stream")


_MEDIA = {
    Kind.JSON: "application/json",
    Kind.LINES: "application/x-ndjson",
    Kind.FORM: "application/x-www-form-urlencoded",
    Kind.MULTIPART: "multipart/form-data",
    Kind.XML: "application/xml",
    Kind.HTML: "text/html",
    Kind.TEXT: "text/plain",
    Kind.SSE: "text/event-stream",
}

_KEY_BEFORE = re.compile(rb'"([\w.$@-]{1,40})"\s*:\s*$')


def echo_of(name: str, body: bytes) -> str:
    """Return the name of a field in `body` whose value is the segment `name`, or `""`.

    A search in the bytes, because it is made for every word of every path: cheap where nothing is found.
    """
    needle = b'"' + name.encode("utf-8", "replace") + b'"'
    at = body.find(needle)
    best = ""
    for _ in range(8):
        if at < 0:
            break
        if found := _KEY_BEFORE.search(body, max(0, at - 60), at):
            key = found[1].decode()
            if is_identifying(key):
                return key
            best = best or key
        at = body.find(needle, at + 1)
    return best


def entity_of(key: bytes, path: bytes, value: Mapping[str, Json]) -> bytes:
    """Return the keyed digest of what an answer is about: its own id, or else the path it came from."""
    told = value.get("id") or value.get("uuid") or value.get("key")
    what = str(told) if isinstance(told, (str, int)) and told else path.decode("latin-1")
    return blake2b(what.encode("utf-8", "surrogatepass"), key=key[:64], digest_size=8).digest()


def hashes_of(key: bytes, value: Json, limit: int = 64) -> bytes:
    """Return keyed hashes of an answer's scalar values, packed: 4 bytes of pointer, 4 of value, sorted.

    Values that are no evidence of identity (booleans, null, empty or single characters) are left out.
    """
    found: list[bytes] = []
    _hash(key[:64], "", value, found, limit)
    return b"".join(sorted(found))


def _hash(key: bytes, pointer: str, value: Any, found: list[bytes], limit: int) -> None:
    if len(found) >= limit:
        return
    if isinstance(value, dict):
        for name, inner in value.items():
            _hash(key, f"{pointer}/{name}", inner, found, limit)
    elif isinstance(value, list):
        for inner in value[:1]:
            _hash(key, f"{pointer}/*", inner, found, limit)
    elif isinstance(value, (str, int, float)) and not isinstance(value, bool) and len(str(value)) > 1:
        if is_secret_name(pointer.rpartition("/")[2]):
            return
        found.append(hash_of(pointer, b"")[:4] + hash_of(str(value), key)[:4])


def hash_of(text: str, key: bytes) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), key=key, digest_size=8).digest()

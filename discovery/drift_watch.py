"""What is remembered of an operation's traffic so that a change can be told: the latest answers, as sketches.

A `Stream` belongs to one method at one place of paths (`discovery.traffic.segments_of`): templates are drawn when
drift is asked for, and streams of one template are then read as one. A `Watch` holds an upstream's streams.
Bounds: `RECENT` and `SAMPLE` looks a stream, `MAX_STREAMS` streams; shapes are kept once. A change is told
for as long as enough looks from before it are among these: for some ten times the traffic that came before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from discovery.announced import Said, announced, said_again
from discovery.body import TREES, form_tree, read_body
from discovery.drift_refusals import Refusal, refusals_in
from discovery.drift_sketch import NOTHING, Row, Sketch, hash_of, mark_of, sketch
from discovery.evidence import State
from discovery.exchange import Exchange, Response
from discovery.traffic import segments_of

VERSION = 2
"""Of what is stored."""

RECENT = 100
"""Latest looks kept of a stream: a change wants some 10 on either side; the rest is for rare fields."""

SAMPLE = 60
"""Earlier looks kept of a stream, drawn evenly from all that there were: what was usual before."""

MAX_STREAMS = 4000
"""Streams of one upstream: as many as `discovery.traffic` keeps places."""

MAX_WORDS = 32
"""Short values kept of one place; a place with more of them is no closed set."""

GONE = frozenset({404, 405, 410, 501})
"""Statuses that an operation no longer there answers with."""

REFUSED = frozenset({400, 409, 422})


Words: TypeAlias = "dict[str, dict[int, str | float] | None]"
"""Short values by place and hash; None where there are too many."""


class Seen(NamedTuple):
    """One exchange: `entity` is the hash of its path where that holds values, else 0; `body` and `query` are what
    was sent, values as `drift_sketch.mark_of` keeps them; `refusals` is what was said to be wrong with it."""

    seq: int
    at: float
    status: int
    entity: int
    answer: Sketch
    body: Sketch
    query: Sketch
    refusals: tuple[Refusal, ...] = ()


@dataclass(slots=True)
class Stream:
    """The latest exchanges of one method at one place, in order of their coming; `said` is what it announced."""

    seen: list[Seen] = field(default_factory=list)
    words: dict[str, dict[int, str | float] | None] = field(default_factory=dict)
    said: dict[str, Said] = field(default_factory=dict)

    def word(self, pointer: str, told: int, value: str | float) -> None:
        words = self.words.setdefault(pointer, {})
        if words is not None and told not in words:
            words[told] = value
            if len(words) > MAX_WORDS:
                self.words[pointer] = None

    def add(self, seen: Seen) -> None:
        self.seen.append(seen)
        if len(self.seen) >= 2 * RECENT + SAMPLE:
            self.trim()

    def trim(self) -> None:
        """Keep the latest looks, and of the others those of the smallest lots: an even sample, always the same."""
        if len(self.seen) > RECENT + SAMPLE:
            kept = sorted(self.seen[:-RECENT], key=lambda one: lot_of(one.seq))[:SAMPLE]
            self.seen = sorted(kept, key=lambda one: one.seq) + self.seen[-RECENT:]

    def state(self) -> State:
        self.trim()
        shapes: dict[tuple[Row, ...], int] = {}

        def number(rows: tuple[Row, ...]) -> int:
            return shapes.setdefault(rows, len(shapes))

        seen = [
            [
                one.seq,
                one.at,
                one.status,
                one.entity,
                number(one.answer.rows),
                one.answer.hashes,
                number(one.body.rows),
                one.body.hashes,
                number(one.query.rows),
                one.query.hashes,
                [list(told) for told in one.refusals],
            ]
            for one in self.seen
        ]
        words = {pointer: told and sorted(told.items()) for pointer, told in self.words.items()}
        return {
            "seen": seen,
            "shapes": [[list(row) for row in rows] for rows in shapes],
            "words": words,
            "said": {kind: list(one) for kind, one in self.said.items()},
        }

    @classmethod
    def load(cls, state: State) -> Stream:
        shapes = [tuple(Row(*row) for row in rows) for rows in state["shapes"]]
        seen = [
            Seen(
                seq,
                at,
                status,
                entity,
                Sketch(shapes[shape], tuple(map(tuple, hashes))),
                Sketch(shapes[body], tuple(map(tuple, sent))),
                Sketch(shapes[query], tuple(map(tuple, asked))),
                tuple(Refusal(where, at, reason, tuple(allowed)) for where, at, reason, allowed in refusals),
            )
            for seq, at, status, entity, shape, hashes, body, sent, query, asked, refusals in state["seen"]
        ]
        words = {pointer: None if told is None else dict(told) for pointer, told in state["words"].items()}
        return cls(seen, words, {kind: Said(*told) for kind, told in state["said"].items()})


def lot_of(seq: int) -> int:
    """Return a number drawn for a look, always the same (multiplicative hashing)."""
    return seq * 2654435761 & 0xFFFFFFFF


@dataclass(slots=True)
class Watch:
    """An upstream's streams by method and place. `key` is the install's secret that values are hashed with."""

    key: bytes = b""
    seq: int = 0
    streams: dict[tuple[str, tuple[str, ...]], Stream] = field(default_factory=dict)

    def fold(self, exchange: Exchange, prefix: str = "") -> tuple[str, tuple[str, ...]] | None:
        """Remember one exchange, the latest so far; return the stream that it went to, if any."""
        answer, request = exchange.answer, exchange.request
        if not isinstance(answer, Response):
            return None
        path = request.path
        if prefix and path.startswith(prefix.encode()):
            path = path[len(prefix.encode()) :]
        place = (request.method.upper(), segments_of(path))
        stream = self.streams.get(place)
        if stream is None:
            if len(self.streams) >= MAX_STREAMS:
                return None
            stream = self.streams[place] = Stream()
        self.seq += 1
        entity = hash_of(path.decode("latin-1"), self.key) if any(name[0] == "{" for name in place[1]) else 0
        told = NOTHING
        refusals: tuple[Refusal, ...] = ()
        body = read_body(answer.headers, answer.body)
        if body.kind in TREES and answer.status < 300:
            told = sketch(body.value, self.key, stream.word)
        if answer.status in REFUSED:
            refusals = refusals_in(request, body.value)
        asked = read_body(request.headers, request.body) if request.body else None
        sent = (
            sketch(asked.value, self.key, mark=mark_of) if asked is not None and asked.kind in TREES else NOTHING
        )
        tree = form_tree(request.query.decode("utf-8", "replace")) if request.query else {}
        query = sketch(tree, self.key, mark=mark_of)
        at = exchange.at if exchange.at is not None else -1.0
        for kind, value in announced(answer.headers):
            stream.said[kind] = said_again(stream.said.get(kind), value, self.seq, at)
        stream.add(Seen(self.seq, at, answer.status, entity, told, sent, query, refusals))
        return place

    def merge(self, later: Watch) -> None:
        """Add what another one saw, all of it after this one. Replicas that saw at once are as good as in turn."""
        for place, stream in later.streams.items():
            mine = self.streams.get(place)
            if mine is None:
                if len(self.streams) >= MAX_STREAMS:
                    continue
                mine = self.streams[place] = Stream()
            for seen in stream.seen:
                mine.add(seen._replace(seq=seen.seq + self.seq))
            for pointer, words in stream.words.items():
                if words is None:
                    mine.words[pointer] = None
                for told, value in (words or {}).items():
                    mine.word(pointer, told, value)
            for kind, said in stream.said.items():
                mine.said[kind] = _joined(mine.said.get(kind), said, self.seq)
        self.seq += later.seq

    def state(self) -> State:
        """Return all of it as plain JSON."""
        return {
            "version": VERSION,
            "seq": self.seq,
            "streams": [[method, list(names), one.state()] for (method, names), one in self.streams.items()],
        }

    @classmethod
    def load(cls, state: State, key: bytes = b"") -> Watch:
        """Return the watch whose `state` this is; of another version's it remembers nothing but the count."""
        if state["version"] != VERSION:
            return cls(key, state["seq"])
        streams = {(method, tuple(names)): Stream.load(inner) for method, names, inner in state["streams"]}
        return cls(key, state["seq"], streams)


def _joined(earlier: Said | None, later: Said, offset: int) -> Said:
    later = later._replace(first=later.first + offset, last=later.last + offset)
    if earlier is None:
        return later
    return later._replace(first=earlier.first, first_at=earlier.first_at, times=earlier.times + later.times)

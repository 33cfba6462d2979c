"""Finishing a batch: the request for what is still to be sent, and one answer out of two.

`unfinished()` takes from the request what is done, refused or in doubt, byte for byte where the format allows;
`merge()` puts the later verdicts where the earlier ones stood, so that the caller sees one answer, in the order
of its request. What cannot be taken apart or put together again is left as it was answered: None, or the first.
"""

from __future__ import annotations

import re
from base64 import b64encode
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from hashlib import md5, sha256
from typing import TYPE_CHECKING
from xml.parsers import expat

import orjson

from discovery.body import Kind, read_body
from discovery.exchange import Headers, Json, Request, Response
from discovery.lexical import plain
from discovery.pointer import Path, place_of, pointer_of
from discovery.slots import value_at
from policies.batch import Batch, Item, bulk_lines, read_batch

if TYPE_CHECKING:
    from policies.outcome import Reading

__all__ = ["Batch", "Item", "merge", "unfinished"]


def unfinished(request: Request, reading: Reading) -> Request | None:
    """Return `request` with only the items that failed and may be sent again, or None where there are none.

    None too where they cannot be taken apart (a form, a multipart). The caller's `Idempotency-Key` is taken out:
    a key belongs to one body.
    """
    wanted = {item.place for item in reading.items if item.retry and item.ok is False}
    settled = [place_of(item.place) for item in reading.items if item.place and item.place not in wanted]
    if not wanted:
        return None
    body = _without(request, settled)
    return None if body is None else replace(request, headers=_headers_for(request.headers, body), body=body)


def merge(
    reading: Reading, first: Response, sent: Request, later: Response, second: Reading
) -> tuple[Response, tuple[Item, ...]]:
    """Return the answer to the whole batch and its items, after `sent` (see `unfinished`) was answered `later`.

    `reading` and `second` are what `first` and `later` were read as. Where `later` says nothing of the items
    (an outage), the first answer stands.
    """
    again = [item for item in reading.items if item.retry and item.ok is False]
    came = _came_of(again, sent, later, second)
    if came is None:
        return first, reading.items
    told = {item.place: new for item, new in zip(again, came, strict=True)}
    items = tuple(
        replace(told[item.place], index=item.index, key=item.key, place=item.place, said=item.said)
        if item.place in told
        else item
        for item in reading.items
    )
    pairs = [(item, told[item.place]) for item in again]
    body = _merged(first, later, reading.items, items, pairs)
    return (first if body is None else _with_body(first, body)), items


def _came_of(again: list[Item], sent: Request, later: Response, second: Reading) -> list[Item] | None:
    """What became of each item that was sent again, in their order."""
    parts = [item for item in second.items if item.index is not None]
    if len(parts) == len(again):
        return parts
    if second.outcome.value != "success":
        return None
    answer = read_body(later.headers, later.body)
    batch = read_batch(sent, answer, anyway=True)
    if batch is not None and batch.certain and len(batch.items) == len(again):
        return list(batch.items)
    lists = {place_of(item.said)[:-1] for item in again if item.said}
    alike = value_at(answer.value, next(iter(lists))) if len(lists) == 1 else None
    positions = isinstance(alike, list) and len(alike) == len(again)
    return [
        replace(
            item, ok=True, retry=False, why="", said=pointer_of((*next(iter(lists)), i)) if positions else None
        )
        for i, item in enumerate(again)
    ]


# The request


def _without(request: Request, settled: list[Path]) -> bytes | None:
    """Return the body without the elements at `settled`."""
    body = read_body(request.headers, request.body)
    if body.kind is Kind.JSON:
        tree = body.value
        _remove(tree, settled)
        return orjson.dumps(tree)
    if body.kind is Kind.LINES:
        lines = [line for line in request.body.split(b"\n") if line.strip()]
        gone = {place[0] for place in settled}
        starts = [int(place[0]) for place, _ in bulk_lines(body.value)]
        owners = [
            start
            for start, after in zip(starts, [*starts[1:], len(lines)], strict=True)
            for _ in range(start, after)
        ]
        kept = [line for line, owner in zip(lines, owners, strict=True) if owner not in gone]
        return b"\n".join(kept) + b"\n"
    if body.kind is Kind.XML:
        return _cut(request.body, dict.fromkeys(settled, b""))
    return None


def _remove(tree: Json, places: Iterable[Path]) -> None:
    """Remove elements of lists, last first; a list that becomes empty inside a mapping goes with them."""
    for place in sorted(places, key=lambda place: [str(part).zfill(9) for part in place], reverse=True):
        holder = value_at(tree, place[:-1])
        if isinstance(holder, list) and isinstance(place[-1], int):
            del holder[place[-1]]
            around = value_at(tree, place[:-2]) if len(place) > 2 else None
            if not holder and isinstance(around, dict) and len(around) > 1:
                del around[str(place[-2])]


_OF_ONE_BODY = frozenset({b"content-length", b"content-encoding", b"digest", b"content-digest", b"repr-digest"})
_KEYS = frozenset({b"idempotency-key", b"x-idempotency-key"})


def _headers_for(headers: Headers, body: bytes) -> Headers:
    """Headers fit for another body: its length, and what is computed of it, as far as no secret goes in."""
    kept: list[tuple[bytes, bytes]] = []
    for name, value in headers:
        match name.lower():
            case low if low in _OF_ONE_BODY or low in _KEYS:
                continue
            case b"content-md5":
                kept.append((name, b64encode(md5(body, usedforsecurity=False).digest())))
            case b"x-amz-content-sha256" if re.fullmatch(rb"[0-9a-f]{64}", value):
                kept.append((name, sha256(body).hexdigest().encode()))
            case _:
                kept.append((name, value))
    return (*kept, (b"Content-Length", str(len(body)).encode()))


# The answer


def _merged(
    first: Response,
    later: Response,
    before: tuple[Item, ...],
    after: tuple[Item, ...],
    pairs: list[tuple[Item, Item]],
) -> bytes | None:
    """Return the body of `first` with the later verdicts in place of the earlier ones."""
    one, two = read_body(first.headers, first.body), read_body(later.headers, later.body)
    if one.kind is Kind.JSON:
        other = two.value if two.kind is Kind.JSON else None
        _replace(one.value, other, pairs, {item.said: item.index or 0 for item in after if item.said})
        _recount(one.value, before, after)
        return orjson.dumps(one.value)
    if one.kind is Kind.XML and two.kind is Kind.XML:
        spans = _spans(later.body)
        news = {
            place_of(old.said): later.body[slice(*spans[_numbered(place_of(new.said))])] if new.said else b""
            for old, new in pairs
            if old.said
        }
        return _cut(first.body, news)
    return None


def _replace(tree: Json, other: Json, pairs: list[tuple[Item, Item]], order: dict[str, int]) -> None:
    """Put each later verdict where the earlier one stood, or into its own list; take out what is done."""
    gone: list[Path] = []
    moved: dict[Path, list[tuple[int, Json]]] = {}
    for old, new in pairs:
        if old.said is None:
            continue
        there = place_of(old.said)
        found = place_of(new.said) if new.said else None
        if found is None:
            gone.append(there)
        elif found[:-1] == there[:-1]:
            holder = value_at(tree, there[:-1])
            if isinstance(holder, list):
                holder[int(there[-1])] = value_at(other, found)
        else:
            gone.append(there)
            moved.setdefault(found[:-1], []).append((old.index or 0, value_at(other, found)))
    for place, arrivals in moved.items():
        holder = value_at(tree, place)
        around = value_at(tree, place[:-1])
        if holder is None and isinstance(around, dict):
            around[str(place[-1])] = [value for _, value in sorted(arrivals, key=lambda one: one[0])]
        elif isinstance(holder, list):
            stood = [(order.get(pointer_of((*place, i)), i), value) for i, value in enumerate(holder)]
            holder[:] = [value for _, value in sorted([*stood, *arrivals], key=lambda one: one[0])]
    for place in sorted(gone, key=lambda place: [str(part).zfill(9) for part in place], reverse=True):
        holder = value_at(tree, place[:-1])
        if isinstance(holder, list) and isinstance(place[-1], int):
            del holder[place[-1]]
            around = value_at(tree, place[:-2]) if len(place) > 2 else None
            if not holder and isinstance(around, dict):  # {"Unprocessed": {"table": []}}
                del around[str(place[-2])]


_FAILED_COUNT = re.compile(r"fail|error|reject|unprocess")
_DONE_COUNT = re.compile(r"succe|success|processed|done|created|updated|ok")


_FLAGS = ("error", "errors", "haserror", "haserrors", "partial")


def _recount(tree: Json, before: tuple[Item, ...], after: tuple[Item, ...]) -> None:
    """Correct the counts and flags at the root that were those of the first answer."""
    if not isinstance(tree, dict):
        return
    old, new = Counter(item.ok for item in before), Counter(item.ok for item in after)
    for key, value in tree.items():
        name = plain(key)
        if isinstance(value, bool):
            if (
                value
                and name in ("errors", "haserrors", "error", "partial", "haserror")
                and not new[False] + new[None]
            ):
                tree[key] = False
        elif isinstance(value, int):
            if _FAILED_COUNT.search(name) and value == old[False] + old[None]:
                tree[key] = new[False] + new[None]
            elif _DONE_COUNT.search(name) and value == old[True]:
                tree[key] = new[True]


def _with_body(response: Response, body: bytes) -> Response:
    kept = [(name, value) for name, value in response.headers if name.lower() not in _OF_ONE_BODY]
    length = any(name.lower() == b"content-length" for name, _ in response.headers)
    return replace(
        response, headers=(*kept, *([(b"Content-Length", str(len(body)).encode())] if length else [])), body=body
    )


# XML, by its bytes: what is not taken out stays as it was written


def _spans(text: bytes) -> dict[Path, tuple[int, int]]:
    """Return where each element begins and ends, by its path: names, each with its number among its kind."""
    spans: dict[Path, tuple[int, int]] = {}
    stack: list[tuple[Path, int, Counter[str]]] = [((), 0, Counter())]
    parser = expat.ParserCreate()

    def start(tag: str, _: dict[str, str]) -> None:
        name = tag.rpartition(":")[2]
        place, _at, counts = stack[-1]
        stack.append(((*place, name, counts[name]), parser.CurrentByteIndex, Counter()))
        counts[name] += 1

    def end(_: str) -> None:
        place, at, _counts = stack.pop()
        here = parser.CurrentByteIndex
        spans[place] = (at, text.index(b">", here) + 1)

    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.Parse(text, True)
    return spans


def _numbered(place: Path) -> Path:
    """A tree has a list only where an element repeats; spans number every element."""
    numbered: list[str | int] = []
    for i, part in enumerate(place):
        if isinstance(part, str):
            following = place[i + 1] if i + 1 < len(place) else None
            numbered += [part, following if isinstance(following, int) else 0]
    return tuple(numbered)


def _cut(text: bytes, news: dict[Path, bytes]) -> bytes | None:
    """Return `text` with the elements at the given places replaced (by nothing: removed)."""
    try:
        spans = _spans(text)
    except expat.ExpatError:
        return None
    places = [(spans.get(_numbered(place)), new) for place, new in news.items()]
    for span, new in sorted(places, key=lambda one: one[0] or (0, 0), reverse=True):
        if span is None:
            return None
        text = text[: span[0]] + new + text[span[1] :]
    return text

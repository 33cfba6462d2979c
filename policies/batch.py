"""Many-item answers: what became of each item, told by matching the answer's items to those that were sent.

Nothing here knows an upstream: an answer is many-item when it holds verdicts on parts of the request. Each is
matched by the surest means that fits *all* of them: an id the client gave, an index, the position in a list of
equal length, a value only one item holds, an echo of the item itself. An item that no list mentions is done
where the answer names only what failed: the request says what else there was. Where nothing fits all, `certain`
is False and every item is in doubt: no guess.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from discovery.body import Body, Kind
from discovery.exchange import Json, Request
from discovery.lexical import plain
from discovery.pointer import Path, place_of, pointer_of
from discovery.slots import Slots, slots_of, value_at
from policies.verdicts import MAX_ITEMS, Verdict, containers, verdict_of, verdicts_in


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a batch: its number in the request, the key it was recognised by, and how it ended.

    `index` is None for what the batch hangs on (an order whose lines failed). `ok` is None where nothing proves
    either way. `retry`: it had no effect for sure, and may be sent again. `place` is its JSON Pointer in the
    request, `said` that of its verdict in the answer; `wait` the seconds asked for it alone.
    """

    index: int | None
    key: str | None
    ok: bool | None
    retry: bool = False
    why: str = ""
    place: str = ""
    said: str | None = None
    wait: float | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """All items of a request, in its order. Not `certain`: they could not be matched, so each is in doubt."""

    items: tuple[Item, ...]
    certain: bool
    why: str

    @property
    def failed(self) -> int:
        return sum(item.ok is not True for item in self.items)


Parts: TypeAlias = list[tuple[Path, Json]]

_FROM_ZERO = ("index", "itemindex", "operationindex", "correlationid", "recordindex")
_INDEXES = (*_FROM_ZERO, "position", "row", "rowindex", "sequence", "line")
_ID = re.compile(r"id$|^id|key|ref|trace|name$|href|uri$|url$|path$|sku|code$|email|handle|number$|uuid")


def read_batch(request: Request, body: Body, anyway: bool = False) -> Batch | None:
    """Return what became of each item of `request`, or None when `body` tells of no items, or of no failure.

    `anyway`: also when nothing failed.
    """
    unsure: Batch | None = None
    slots: Slots | None = None
    for verdicts, kind in verdicts_in(body, anyway):
        slots = slots or slots_of(request)
        if kind == "named":
            if (batch := _named(slots, body.value, verdicts)) is not None:
                return batch
            continue
        batch = _matched(slots, body.value, verdicts, kind)
        if batch is not None and batch.certain:
            return batch
        unsure = unsure or batch
    return unsure


def is_proved(batch: Batch, body: Body) -> bool:
    """Tell whether an item is done, and every item that is done is said to be: an error may tell only some."""
    done = [item for item in batch.items if item.ok and item.index is not None]
    said = (value_at(body.value, place_of(item.said)) if item.said else None for item in done)
    return bool(done) and all(verdict_of(node).ok is True for node in said)


def failures_in(answer: Json) -> tuple[Item, ...]:
    """Return the parts an answer names as failed, where the request named no parts."""
    for place, node in containers(answer):
        children = node if isinstance(node, list) else [node] if place else []
        said = [(child, verdict_of(child)) for child in children[:MAX_ITEMS]]
        if said and any(verdict.ok is False for _, verdict in said):
            keys = [next((text for name, text in _scalars(child) if _ID.search(name)), None) for child, _ in said]
            return tuple(
                Item(None, key, v.ok, False, v.why)
                for key, (_, v) in zip(keys, said, strict=True)
                if v.ok is False
            )
    return ()


# Matching


def _matched(slots: Slots, answer: Json, verdicts: list[Verdict], kind: str) -> Batch | None:
    """Match by the surest means that fits all verdicts; else say that the items cannot be told apart."""
    candidates = _requested(slots, [str(key) for key in answer] if isinstance(answer, dict) else [])
    failed = [verdict for verdict in verdicts if verdict.ok is not True]
    for parts in candidates:
        for by, match in _MATCHES:
            if match is _by_position and kind != "each":
                continue
            found = match(parts, verdicts)
            if found is not None and (kind == "failures" or len(found) == len(parts)):
                return _batch(slots, parts, verdicts, found, by, answer)
    for parts in candidates if kind == "split" and failed else ():
        for by, match in _MATCHES:  # what succeeded may be listed by new ids: then the numbers must add up
            found = match(parts, failed) if match is not _by_position else None
            if found is not None and len(parts) == len(verdicts):
                return _batch(slots, parts, failed, found, by, answer)
    if not failed or not candidates or len(candidates[0]) < 2:
        return None
    why = f"{len(failed)} items failed, but the answer does not show which of {len(candidates[0])}"
    doubts = (Item(i, None, None, False, "", pointer_of(place)) for i, (place, _) in enumerate(candidates[0]))
    return Batch(tuple(doubts), False, why)


def _named(slots: Slots, answer: Json, verdicts: list[Verdict]) -> Batch | None:
    """Match verdicts given by the items' own keys: all of them, or they are no verdicts on items."""
    for parts in _requested(slots, [str(key) for key in answer] if isinstance(answer, dict) else []):
        if len(parts) > 1 and (found := _by_value(parts, verdicts)) is not None:
            return _batch(slots, parts, verdicts, found, "its key", answer)
    return None


def _requested(slots: Slots, answered: Sequence[str]) -> list[Parts]:
    """The lists of the request that may be its items: those the answer names alike first, larger ones before."""
    body = slots.body
    if slots.kind is Kind.LINES and isinstance(body, list):
        return [bulk_lines(body)]
    found: list[tuple[Path, Parts]] = []
    if isinstance(body, list) and body:
        found.append(((), [((i,), child) for i, child in enumerate(body)]))
    for place, value in slots.all:
        if (
            isinstance(value, list)
            and value
            and len(place) <= 4
            and not any(isinstance(part, int) for part in place)
        ):
            found.append((place, [((*place, i), child) for i, child in enumerate(value)]))
        elif (
            isinstance(value, dict)
            and len(value) > 0
            and len(place) <= 3
            and not any(isinstance(p, int) for p in place)
        ):
            lists = [(key, child) for key, child in value.items() if isinstance(child, list)]
            if len(lists) == len(value) and len(lists) > 1:
                found.append(
                    (
                        place,
                        [
                            ((*place, key, i), child)
                            for key, one in lists
                            if isinstance(one, list)
                            for i, child in enumerate(one)
                        ],
                    )
                )
    names = {plain(name) for name in answered}
    found.sort(key=lambda one: (not (one[0] and plain(str(one[0][-1])) in names), -len(one[1]), len(one[0])))
    return [parts for _, parts in found]


def bulk_lines(lines: Json) -> Parts:
    """Return the items of NDJSON: each line, or (a bulk) each action with the document that follows it."""
    parts: Parts = []
    number = 0
    while isinstance(lines, list) and number < len(lines):
        action = lines[number]
        verb = next(iter(action), "") if isinstance(action, dict) and len(action) == 1 else ""
        parts.append(((number,), action))
        number += 2 if verb in ("index", "create", "update") else 1
    return parts


def _scalars(node: Json, depth: int = 0) -> Iterator[tuple[str, str]]:
    """Yield (plain name, text) of the scalars in an element that may identify it."""
    if isinstance(node, dict) and depth < 4:
        for key, value in list(node.items())[:40]:
            name = plain(key)
            if isinstance(value, str) or (isinstance(value, int) and not isinstance(value, bool)):
                yield name, str(value)
            elif isinstance(value, dict):
                yield from _scalars(value, depth + 1)
            elif isinstance(value, list) and len(value) <= 3:
                for one in value:
                    if isinstance(one, str) or (isinstance(one, int) and not isinstance(one, bool)):
                        yield name, str(one)
                    else:
                        yield from _scalars(one, depth + 1)
    elif isinstance(node, str) or (isinstance(node, int) and not isinstance(node, bool)):
        yield "", str(node)


def _by_id(parts: Parts, verdicts: list[Verdict]) -> dict[int, int] | None:
    """Match by a member of the same name: every verdict has it, and it tells the request's items apart."""
    if not all(isinstance(value, dict) for _, value in parts):
        return None
    own = [dict(reversed(list(_scalars(value)))) for _, value in parts]
    said = [dict(reversed(list(_scalars(verdict.node)))) for verdict in verdicts]
    names = [name for name in own[0] if _ID.search(name) and all(name in each for each in own)]
    for name in sorted(names, key=lambda name: (name != "id", not name.endswith("id"))):
        numbers = {each[name]: i for i, each in enumerate(own)}
        if len(numbers) != len(parts):
            continue
        found = {numbers[each[name]]: n for n, each in enumerate(said) if each.get(name) in numbers}
        if len(found) == len(verdicts):
            return found
    return None


def _by_index(parts: Parts, verdicts: list[Verdict]) -> dict[int, int] | None:
    """Match by a number: if every item has one, counting may start at 1; else only what surely starts at 0."""
    for name in _INDEXES:
        numbers = [
            {plain(key): value for key, value in verdict.node.items()}.get(name)
            for verdict in verdicts
            if isinstance(verdict.node, dict)
        ]
        found = [number for number in numbers if isinstance(number, int) and not isinstance(number, bool)]
        if len(found) != len(verdicts) or len(set(found)) != len(found) or not found:
            continue
        whole = len(found) == len(parts)
        base = 1 if whole and min(found) == 1 else 0
        if (whole or name in _FROM_ZERO) and min(found) >= base and max(found) - base < len(parts):
            return {number - base: n for n, number in enumerate(found)}
    return None


def _by_position(parts: Parts, verdicts: list[Verdict]) -> dict[int, int] | None:
    return {n: n for n in range(len(parts))} if len(parts) == len(verdicts) else None


def _by_value(parts: Parts, verdicts: list[Verdict]) -> dict[int, int] | None:
    """Match by a value that only one item of the request holds: the item itself, or an identifying member."""
    owners: dict[str, set[int]] = {}
    for i, (_, value) in enumerate(parts):
        for name, text in _scalars(value):
            if (not name or _ID.search(name)) and len(text) > 0:
                owners.setdefault(text, set()).add(i)
    found: dict[int, int] = {}
    for n, verdict in enumerate(verdicts):
        hits = {next(iter(owners[text])) for _, text in _scalars(verdict.node) if len(owners.get(text, ())) == 1}
        if len(hits) != 1 or hits & found.keys():
            return None
        found[hits.pop()] = n
    return found or None


def _by_echo(parts: Parts, verdicts: list[Verdict]) -> dict[int, int] | None:
    """Match items that are given back as they were sent."""
    found: dict[int, int] = {}
    for n, verdict in enumerate(verdicts):
        same = [i for i, (_, value) in enumerate(parts) if i not in found and value == verdict.node]
        if not same or not isinstance(verdict.node, dict):
            return None
        found[same[0]] = n
    return found or None


_MATCHES = (
    ("its id", _by_id),
    ("its index", _by_index),
    ("its position", _by_position),
    ("its value", _by_value),
    ("its echo", _by_echo),
)


def _batch(
    slots: Slots, parts: Parts, verdicts: list[Verdict], found: dict[int, int], by: str, answer: Json
) -> Batch:
    items: list[Item] = []
    if (whole := _whole(slots, parts, answer)) is not None:
        items.append(whole)
    for index, (place, value) in enumerate(parts):
        key = _key(value, verdicts[found[index]].node if index in found else None)
        if index not in found:
            items.append(Item(index, key, True, why="not named among the failures", place=pointer_of(place)))
            continue
        verdict = verdicts[found[index]]
        ok = True if verdict.ok is None and not verdict.why else verdict.ok
        retry = verdict.retry and ok is False
        said = pointer_of(verdict.place)
        items.append(Item(index, key, ok, retry, verdict.why, pointer_of(place), said, verdict.wait))
    failed = sum(item.ok is not True for item in items)
    return Batch(tuple(items), True, f"{failed} of {len(items)} items failed, each told by {by}")


def _key(value: Json, said: Json) -> str | None:
    """The key an item goes by: the scalar it is, or the most identifying member the request gave it."""
    members = list(_scalars(value))
    if members and not members[0][0]:
        return members[0][1]
    for wanted in ("id", "key", "referenceid", "clientid", "customid", "externalid", "name", "href"):
        for name, text in members:
            if name == wanted:
                return text
    heard = {text for _, text in _scalars(said)} if said is not None else set()
    return next((text for name, text in members if _ID.search(name) and text in heard), None)


def _whole(slots: Slots, parts: Parts, answer: Json) -> Item | None:
    """What the items hang on, when the answer shows it was made: it has an id that the request did not hold."""
    place = parts[0][0]
    if not isinstance(slots.body, dict) or len(place) < 3 or not isinstance(answer, dict):
        return None
    sent = {str(value) for _, value in slots.all if isinstance(value, (str, int))}
    for key, value in answer.items():
        if (
            plain(key).endswith("id")
            and isinstance(value, (str, int))
            and not isinstance(value, bool)
            and str(value) not in sent
        ):
            return Item(None, str(value), True, why="made; its parts are told apart")
    return None

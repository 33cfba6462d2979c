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
from dataclasses import dataclass, replace
from typing import TypeAlias

from discovery.body import Body, Kind
from discovery.complaints import complaints_of, plain
from discovery.exchange import Json, Request
from discovery.pointer import Path, pointer_of
from discovery.slots import Slots, slots_of
from policies.denial import is_quiet, suspects, telling
from policies.signs import Sign, sign_of_code, sign_of_text

MAX_ITEMS = 10_000


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


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer says of one item: `node` is the words it says it in."""

    ok: bool | None
    node: Json
    retry: bool = False
    why: str = ""
    wait: float | None = None
    place: Path = ()


Parts: TypeAlias = list[tuple[Path, Json]]

_FAILED_LIST = re.compile(
    r"^(?!.*(?:count|num|total))\w*(?:failed|failures?|errors?|rejected|unprocessed\w*|notprocessed|unsuccessful"
    r"|invalid|failedentries)$"
)
_UNPROCESSED = re.compile(r"unprocessed|notprocessed|remaining")
_DONE_LIST = re.compile(
    r"^(?:\w*(?:successful|succeeded|success\w*|processed|created|updated|deleted|accepted|results?|data|ok"
    r"|added|completed))$"
)
_FROM_ZERO = ("index", "itemindex", "operationindex", "correlationid", "recordindex")
_INDEXES = (*_FROM_ZERO, "position", "row", "rowindex", "sequence", "line")
_ID = re.compile(r"id$|^id|key|ref|trace|name$|href|uri$|url$|path$|sku|code$|email|handle|number$|uuid")
_FAILED = re.compile(
    r"^(?:error\w*|fail\w*|rejected|invalid|refused|denied|false|not_?\w+|http/[\d.]+ [45].*)$", re.I
)
_FINE = re.compile(
    r"^(?:ok|succe\w*|created|updated|deleted|done|complete\w*|accepted|queued|sent|processed|true|active|noop"
    r"|http/[\d.]+ [23].*)$",
    re.I,
)
_BUSY_STATUS = frozenset({408, 423, 425, 429, 503})


def read_batch(request: Request, body: Body, anyway: bool = False) -> Batch | None:
    """Return what became of each item of `request`, or None when `body` tells of no items, or of no failure.

    `anyway`: also when nothing failed.
    """
    unsure: Batch | None = None
    slots: Slots | None = None
    for verdicts, kind in _verdicts(body, anyway):
        slots = slots or slots_of(request)
        batch = _matched(slots, body.value, verdicts, kind)
        if batch is not None and batch.certain:
            return batch
        unsure = unsure or batch
    return unsure


def may_hold_verdicts(answer: Json, depth: int = 0) -> bool:
    """Tell at little cost whether an answer may hold verdicts on items: in lists, or under names of failure."""
    if isinstance(answer, list):
        return any(not is_quiet(_inner(child)) for child in suspects(answer[:MAX_ITEMS]))
    if not isinstance(answer, dict) or depth > 3:
        return False
    held = [(key, value) for key, value in answer.items() if isinstance(value, (dict, list)) and value]
    return any(_FAILED_LIST.match(plain(key)) or may_hold_verdicts(value, depth + 1) for key, value in held)


def _inner(node: dict[str, Json]) -> dict[str, Json]:
    """Look into `{"index": {"status": 201}}`, where an element only names what was done."""
    only = next(iter(node.values())) if len(node) == 1 else None
    return only if isinstance(only, dict) else node


# Verdicts


def _verdicts(body: Body, anyway: bool) -> Iterator[tuple[list[Verdict], str]]:
    """Yield the lists of verdicts an answer may hold, and what they are.

    `each` tells of every item; `failures` of those that failed; `split` has lists of both.
    """
    indexed: list[Verdict] = []
    failures: list[Verdict] = []
    done: list[Verdict] = []
    for place, node in _containers(body.value):
        name = plain(str(place[-1])) if place else ""
        if _FAILED_LIST.match(name) and (
            isinstance(node, list) or _UNPROCESSED.search(name) or body.kind is Kind.XML
        ):
            unprocessed = bool(_UNPROCESSED.search(name))
            for where, child in _elements(place, node):
                told = _told(child)
                why = told.why or ("not processed" if unprocessed else "failed")
                failures.append(replace(told, ok=False, retry=unprocessed or told.retry, why=why, place=where))
        elif name.endswith("error") and isinstance(node, dict):
            indexed += _indexed(node)
        elif isinstance(node, list) and node and all(isinstance(child, dict) for child in node):
            said = [replace(_verdict(child), place=(*place, i)) for i, child in enumerate(node[:MAX_ITEMS])]
            if any(verdict.ok is False or (verdict.ok is None and verdict.why) for verdict in said) or (
                anyway and any(verdict.ok for verdict in said)
            ):
                yield said, "each"
            elif _DONE_LIST.match(name):
                done += [replace(verdict, ok=True) for verdict in said]
        elif isinstance(node, list) and _DONE_LIST.match(name):
            done += [Verdict(True, child, place=(*place, i)) for i, child in enumerate(node[:MAX_ITEMS])]
    if indexed:
        yield indexed, "failures"
    if failures or (anyway and done):
        yield failures + done, "split" if done else "failures"


def _elements(place: Path, node: Json) -> list[tuple[Path, Json]]:
    """The elements of a list, or of all lists in a mapping of lists, with where they are; anything else is one."""
    if isinstance(node, list):
        return [((*place, i), child) for i, child in enumerate(node[:MAX_ITEMS])]
    if isinstance(node, dict) and all(isinstance(value, list) for value in node.values()):
        return [found for key, value in node.items() for found in _elements((*place, key), value)]
    return [(place, node)] if node else []


def _containers(answer: Json) -> Iterator[tuple[Path, Json]]:
    """The lists and mappings of an answer down to its third level, outermost first."""
    layer: list[tuple[Path, Json]] = [((), answer)]
    for _ in range(4):
        following: list[tuple[Path, Json]] = []
        for place, node in layer:
            if isinstance(node, (dict, list)):
                yield place, node
            if isinstance(node, dict) and len(node) <= 60:
                following += [
                    ((*place, key), value) for key, value in node.items() if isinstance(value, (dict, list))
                ]
        layer = following


def _verdict(node: Json) -> Verdict:
    """Return what one element of an answer says of itself."""
    if not isinstance(node, dict):
        return Verdict(None, node)
    names = telling(_inner(node))
    status = next(
        (
            number
            for name in ("status", "statuscode", "httpstatuscode", "httpstatus", "code")
            if (number := _http(names.get(name)))
        ),
        None,
    )
    ok: bool | None = None
    if status is not None:
        ok = status < 400
    for name in ("success", "ok", "succeeded", "issuccess", "successful"):
        if isinstance(names.get(name), bool):
            ok = bool(names[name])
    if ok is None:
        for name in ("error", "errors", "errorcode", "errormessage", "failreason", "fault", "failure"):
            if names.get(name) not in (None, "", [], {}, 0, False, "0"):
                ok = False
    if ok is None:
        for name in ("status", "result", "state", "code", "outcome"):
            if isinstance(word := names.get(name), str) and word:
                ok = False if _FAILED.match(word) else True if _FINE.match(word) else ok
                if ok is not None:
                    break
    if ok is not False:
        return Verdict(ok, node)
    return _failed(node, names, status)


def _told(node: Json) -> Verdict:
    """What is said of an element that stands in a list of failures."""
    if not isinstance(node, dict):
        return Verdict(False, node, why="failed")
    names = {plain(key): value for key, value in node.items()}
    status = next((s for name in ("status", "statuscode", "code") if (s := _http(names.get(name)))), None)
    return _failed(node, names, status)


def failures_in(answer: Json) -> tuple[Item, ...]:
    """Return the parts an answer names as failed, where the request named no parts."""
    for place, node in _containers(answer):
        children = node if isinstance(node, list) else [node] if place else []
        said = [(child, _verdict(child)) for child in children[:MAX_ITEMS]]
        if said and any(verdict.ok is False for _, verdict in said):
            keys = [next((text for name, text in _scalars(child) if _ID.search(name)), None) for child, _ in said]
            return tuple(
                Item(None, key, v.ok, False, v.why)
                for key, (_, v) in zip(keys, said, strict=True)
                if v.ok is False
            )
    return ()


def _failed(node: dict[str, Json], names: dict[str, Json], status: int | None) -> Verdict:
    said = complaints_of(node)
    codes = [code for complaint in said for code in complaint.codes if not code.isdigit()]
    texts = [complaint.text for complaint in said if complaint.text]
    signs = [sign for code in codes if (sign := sign_of_code(code))] or [
        sign for text in texts if (sign := sign_of_text(text))
    ]
    why = (texts or codes or [f"status {status}" if status else "failed"])[0].split("\n")[0][:200]
    passing = bool(signs) and signs[0] in (Sign.RATE, Sign.BUSY, Sign.INTERNAL)
    if status is not None:
        retry = status in _BUSY_STATUS or (status == 409 and passing)
        doubt = status >= 500 and status not in (501, 503, 505)
        return Verdict(None if doubt else False, node, retry, why, _wait_of(node))
    if names.get("senderfault") is False or str(names.get("senderfault")).lower() == "false":
        return Verdict(False, node, True, why)
    return Verdict(False, node, passing, why, _wait_of(node))


def _http(value: Json) -> int | None:
    """An HTTP status: a number, its text, or a status line."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if 100 <= value <= 599 else None
    if isinstance(value, str) and (match := re.match(r"^(?:HTTP/[\d.]+ )?([1-5]\d\d)(?: |$)", value)):
        return int(match[1])
    return None


def _wait_of(node: dict[str, Json]) -> float | None:
    headers = node.get("headers")
    if isinstance(headers, dict):
        for key, value in headers.items():
            if plain(key) == "retryafter" and re.fullmatch(r"\d{1,9}", str(value)):
                return float(str(value))
    return None


def _indexed(node: Json) -> list[Verdict]:
    """Failures told apart from the results, each with the index of its item."""
    found: list[Verdict] = []
    stack: list[Json] = [node]
    while stack and len(found) < MAX_ITEMS:
        current = stack.pop()
        if isinstance(current, dict):
            index = current.get("index")
            if isinstance(index, int) and not isinstance(index, bool):
                found.append(Verdict(False, {"index": index}, why="failed"))
            stack += current.values()
        elif isinstance(current, list):
            stack += current[:1000]
    return found


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

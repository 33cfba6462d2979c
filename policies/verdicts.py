"""What an answer says of the items of a request: lists of verdicts, each in words any upstream may use.

Whose verdict is whose is `policies.batch`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import lru_cache

from discovery.body import Body, Kind
from discovery.complaints import complaints_of
from discovery.exchange import Json
from discovery.lexical import plain
from discovery.pointer import Path
from policies.denial import is_quiet, suspects, telling
from policies.signs import Sign, sign_of_code, sign_of_text

MAX_ITEMS = 10_000


@dataclass(frozen=True, slots=True)
class Verdict:
    """What an answer says of one item: `node` is the words it says it in."""

    ok: bool | None
    node: Json
    retry: bool = False
    why: str = ""
    wait: float | None = None
    place: Path = ()


_FAILED_LIST = re.compile(
    r"^(?!.*(?:count|num|total))\w*(?:failed|failures?|errors?|rejected|unprocessed\w*|notprocessed|unsuccessful"
    r"|invalid|failedentries)$"
)
_UNPROCESSED = re.compile(r"unprocessed|notprocessed|remaining")
_DONE_LIST = re.compile(
    r"^(?:\w*(?:successful|succeeded|success\w*|processed|created|updated|deleted|accepted|results?|data|ok"
    r"|added|completed))$"
)
_FAILED = re.compile(
    r"^(?:error\w*|fail\w*|rejected|invalid(?:_\w+)?|refused|denied|false|not_?\w+|\w+_(?:failed"
    r"|error|invalid|rejected)"
    r"|http/[\d.]+ [45].*)$",
    re.I,
)
_FINE = re.compile(
    r"^(?:ok|succe\w*|created|updated|deleted|done|complete\w*|accepted|queued|sent|processed|true|active|noop"
    r"|http/[\d.]+ [23].*)$",
    re.I,
)
_NAMED_LIST = re.compile(
    r"^(?:(?:failed|invalid|rejected|unsuccessful|unknown|missing|skipped|ignored|duplicate)[a-z]*s"
    r"|notfound[a-z]*)$"
)
"""Lists that give what failed by its key alone: `invalid_emails`, `failed_ids`."""
_WORD_LIST = re.compile(r"^(?:\w*(?:status|code|result)e?s?)$")
_FAILED_WORD = re.compile(r"^(?:error|fail\w*|rejected|invalid|refused|denied|not_?\w+|skipped)\b", re.I)
_KEYED = re.compile(r"^\w*(?:status|statuses|code|codes|result|results|items|responses?|data)$")
_BECAUSE = re.compile(r"reason|error|message|msg|cause|detail")
_SKIPPED = re.compile(r"^(?:skip\w*|ignored|bounced|hard.?bounce\w*|dropped|suppressed|duplicate)$", re.I)
_BUSY_STATUS = frozenset({408, 423, 425, 429, 503})


def may_hold_verdicts(answer: Json, depth: int = 0) -> bool:
    """Tell at little cost whether an answer may hold verdicts on items: in lists, or under names of failure."""
    if isinstance(answer, list):
        suspected = suspects(answer[:MAX_ITEMS])
        return bool(suspected) and any(not is_quiet(_inner(child)) for child in suspected)
    if not isinstance(answer, dict) or depth > 3:
        return False
    for key, value in answer.items():
        if value and isinstance(value, (dict, list)):
            tells, keyed = _told_by(key)
            if tells or may_hold_verdicts(value, depth + 1) or (keyed and _words((), value)):
                return True
    return False


@lru_cache(4096)
def _told_by(key: str) -> tuple[bool, bool]:
    """Tell whether a name alone says that its list is of failures, and whether its values may be verdicts."""
    name = plain(key)
    return bool(_FAILED_LIST.match(name) or _NAMED_LIST.match(name)), bool(_KEYED.match(name))


def _inner(node: dict[str, Json]) -> dict[str, Json]:
    """Look into `{"index": {"status": 201}}`, where an element only names what was done."""
    only = next(iter(node.values())) if len(node) == 1 else None
    return only if isinstance(only, dict) else node


def verdicts_in(body: Body, anyway: bool) -> Iterator[tuple[list[Verdict], str]]:
    """Yield the lists of verdicts an answer may hold, and what they are.

    `each` tells of every item; `failures` of those that failed; `split` has lists of both.
    """
    indexed: list[Verdict] = []
    failures: list[Verdict] = []
    done: list[Verdict] = []
    for place, node in containers(body.value):
        name = plain(str(place[-1])) if place else ""
        if _FAILED_LIST.match(name) and (
            isinstance(node, list) or _UNPROCESSED.search(name) or body.kind is Kind.XML
        ):
            unprocessed = bool(_UNPROCESSED.search(name))
            for where, child in _elements(place, node):
                told = _told(child)
                why = told.why or ("not processed" if unprocessed else "failed")
                failures.append(replace(told, ok=False, retry=unprocessed or told.retry, why=why, place=where))
        elif _FAILED_LIST.match(name) and isinstance(node, dict) and all(map(str.isdecimal, node)):
            indexed += [Verdict(False, {"index": int(key)}, why=str(held)[:200]) for key, held in node.items()]
        elif name.endswith("error") and isinstance(node, dict):
            indexed += _indexed(node)
        elif isinstance(node, list) and node and all(isinstance(child, dict) for child in node):
            said = [replace(verdict_of(child), place=(*place, i)) for i, child in enumerate(node[:MAX_ITEMS])]
            if not any(verdict.ok is False for verdict in said):
                said = _contrasted(said)
            if any(verdict.ok is False or (verdict.ok is None and verdict.why) for verdict in said) or (
                anyway and any(verdict.ok for verdict in said)
            ):
                yield said, "each"
            elif _DONE_LIST.match(name):
                done += [replace(verdict, ok=True) for verdict in said]
        elif (
            isinstance(node, list) and _NAMED_LIST.match(name) and all(isinstance(one, (str, int)) for one in node)
        ):
            yield (
                [Verdict(False, one, why=str(place[-1]), place=(*place, i)) for i, one in enumerate(node)],
                "named",
            )
        elif (
            isinstance(node, list) and len(node) > 1 and _WORD_LIST.match(name) and (listed := _words(place, node))
        ):
            yield listed, "each"
        elif isinstance(node, dict) and place and len(node) > 1 and (listed := _words(place, node)):
            yield listed, "named"
        elif isinstance(node, list) and _DONE_LIST.match(name):
            done += [Verdict(True, child, place=(*place, i)) for i, child in enumerate(node[:MAX_ITEMS])]
    if indexed:
        yield indexed, "failures"
    if failures or (anyway and done):
        yield failures + done, "split" if done else "failures"


_NUMBERS = re.compile(r"^(?:s|sub|item|error|result|return|ret|err)?code$|^errno$|^ret$")
_SAYINGS = re.compile(r"(?:msg|message|desc|description|text|info)$")


def _contrasted(said: list[Verdict]) -> list[Verdict]:
    """Tell failures by a number that is 0 where all went well, and not where something is said beside it."""
    first = said[0].node
    named = [name for name in map(plain, first) if _NUMBERS.match(name)] if isinstance(first, dict) else []
    nodes = [
        {plain(key): held for key, held in verdict.node.items()} if isinstance(verdict.node, dict) else {}
        for verdict in (said if named else ())
    ]
    for name in named:
        numbers = [str(node.get(name, "")).strip() for node in nodes]
        if not all(re.fullmatch(r"-?\d{1,9}", number) for number in numbers) or len(set(numbers)) < 2:
            continue
        words = [
            next((held for key, held in node.items() if _SAYINGS.search(key) and isinstance(held, str)), "")
            for node in nodes
        ]
        if (
            all(bool(text) or int(number) == 0 for number, text in zip(numbers, words, strict=True))
            and "0" in numbers
        ):
            return [
                replace(verdict, ok=True) if number == "0" else _told_of(verdict, number, text)
                for verdict, number, text in zip(said, numbers, words, strict=True)
            ]
    return said


def _told_of(verdict: Verdict, number: str, text: str) -> Verdict:
    return replace(verdict, ok=False, why=f"{number}: {text}"[:200])


def _words(place: Path, node: Json) -> list[Verdict]:
    """Verdicts that are bare words or statuses, listed or by key, some of which fail; else none."""
    held: list[tuple[str | int, Json]] = (
        [*node.items()] if isinstance(node, dict) else [*enumerate(node)] if isinstance(node, list) else []
    )
    said: list[Verdict] = []
    for key, word in held[:MAX_ITEMS]:
        if isinstance(word, dict) and isinstance(node, dict):
            verdict = verdict_of(word)
            if verdict.ok is None and not verdict.why:
                return []
            said.append(replace(verdict, node=key, place=(*place, key)))
            continue
        status = _http(word)
        known = isinstance(word, str) and (_FAILED_WORD.match(word) or _FINE.match(word))
        if status is None and not known:
            return []
        fine = status < 400 if status is not None else _FINE.match(str(word)) is not None
        doubt = status is not None and status >= 500 and status not in (501, 503, 505)
        retry = status in _BUSY_STATUS
        node_said: Json = key if isinstance(key, str) else word
        why = "" if fine else f"status {status}" if status else str(word)[:200]
        said.append(
            Verdict(True if fine else None if doubt else False, node_said, retry, why, None, (*place, key))
        )
    return said if any(verdict.ok is not True for verdict in said) else []


def _elements(place: Path, node: Json) -> list[tuple[Path, Json]]:
    """The elements of a list, or of all lists in a mapping of lists, with where they are; anything else is one."""
    if isinstance(node, list):
        return [((*place, i), child) for i, child in enumerate(node[:MAX_ITEMS])]
    if isinstance(node, dict) and all(isinstance(value, list) for value in node.values()):
        return [found for key, value in node.items() for found in _elements((*place, key), value)]
    return [(place, node)] if node else []


def containers(answer: Json) -> Iterator[tuple[Path, Json]]:
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


def verdict_of(node: Json) -> Verdict:
    """Return what one element of an answer says of itself."""
    if not isinstance(node, dict):
        return Verdict(None, node)
    names = telling(_inner(node))
    ok, status = _standing(node, names)
    return _failed(node, names, status) if ok is False else Verdict(ok, node)


def tells_of_success(answer: Json) -> bool:
    """Tell at little cost whether an answer that is an error says of an item that it went well.

    A large error says the same of many items: what was said before is not judged again.
    """
    judged: set[tuple[tuple[str, Json], ...]] = set()
    for place, node in containers(answer):
        if isinstance(node, list) and not (place and _FAILED_LIST.match(plain(str(place[-1])))):
            for child in suspects(node[:MAX_ITEMS]):
                names = telling(_inner(child))
                said = _said(names)
                if said is not None:
                    if said in judged:
                        continue
                    judged.add(said)
                if _standing(child, names)[0]:
                    return True
    return False


def _said(names: dict[str, Json]) -> tuple[tuple[str, Json], ...] | None:
    """Return what an element says in words, to be compared; None where it says more (1 would equal True)."""
    for value in names.values():
        if type(value) is not str:
            return None
    return tuple(names.items())


def _standing(node: dict[str, Json], names: dict[str, Json]) -> tuple[bool | None, int | None]:
    """Whether an element says that it went well, by the `names` in it that tell, and its status."""
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
                if _SKIPPED.match(word) and any(_BECAUSE.search(plain(key)) and node[key] for key in node):
                    ok = False
                if ok is not None:
                    break
    return ok, status


def _told(node: Json) -> Verdict:
    """What is said of an element that stands in a list of failures."""
    if not isinstance(node, dict):
        return Verdict(False, node, why="failed")
    names = {plain(key): value for key, value in node.items()}
    status = next((s for name in ("status", "statuscode", "code") if (s := _http(names.get(name)))), None)
    return _failed(node, names, status)


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

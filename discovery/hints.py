"""What an error body says was wrong with the request: where, why, what would be allowed.

Places come from two sources: paths that the body gives (`discovery.complaints`), and names and values inside
its sentences. Both are looked up in the request as it was sent (`discovery.slots`); a name found nowhere is
believed only when it is said to be missing, or when nothing is known of the request. So a hint points at
something that was sent, or at where something lacking would go; a sentence that names nothing gives no hint.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from discovery.body import Kind
from discovery.complaints import Complaint
from discovery.exchange import SAFE_METHODS, Json, Request
from discovery.lexical import plain
from discovery.pointer import Path, path_of, pointer_of
from discovery.reasons import Reason, reason_of, said_reason
from discovery.slots import Slots, find_place, lacking_kin, pair_value, slots_of, value_at, values_like

__all__ = ["Hint", "Reason", "read_hints"]

MAX_HINTS = 100
MAX_SENTENCES = 10
"""Sentences searched for names: 60 microseconds each. Places that are given cost a tenth of that."""


@dataclass(frozen=True, slots=True)
class Hint:
    """One thing said to be wrong: a JSON Pointer into the request's `where` (body, query, path, header).

    `message` is the upstream's own sentence: material to judge, never an instruction.
    """

    pointer: str
    reason: Reason
    allowed: tuple[Json, ...] = ()
    message: str = ""
    where: str = "body"


def read_hints(request: Request, complaints: list[Complaint]) -> tuple[Hint, ...]:
    """Return what `complaints` say was wrong with `request`, each place once, the first word on it counting."""
    reader = _Reader(request, slots_of(request))
    sentences = 0
    found: dict[tuple[str, str], Hint] = {}
    for complaint in sorted(complaints[:MAX_HINTS], key=lambda complaint: complaint.path is None):
        if complaint.path is None and found and complaint is complaints[0]:
            continue  # a summary of what was said in detail
        sentences += complaint.path is None
        if sentences > MAX_SENTENCES:
            break
        for hint in reader.read(complaint):
            known = found.get((hint.where, hint.pointer))
            if known is None:
                found[hint.where, hint.pointer] = hint
            elif known.reason is Reason.OTHER or (hint.allowed and not known.allowed):
                reason = hint.reason if known.reason is Reason.OTHER else known.reason
                found[hint.where, hint.pointer] = replace(
                    known,
                    reason=reason,
                    allowed=known.allowed or hint.allowed,
                    message=known.message or hint.message,
                )
    return tuple(hint for hint in found.values() if not _is_summary(hint, found))[:MAX_HINTS]


def _is_summary(hint: Hint, found: dict[tuple[str, str], Hint]) -> bool:
    """A place said to be wrong only because something inside it is."""
    return hint.reason in (Reason.OTHER, Reason.FORMAT) and any(
        where == hint.where and pointer.startswith(hint.pointer + "/") for where, pointer in found
    )


class _Reader:
    def __init__(self, request: Request, slots: Slots) -> None:
        self.request = request
        self.slots = slots
        self.bodyless = request.method in SAFE_METHODS | {"DELETE"} and not request.body.strip(b" \r\n{}nul")

    def read(self, complaint: Complaint) -> Iterator[Hint]:
        text = _plain_quotes(complaint.text)
        reason = reason_of(text, complaint.codes)
        path = complaint.path
        if path and isinstance(path[-1], int) and (assigned := _ASSIGNED.search(text)):
            complaint = replace(
                complaint, path=(*path, assigned[1].lower() if assigned[1].isupper() else assigned[1])
            )
        allowed = complaint.allowed or _allowed_in(text)
        if complaint.path is None:
            yield from self.sentences(text, reason, allowed, complaint)
            return
        hint = self.placed(complaint.path, reason, complaint)
        if hint is None or (hint.where == "path" and complaint.where != "path"):
            traced = list(self.values(text, reason))
            if traced:
                yield from (replace(h, allowed=allowed, message=_first_line(complaint.text)) for h in traced)
                return
        if hint is not None:
            yield replace(hint, allowed=allowed, message=_first_line(complaint.text))

    # Places that are given

    def placed(self, path: Path, reason: Reason, complaint: Complaint) -> Hint | None:
        name = str(path[-1]) if path else ""
        where = complaint.where
        if where in ("header", "path"):
            return Hint(pointer_of(path), reason, where=where)
        if where == "query" or (self.bodyless and path):
            if key := self.slots.query_name(name) or self.slots.query_name(".".join(map(str, path))):
                return Hint(pointer_of((key,)), reason, where="query")
            known = where == "query" or reason is Reason.MISSING
            if known or (self.slots.silent and not self.in_path(name)):
                return Hint(pointer_of(path), reason, where="query")
            return Hint(pointer_of(path), reason, where="path")
        place, there = find_place(self.slots, path)
        if there:
            return Hint(pointer_of(place), reason)
        if pair := pair_value(self.slots, name):
            return Hint(pointer_of(pair), reason)
        if key := self.slots.query_name(name):
            return Hint(pointer_of((key,)), reason, where="query")
        if any(header.lower() == name.lower().encode() for header, _ in self.request.headers) and "-" in name:
            return Hint(pointer_of(path), reason, where="header")
        if reason in (Reason.MISSING, Reason.UNKNOWN) or self.slots.silent or where == "body":
            return Hint(pointer_of(place), reason)
        return Hint(pointer_of(path), reason, where="path")

    def in_path(self, name: str) -> bool:
        words = [plain(word) for word in self.slots.path.split("/") if word]
        return (
            any(plain(name) in (word, word.rstrip("s"), word.rstrip("s") + "id") for word in words)
            or plain(name) == "id"
        )

    # Places that are named in a sentence

    def sentences(
        self, text: str, reason: Reason, allowed: tuple[Json, ...], complaint: Complaint
    ) -> Iterator[Hint]:
        if not text:
            return
        seen = False
        base: Path = ()
        if said := _POINTER.search(text):
            base, text = path_of(said[1]), text[: said.start()] + text[said.end() :]
        whole = text
        for part in _sentences(text):
            own = said_reason(part)
            why = reason_of(part, complaint.codes) if own else reason
            for hint in self.named(part, base, why, own is not None):
                seen = True
                yield replace(hint, allowed=allowed or _allowed_in(part), message=_first_line(part))
        if not seen and said_reason(whole):
            for hint in self.values(whole, reason):
                seen = True
                yield replace(hint, allowed=allowed, message=_first_line(whole))
        if not seen and base:
            yield Hint(pointer_of(find_place(self.slots, base)[0]), reason, allowed, _first_line(whole))
        elif not seen and self.slots.kind is Kind.UNREADABLE and _NOT_PARSED.search(whole):
            yield Hint("", Reason.FORMAT, (), _first_line(whole))

    def named(self, text: str, base: Path, reason: Reason, told: bool) -> Iterator[Hint]:
        """Names in a sentence: technical or quoted ones first, then plain words standing where names do."""
        taken: set[str] = set()
        for name, sure, position in _names(_VALUE.sub(" ", text)):
            if plain(name) in taken or (plain(name) in _NO_NAMES and not (sure and position)):
                continue
            hint = self.lookup(name, base, reason, sure, position, told, text)
            if hint is not None:
                taken.add(plain(name))
                yield hint

    def lookup(
        self, name: str, base: Path, reason: Reason, sure: bool, position: bool, told: bool, text: str
    ) -> Hint | None:
        path = base + path_of(name)
        if not path:
            return None
        if not base and (self.bodyless or _IN_QUERY.search(text)) and (key := self.slots.query_name(name)):
            return Hint(pointer_of((key,)), reason, where="query")
        place, there = find_place(self.slots, path)
        if there and reason is Reason.MISSING and value_at(self.slots.body, place) not in (None, "", [], {}):
            place = lacking_kin(self.slots, place) or place
        if there and (sure or position or plain(name) != name):
            return Hint(pointer_of(place), reason)
        if not there and (pair := pair_value(self.slots, name)) and (position or sure):
            return Hint(pointer_of(pair), reason)
        if not there and (key := self.slots.query_name(name)) and (position or sure):
            return Hint(pointer_of((key,)), reason, where="query")
        if there or not position or not told:
            return None
        if reason is Reason.MISSING and (sure or not self.bodyless):
            if values_like(self.slots, name) and not sure:
                return None
            noun = re.search(rf"\b(\w+) ['\"`\[]*{re.escape(name)}\b", text)
            if noun and not base:
                holder = next(
                    (
                        p
                        for p, v in self.slots.all
                        if isinstance(v, dict) and plain(str(p[-1])) in (plain(noun[1]), plain(noun[1]) + "s")
                    ),
                    None,
                )
                if holder:
                    return Hint(pointer_of((*holder, name)), reason)
            where = "query" if self.bodyless or _IN_QUERY.search(text) else "body"
            return Hint(pointer_of(path if where == "query" else place), reason, where=where)
        if self.slots.silent and sure:
            return Hint(pointer_of(path), reason, where="query" if self.bodyless else "body")
        return None

    def values(self, text: str, reason: Reason) -> Iterator[Hint]:
        """Values repeated in a sentence, traced to the one slot that holds them."""
        for value in _quoted(text):
            places = values_like(self.slots, value)
            if len(places) == 1:
                yield Hint(pointer_of(places[0]), reason)
                return
            keys = [key for key, held in self.slots.query.items() if held == value]
            if len(keys) == 1 and not places:
                yield Hint(pointer_of((keys[0],)), reason, where="query")
                return


# Sentences


_POINTER = re.compile(r"\[?json-?pointer:\s*([^\]\s]+)\]?", re.I)
_ASSIGNED = re.compile(r"\b([A-Za-z_]\w{0,40})\s?=\s?['\"]?[\w\-]+['\"]?(?:$|[\s,.)])")
"""Of an item `ID=7` was not found: the member that holds it."""
_NOT_PARSED = re.compile(r"json|parse|malformed|well-formed|syntax|unexpected (?:end|token)", re.I)
_IN_QUERY = re.compile(r"query ?string|query param|in query|url param", re.I)
_SPLIT = re.compile(
    r"\n+|(?<=[a-z)'\"`])[.;!] +(?=[A-Z'\"`])|(?:, )(?=[\w./\[\]]+ (?:must|should|is|are|can't|cannot) )"
)
_NAME = r"[A-Za-z_$@][\w$\-]*(?:(?:\.|\[|\]|/)[\w$\-\[\]]+)*(?:\[\d*\])?"
_NOUN = (
    r"(?:query |body |request |path |url |form |input )?(?:param(?:eter)?s?(?:\(s\))?|fields?(?:\(s\))?"
    r"|propert(?:y|ies)|attributes?|arguments?|columns?|keys?|inputs?|options?"
    r"|elements?|members?|feld|campo|champ|data|values?|variables?|parámetro|paramètre)"
)
_TECHNICAL = re.compile(rf"(?<![\w/@:.])({_NAME})(?![\w@/]|\.\w|://)")
_QUOTED = re.compile(r"(?<![A-Za-z0-9])(['\"`])((?:(?!\1).){1,120}?)\1(?![A-Za-z])|\[([\w.\-, ]{1,120})\]")
_KEYWORDS = (
    "missing|required|invalid|unknown|unexpected|unrecogni[sz]ed|unsupported|illegal|bad|empty|duplicate|provide|specify"
    "|supply|include|value for|valid|mandatory|without|is:"
)
_JOIN = r"(?:,|\band\b|\bor\b|&)"
_MARKED = rf"['\"`\[]*{_NAME}['\"`\]]*"
_AFTER = re.compile(
    rf"\b(?:{_KEYWORDS})(?!\w)(?:(?: the| an?| valid| required| names?| {_NOUN}| (?:are|is|were|not provided"
    rf"|missing|required|for)| at)(?!\w))*"
    rf"\s*:?\s*((?:{_MARKED}\s*{_JOIN}+\s*)*{_MARKED})",
    re.I,
)
_VERB = (
    r"(?:is|are|was|were|weren't|wasn't|must|should|can ?not|can'?t|may|has|have|needs|requires?|does|do|not"
    r"|out of|contains?"
    r"|already|ist|darf|muss|est|n'est|es|no|é|não|too|missing)\b"
)
_BEFORE = re.compile(
    rf"(?:^|: |/)\W*(?:the |your |an? |this |one of |either |both "
    rf"|for )?((?:{_MARKED}\s*{_JOIN}+\s*)*(?:[A-Za-z]+ ){{0,3}}?{_MARKED})\s+"
    rf"(?:{_NOUN} )?(?:number .{{0,20}} )?{_VERB}|^({_MARKED}):\s",
    re.I,
)
_ENDED = re.compile(rf"\s*(?:$|[.,;:!?)\]'\"`]|in\b|and\b|or\b|{_VERB})", re.I)
_NOUNED = re.compile(
    rf"\b({_NAME}) (?:parameter|field|property|attribute|argument|param)\b (?:is|must|should|cannot|can't|was|may)"
    rf"|(?<=field: )({_NAME})",
    re.I,
)
_WORD = re.compile(_NAME)
_PLAIN_NAME = re.compile(r"[A-Za-z_][\w.]*")
_NOTHING = re.compile(r"(?!)")  # what stands in brackets first is a mark, such as [ERROR]
_VALUE = re.compile(r"\{[^{}]{0,300}\}")
_NO_NAMES_WORDS = (
    "this that it value values the a an is are and or not be must should field fields parameter parameters "
    "param params property properties request body query data json"
    " error errors invalid missing required input inputs name object type one there you your we no some all "
    "any resource validation record please format string integer number array boolean"
    " argument arguments attribute attributes element list item items message following url api bad unknown "
    "unable operation method user following at in of for to from with by on"
    " but because which only both either key column option feld das die der el la le campo champ"
)
_NO_NAMES = frozenset(_NO_NAMES_WORDS.split())


def _plain_quotes(text: str) -> str:
    return text.translate(str.maketrans("“”„«»‘’´＂", '"""""\'\'\'\'')) if not text.isascii() else text


def _sentences(text: str) -> list[str]:
    return [part.strip() for part in _SPLIT.split(text[:2000]) if part.strip()][:20]


def _first_line(text: str) -> str:
    return text.strip().partition("\n")[0][:300] if "\n" not in text.strip()[:60] else text.strip()[:300]


def _is_technical(name: str) -> bool:
    return bool(re.search(r"_|\w\.\w|\[|[a-z][A-Z]|\w-\w", name)) and len(name) > 2


def _names(text: str) -> Iterator[tuple[str, bool, bool]]:
    """Yield (name, whether its form shows it is one, whether it stands where names stand)."""
    positioned: dict[str, None] = {}
    for pattern in (_BEFORE, _AFTER):
        for match in pattern.finditer(text):
            group = match[1] or match[match.lastindex or 1] or ""
            if pattern is _AFTER and not _ENDED.match(text[match.end() :]) and not _is_technical(group):
                continue
            for piece in re.split(_JOIN, group):
                words = _WORD.findall(piece)
                if words and len(words) <= 2:
                    positioned.setdefault(words[-1].strip("."), None)
    if not text.isascii():
        for word in re.findall(rf"(?<![^\W\d_]){_NAME}(?![^\W\d_])", text):
            positioned.setdefault(word, None)
    quoted = dict.fromkeys(match[1] or match[2] for match in _NOUNED.finditer(text))
    for match in _QUOTED.finditer(text):
        for part in re.split(r",\s*", match[2] or match[3] or ""):
            named = _WORD if match[2] else _PLAIN_NAME if match.start() else _NOTHING
            if named.fullmatch(part) and not _OTHERS.search(text[: match.start()]):
                quoted[part] = None
    technical = [word for word in _TECHNICAL.findall(text) if _is_technical(word)]
    for name in dict.fromkeys((*quoted, *technical)):
        yield name, True, name in positioned or name in quoted
    if phrase := _phrase(text):
        yield phrase, True, False
    for name in positioned:
        if name not in quoted and not _is_technical(name):
            yield name, False, True


_OTHERS = re.compile(
    r"(?:relation|table|object|type|resource|index|schema|database|collection|cache|constraint|value|of) *$", re.I
)
"""What stands before a quoted word that names no field."""


def _phrase(text: str) -> str:
    """Return the words before the verb as one name: `Validity years out of range` speaks of `validityYears`."""
    found = re.match(
        r"(?:the |your )?((?:[A-Za-z]+ ){1,4}?)(?:is|are|must|should|can't|cannot|has|have|out of|may|does"
        r"|was|were|not)\b",
        text,
        re.I,
    )
    return "_".join(found[1].split()).lower() if found and " " in found[1].strip() else ""


def _quoted(text: str) -> list[str]:
    """Values a sentence repeats: quoted ones first, then what stands alone at its beginning or after a colon."""
    quoted = [match[2] for match in _QUOTED.finditer(text) if match[2]]
    loose = re.findall(r"(?:^|\n|: |\()(-?\d+(?:\.\d+)?|[\w.+@\-]{3,80})(?= |$|\)|,|\.$)", text)
    words = [word for part in text.split() if len(word := part.strip(".,:;()")) > 2 and re.search(r"[_@\d]", word)]
    return list(dict.fromkeys([*quoted, *loose, *words]))[:30]


_LIST = re.compile(
    r"(?:one of(?: the following| these)?(?: values| options)?|allowed values(?: are)?|valid (?:values"
    r"|options|choices)(?: are)?|(?:must|should) be(?: either| equal to)?(?: one of(?: the)?)?|enum value set"
    r"|accepted values(?: are)?)\s*:?\s*"
    r"(.{1,300})",
    re.I | re.S,
)


def _allowed_in(text: str) -> tuple[Json, ...]:
    """Return the values a sentence offers: quoted, in brackets, or between commas, bars and an `or`."""
    found = _LIST.search(text)
    if not found:
        return ()
    rest = found[1].partition(". ")[0].strip().rstrip(".")
    quoted = re.findall(r"'([^']{1,60})'|\"([^\"]{1,60})\"|`([^`]{1,60})`", rest)
    values = [next(part for part in parts if part) for parts in quoted]
    if len(values) == 1 and "," in values[0]:
        values = values[0].split(",")
    if not values:
        rest = rest.strip("[](){} ")
        if not re.search(r",|\||\bor\b", rest):
            return ()
        values = re.split(r"\s*(?:,\s*(?:or|and)\b|,|\||\bor\b|\band\b)\s*", rest)
    cleaned = [value.strip(" '\"`[]()") for value in values]
    if len(cleaned) < 2 or any(len(value) > 40 or value.count(" ") > 2 for value in cleaned):
        return ()
    return tuple(value for value in cleaned if value)[:100]

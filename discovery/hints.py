"""What an error body says was wrong with the request: where, why, what would be allowed.

Places come from two sources: paths that the body gives (`discovery.complaints`), and names and values inside
its sentences. Both are looked up in the request as it was sent (`discovery.slots`); a name found nowhere is
believed only when it is said to be missing, or when nothing is known of the request. So a hint points at
something that was sent, or at where something lacking would go; a sentence that names nothing gives no hint.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace

from discovery.body import Kind
from discovery.complaints import Complaint
from discovery.exchange import SAFE_METHODS, Json, Request
from discovery.lexical import plain
from discovery.naming import (
    ASSIGNED,
    CODED,
    FIELDS_TOO,
    IN_QUERY,
    NO_FIELDS,
    NO_NAMES,
    NOT_PARSED,
    POINTER,
    VALUE,
    VERB,
    allowed_in,
    first_line,
    is_technical,
    names_in,
    phrase_of,
    plain_quotes,
    sentences_of,
    values_in,
)
from discovery.phrasings import phrases_of
from discovery.pointer import Path, path_of, place_of, pointer_of
from discovery.reasons import Reason, reason_of, said_reason
from discovery.slots import (
    Slots,
    find_place,
    is_named_by,
    lacking_kin,
    pair_value,
    slots_of,
    value_at,
    values_like,
)

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
    return tuple(
        hint for hint in found.values() if not _is_summary(hint, found) and not reader.is_echo(hint, found)
    )[:MAX_HINTS]


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
        text = plain_quotes(complaint.text)
        reason = reason_of(text, complaint.codes)
        path = complaint.path
        if (
            path
            and len(path) > 1
            and [str(part) for part in path] == self.slots.path.strip("/").split("/")[-len(path) :]
        ):
            complaint = replace(
                complaint, path=(path := None)
            )  # the resource's own path, told beside the complaint
        if path and isinstance(path[-1], int) and (assigned := ASSIGNED.search(text)):
            complaint = replace(
                complaint, path=(*path, assigned[1].lower() if assigned[1].isupper() else assigned[1])
            )
        allowed = complaint.allowed or allowed_in(text)
        if complaint.path is None:
            yield from self.sentences(text, reason, allowed, complaint)
            return
        hint = self.placed(complaint.path, reason, complaint)
        if hint is not None and reason is Reason.MISSING and (other := self.told_otherwise(hint, complaint, text)):
            hint = other
        if hint is None or (hint.where == "path" and complaint.where != "path") or self.is_bare(hint):
            traced = list(self.values(text, reason))
            if traced:
                yield from (replace(h, allowed=allowed, message=first_line(complaint.text)) for h in traced)
                return
        if hint is not None:
            yield replace(hint, allowed=allowed, message=first_line(complaint.text))

    def told_otherwise(self, hint: Hint, complaint: Complaint, text: str) -> Hint | None:
        """What a sentence names in so many words, where the place given with it is nowhere in the request."""
        given = plain(hint.pointer.rpartition("/")[2])
        if given in plain(text) or not given or hint.where != "body" or self.slots.silent:
            return None
        if find_place(self.slots, complaint.path or (), given=True)[1]:
            return None
        named = list(self.named(text, (), hint.reason, True))
        sure = [other for other in named if is_technical(other.pointer.rpartition("/")[2])]
        return sure[0] if len(sure) == 1 else None

    def is_echo(self, hint: Hint, found: Iterable[tuple[str, str]]) -> bool:
        """A name at the root, where nothing was sent, that was told with its whole place as well."""
        return (
            hint.where == "body"
            and hint.pointer.count("/") == 1
            and any(pointer.endswith(hint.pointer) and pointer != hint.pointer for _, pointer in found)
            and value_at(self.slots.body, place_of(hint.pointer)) is None
        )

    def is_bare(self, hint: Hint) -> bool:
        """A place in the body where nothing was sent, of which more is said than that something lacks."""
        told = (
            hint.reason not in (Reason.MISSING, Reason.UNKNOWN) and hint.where == "body" and not self.slots.silent
        )
        return told and value_at(self.slots.body, place_of(hint.pointer)) is None

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
        place, there = find_place(self.slots, path, given=True)
        if there:
            return Hint(pointer_of(place), reason)
        place = (*place[:-1], styled(self.slots, place)) if place else place
        if pair := pair_value(self.slots, name):
            return Hint(pointer_of(pair), reason)
        if key := self.slots.query_name(name):
            return Hint(pointer_of((key,)), reason, where="query")
        if any(header.lower() == name.lower().encode() for header, _ in self.request.headers) and "-" in name:
            return Hint(pointer_of(path), reason, where="header")
        inside = reason in (Reason.MISSING, Reason.UNKNOWN) or self.slots.silent or where == "body"
        if inside or (isinstance(self.slots.body, dict) and not self.in_path(name)):
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
            yield from self.coded(complaint.codes)
            return
        if phrases := phrases_of(text):
            for phrase in phrases:
                why = reason_of(phrase.text, (*phrase.codes, *complaint.codes))
                hint = self.placed(phrase.path, why, replace(complaint, where=complaint.where or "body"))
                if hint is not None:
                    yield replace(hint, allowed=allowed or allowed_in(phrase.text), message=first_line(text))
            return
        seen = False
        base: Path = ()
        if said := POINTER.search(text):
            base, text = path_of(said[1]), text[: said.start()] + text[said.end() :]
        whole = text
        for part in sentences_of(text):
            own = said_reason(part)
            why = reason_of(part, complaint.codes) if own else reason
            for hint in self.named(part, base, why, own is not None):
                seen = True
                yield replace(hint, allowed=allowed or allowed_in(part), message=first_line(part))
        if not seen and said_reason(whole):
            for hint in self.values(whole, reason):
                seen = True
                yield replace(hint, allowed=allowed, message=first_line(whole))
        if not seen and base:
            yield Hint(pointer_of(find_place(self.slots, base)[0]), reason, allowed, first_line(whole))
        elif not seen and (coded := list(self.coded(complaint.codes))):
            yield from (replace(hint, message=first_line(whole)) for hint in coded)
        elif not seen and self.slots.kind is Kind.UNREADABLE and NOT_PARSED.search(whole):
            yield Hint("", Reason.FORMAT, (), first_line(whole))

    def coded(self, codes: tuple[str, ...]) -> Iterator[Hint]:
        """Names inside codes: `amount_invalid`, `source_required` speak of `amount` and `source`."""
        for code in codes:
            found = CODED.fullmatch(code)
            name = plain(found[1] or found[2]) if found else ""
            if not name or name in NO_NAMES or name in NO_FIELDS:
                continue
            place, there = find_place(self.slots, (found[1] or found[2],)) if found else ((), False)
            if there or (found and found[1] and reason_of("", (code,)) is Reason.MISSING and not self.bodyless):
                yield Hint(pointer_of(place), reason_of("", (code,)))

    def named(self, text: str, base: Path, reason: Reason, told: bool) -> Iterator[Hint]:
        """Names in a sentence: technical or quoted ones first, then plain words standing where names do."""
        taken: set[str] = set()
        choice = reason is Reason.MISSING and _CHOICE.search(text) is not None
        for name, sure, position in names_in(VALUE.sub(" ", text)):
            if plain(name) in taken or plain(name) == "required":
                continue
            if plain(name) in NO_NAMES and not (sure and position) and not self.leads(name, text):
                continue
            hint = self.lookup(name, base, reason, sure, position, told, text)
            if hint is not None and not (choice and self.is_chosen(hint, text)):
                taken |= {plain(name), plain(str(path_of(name)[-1]))}
                if "_" in name:
                    taken.add(plain(name.rpartition("_")[2]))
                yield hint
        if not taken and told and (hint := self.opening(text, reason)):
            yield hint

    def is_chosen(self, hint: Hint, text: str) -> bool:
        """Of alternatives, one that was not sent where another was, however empty: `missing the 'a' or 'b'`."""
        sent = [key for key in self.slots.query if re.search(rf"\b{re.escape(key)}\b", text)]
        return hint.where == "query" and bool(sent) and hint.pointer[1:] not in sent

    def opening(self, text: str, reason: Reason) -> Hint | None:
        """The field whose name, as people write it, opens the sentence: `Content for A record must be ..`."""
        words = re.findall(r"[A-Za-z]+", text[:80])[:3]
        for count in range(len(words), 0, -1):
            places = self.slots.by_name.get("".join(words[:count]).lower(), [])
            if places and text[:1].isupper() and len(words[0]) > 2:
                return Hint(pointer_of(places[0]), reason)
        return None

    def leads(self, name: str, text: str) -> bool:
        """A word such as `name` or `type` that opens a sentence about itself, where such a field was sent."""
        return (
            plain(name) in FIELDS_TOO
            and plain(name) in self.slots.by_name
            and re.match(rf"{name}(?: {VERB}| only |: )", text, re.I) is not None
        )

    def lookup(
        self, name: str, base: Path, reason: Reason, sure: bool, position: bool, told: bool, text: str
    ) -> Hint | None:
        path = base + path_of(name)
        if not path:
            return None
        if not base and (self.bodyless or IN_QUERY.search(text)) and (key := self.slots.query_name(name)):
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
            where = "query" if self.bodyless or IN_QUERY.search(text) else "body"
            if place and "_" in name and name == phrase_of(text):
                if self.slots.silent:
                    return None
                resource, _, rest = name.partition("_")
                place = (*place[:-1], rest if is_named_by(self.slots.path, resource) else name)
            place = (*place[:-1], styled(self.slots, place)) if place else place
            return Hint(pointer_of(path if where == "query" else place), reason, where=where)
        if self.slots.silent and sure and name != phrase_of(text):
            return Hint(pointer_of(path), reason, where="query" if self.bodyless else "body")
        return None

    def values(self, text: str, reason: Reason) -> Iterator[Hint]:
        """Values repeated in a sentence, traced to the one slot that holds them."""
        for value in values_in(text):
            places = values_like(self.slots, value)
            if len(places) == 1:
                yield Hint(pointer_of(places[0]), reason)
                return
            keys = [key for key, held in self.slots.query.items() if held == value]
            if len(keys) == 1 and not places:
                yield Hint(pointer_of((keys[0],)), reason, where="query")
                return


_CHOICE = re.compile(r"['\"`\]] or ['\"`\[]|\b\w+,? or \w+ (?:parameter|field)")


def styled(slots: Slots, place: Path) -> str:
    """Return the name of something lacking as its siblings are written: `Due date is required` is `due_date`.

    A name that its form shows to be one (`dueDate`) is left as it is, and so is one with nothing beside it.
    """
    name = str(place[-1])
    around = next(
        (node for end in range(len(place) - 1, -1, -1) if (node := value_at(slots.body, place[:end]))), None
    )
    keys = list(around) if isinstance(around, dict) else []
    if re.fullmatch(r"[a-z]+(?:_[a-z]+)+", name):
        camel = any(re.search(r"[a-z][A-Z]", key) for key in keys) and not any("_" in key for key in keys)
        return re.sub(r"_([a-z])", lambda found: found[1].upper(), name) if camel else name
    if is_technical(name) or not keys or not name[:1].isupper() or any(key[:1].isupper() for key in keys):
        return name
    return name.lower() if name.isupper() or name[1:].islower() else name[:1].lower() + name[1:]

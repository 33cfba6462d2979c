"""From drift to an adaptation: which edits would lead back to the pin, and what proves each.

`compose()` asks of every drift whether the pin's place can still be served. A rename or a move needs proof by
values, entity by entity, and no rival: no other field that went or came, or stood there with the same values all
along, may fit as well. A value in another form must be convertible without a loss, and be the same value. What
only looks alike becomes a suggestion; what nothing brings back is lost.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import reduce

from discovery.adapt import Adaptation, Evidenced, verify
from discovery.drift import Drift
from discovery.drift_watch import Seen, Words
from discovery.edits import (
    Coerce,
    Default,
    Edit,
    EnumMap,
    Form,
    Lost,
    Move,
    Rename,
    ToList,
    ToScalar,
    Unwrap,
    Wrap,
)
from discovery.exchange import Json
from discovery.lexical import words_of
from discovery.pointer import name_of, parent_of
from discovery.proof import ENTITIES, Agreement, Eras, eras_of
from discovery.shape import DIGITS, WHOLE, Place, Shape, merged, misfits, shape_of

MAX_WAYS = 60
"""Places of an answer that are tried as the new seat of a payload: the outermost ones."""

SPELLED = 3
"""Entities that must show a word's new spelling: letters say the rest."""

_TIMELY = frozenset(
    [
        "at",
        "on",
        "time",
        "date",
        "timestamp",
        "created",
        "updated",
        "modified",
        "expires",
        "since",
        "until",
        "start",
        "end",
    ]
)


def compose(
    drifts: Sequence[Drift],
    pin: Shape,
    examples: Sequence[Json],
    answers: Sequence[Seen] = (),
    words: Words | None = None,
) -> Adaptation:
    """Return the adaptation for the drifts of one operation's answers of one status.

    `examples` are answers as they are now, without values (`discovery.shape.example_of`); `answers` is the traffic
    the drift was told from, in which proof is looked for; `words` its short values. An edit that does not replay
    on the examples is not sure.
    """
    case = _Case(pin, reduce(merged, map(shape_of, examples), Shape()), tuple(drifts), tuple(answers), words or {})
    found = list(_translated([one for drift in drifts for one in case.edits_for(drift)]))
    settled = [
        one
        if not one.sure or isinstance(one.edit, Lost) or verify(_with_outer(one, found), examples, pin)
        else replace(one, sure=False, why=f"{one.why}; but it does not replay on every answer seen")
        for one in found
    ]
    return Adaptation(tuple(sorted(settled, key=_order)))


def weighable(drifts: Sequence[Drift], answers: Sequence[Seen]) -> bool:
    """Do these answers show enough entities from before and since the changes to prove something, or refute it?

    A process that came late has seen neither; what another one proved stands until somebody can weigh it.
    """
    case = _Case(Shape(), Shape(), tuple(drifts), tuple(answers), {})
    return any(case.eras(drift).met >= ENTITIES for drift in drifts)


@dataclass(frozen=True)
class _Case:
    pin: Shape
    now: Shape
    drifts: tuple[Drift, ...]
    answers: tuple[Seen, ...]
    words: Words

    def edits_for(self, drift: Drift) -> Iterator[Evidenced]:
        place = self.pin.places.get(drift.pointer)
        match drift.kind:
            case "envelope-changed":
                yield from self.enveloped(drift)
            case "field-renamed" | "field-moved" if (old := self.pin.places.get(drift.before)) is not None:
                yield from self.moved(drift, old)
            case "type-changed" if place is not None and (new := self.now.places.get(drift.pointer)):
                if not new.types <= place.types:
                    yield self.retyped(drift, place, new)
            case "enum-extended" if place is not None:
                yield from self.respelled(drift)
            case "became-optional" if place is not None and place.always and "null" in place.kinds:
                why = "the pin has null where nothing is known, and it is left out now"
                yield Evidenced(Default(drift.pointer, None), False, why, _lost(drift.pointer, place))
            case "field-removed" if place is not None and (seat := self.seat_of(drift)):
                yield from self.moved(replace(drift, before=drift.pointer, after=seat), place)
            case "field-removed" | "became-optional" | "became-nullable" if place is not None:
                yield Evidenced(_lost(drift.pointer, place), True, f"{drift.kind}: no evidence brings it back")

    # Places

    def moved(self, drift: Drift, old: Place) -> Iterator[Evidenced]:
        before, after = drift.before, drift.after
        lost = _lost(before, old)
        new = self.now.places.get(after)
        if after in self.pin.places or new is None or not old.always <= new.always:
            yield Evidenced(lost, True, f"{after} cannot stand for it")
            return
        eras = self.eras(drift)
        agreement = eras.agreement(before, after)
        rivals = self.rivals(eras, before, after)
        against = eras.contradicted(before, after) if agreement.proves else []
        sure = agreement.proves and not rivals and not against
        why = _said(agreement) + (f"; but {', '.join(rivals[:3])} would fit as well" if rivals else "")
        why += _against(against)
        edit = Rename(before, after) if parent_of(before) == parent_of(after) else Move(before, after)
        turned = None
        if not new.types <= old.types:
            turned = _conversion(before, old, new)
            if turned is None:
                yield Evidenced(lost, True, f"{after} is of another type")
                return
        yield Evidenced(edit, sure, why, lost)
        if turned is not None:
            yield Evidenced(turned, sure and not _is_of_time(turned), why, lost)

    def seat_of(self, drift: Drift) -> str | None:
        """Return a new place, inside something that came, where the values of a field that went stand now."""
        eras = self.eras(drift)
        return next((at for at in self.came("") if eras.agreement(drift.pointer, at).proves), None)

    def came(self, beside: str) -> list[str]:
        """Return the places that the pin did not know, outermost first, less those in or around `beside`."""
        return [
            at
            for at in sorted(self.now.places, key=lambda at: (at.count("/"), at))[:MAX_WAYS]
            if at not in self.pin.places
            and not (beside and (f"{at}/".startswith(f"{beside}/") or f"{beside}/".startswith(f"{at}/")))
        ]

    def rivals(self, eras: Eras, before: str, after: str) -> list[str]:
        """Return places that would fit as well as this pair: then values do not tell which it is."""
        paired = [drift for drift in self.drifts if drift.kind in ("field-renamed", "field-moved")]
        went = {drift.pointer for drift in self.drifts if drift.kind == "field-removed"}
        went |= {drift.before for drift in paired}
        found = list(eras.twins(before))
        found += [place for place in sorted(went - {before}) if _fits(eras.agreement(place, after))]
        found += [place for place in self.came(after) if _fits(eras.agreement(before, place))]
        return list(dict.fromkeys(found))

    def enveloped(self, drift: Drift) -> Iterator[Evidenced]:
        """The payload has another seat: inside something new, out of something old, or member by member."""
        eras = self.eras(drift)
        found: list[tuple[Edit, Agreement]] = []
        if "array" in self.now.places.get("", Place(frozenset(), 0, 0)).kinds and not misfits(
            Shape(self.now.below("/*")), self.pin
        ):
            found.append((ToList(""), eras.agreement("", "/*")))
        for seat in _seats(self.now):
            if not misfits(Shape(self.now.below(seat)), self.pin):
                found.append((Wrap(seat), eras.agreement("", seat)))
        if not found:
            for seat in _seats(self.pin):
                inner = Shape(self.pin.below(seat))
                if inner.places.keys() - {""} and not misfits(self.now, inner):
                    found.append((Unwrap(seat), eras.agreement(seat, "")))
        proved = [one for one in found if one[1].proves]
        if found:
            edit, agreement = (proved or found)[0]
            against = eras.contradicted(*_seated(edit)) if len(proved) == 1 else []
            sure = len(proved) == 1 and not against
            why = _said(agreement) + _against(against)
            yield Evidenced(edit, sure, why, Lost("", tuple(sorted(self.pin.places[""].types))))
            if isinstance(edit, Unwrap):
                yield from (
                    Evidenced(_lost(at, place), True, "it stood beside what is left")
                    for at, place in self.pin.places.items()
                    if place.always and at.count("/") == 1 and not f"{edit.at}/".startswith(f"{at}/")
                )
            return
        for at, place in self.pin.places.items():
            if at.count("/") == 1 and at not in self.now.places:
                yield from self.reseated(eras, at, place)

    def reseated(self, eras: Eras, at: str, place: Place) -> Iterator[Evidenced]:
        """A member of an old envelope: where in the new one its values stand now, if one place alone has them."""
        inner = Shape(self.pin.below(at))
        seats = [
            seat
            for seat in _seats(self.now)
            if seat not in self.pin.places and not misfits(Shape(self.now.below(seat)), inner)
        ]
        proved = [(seat, met) for seat in seats if (met := eras.agreement(at, seat)).proves]
        if len(proved) != 1 or eras.twins(at):
            if place.always:
                yield Evidenced(_lost(at, place), True, "no one place has its values now")
            return
        seat, agreement = proved[0]
        edit = Rename(at, seat) if parent_of(seat) == "" else Move(at, seat)
        against = eras.contradicted(at, seat)
        yield Evidenced(edit, not against, _said(agreement) + _against(against), _lost(at, place))

    # Values

    def retyped(self, drift: Drift, old: Place, new: Place) -> Evidenced:
        at = drift.pointer
        lost = _lost(at, old)
        turned = _conversion(at, old, new)
        if turned is None:
            return Evidenced(lost, True, "its values cannot be turned into what they were without a loss")
        eras = self.eras(drift)
        before, after = (at + "/*" * isinstance(turned, kind) for kind in (ToScalar, ToList))
        agreement = eras.agreement(before, after)
        whole = agreement.proves and agreement.same == agreement.compared  # one lost zero is a loss
        return Evidenced(turned, whole and not _is_of_time(turned), _said(agreement), lost)

    def respelled(self, drift: Drift) -> Iterator[Evidenced]:
        """Words of a closed set that are spelled another way since: proved by entities that showed the old word,
        and by letters. That an entity is in another state now is no new spelling."""
        known = self.words.get(drift.pointer) or {}
        units = self.eras(drift).units
        first: dict[str, int] = {}
        last: dict[str, int] = {}
        was: dict[int, str] = {}
        shown: Counter[tuple[str, str]] = Counter()
        for seen in self.answers:
            words = _words_at(seen, drift.pointer, known)
            if len(words) != 1 or seen.seq not in units:
                continue
            word = words.pop()
            first.setdefault(word, seen.seq)
            last[word] = seen.seq
            before = was.setdefault(units[seen.seq], word)
            shown[before, word] += before != word
        found = tuple(
            sorted(
                (old, new)
                for (old, new), count in shown.items()
                if count >= SPELLED
                and last[old] < first[new]
                and _spelling(old) == _spelling(new)
                and sum(n > 0 and (old == other or new == more) for (other, more), n in shown.items()) == 1
            )
        )
        if found:
            yield Evidenced(EnumMap(drift.pointer, found), True, "the same entities, spelled another way since")

    def eras(self, drift: Drift) -> Eras:
        status = drift.where.removeprefix("response.")
        since = drift.evidence.get("answer")
        if not self.answers or not isinstance(since, int) or not status.isdigit():
            return Eras()
        return eras_of(self.answers, since, int(status))


def _conversion(at: str, old: Place, new: Place) -> Coerce | ToList | ToScalar | None:
    """Return the lossless edit between two kinds of value, if there is one. Null stays null on either side."""
    was, now = old.kinds - {"null"}, new.kinds - {"null"}
    if "null" in new.kinds and "null" not in old.kinds:
        return None
    if now == {"array"} and "array" not in was:
        return ToList(at)
    if was == {"array"} and "array" not in now:
        return ToScalar(at)
    if was and now:
        digits = {kind for kind in now if kind.startswith(DIGITS)}
        if was <= WHOLE and now == digits:
            return Coerce(at, Form.NUMBER, Form.NUMERIC)
        if was <= WHOLE | {"number"} and "number" in was and now <= digits | {"decimal-text"}:
            return Coerce(at, Form.NUMBER, Form.NUMERIC)
        if len(was) > 1 and all(kind.startswith(DIGITS) for kind in was) and now <= WHOLE:
            return Coerce(at, Form.NUMERIC, Form.NUMBER)
        if set(words_of(name_of(at))) & _TIMELY:
            for kind, form in (("epoch", Form.EPOCH), ("epoch-ms", Form.EPOCH_MS)):
                if was == {kind} and now <= {"date-time", "other-date-time"}:
                    return Coerce(at, form, Form.DATE_TIME)
                if was == {"date-time"} and now == {"epoch"} == {kind}:
                    return Coerce(at, Form.DATE_TIME, form)
    return None


def _is_of_time(edit: Edit) -> bool:
    """Hashes of a time's two forms differ, so values prove nothing: a person decides."""
    return isinstance(edit, Coerce) and Form.DATE_TIME in (edit.before, edit.after)


# Order


def _order(one: Evidenced) -> tuple[int, int]:
    """On the way forward: values, then members from the innermost out, then the whole."""
    match one.edit:
        case Wrap() | Unwrap() | ToList(at=""):
            return 2, 0
        case Rename(before=before, after=after) | Move(before=before, after=after):
            return 1, -max(before.count("/"), after.count("/"))
        case _:
            return 0, 0


def _translated(found: Sequence[Evidenced]) -> Iterator[Evidenced]:
    """Inside what was renamed or moved, say places as they are once that is undone."""
    outer = [one.edit for one in found if isinstance(one.edit, Rename | Move)]
    for one in found:
        if isinstance(one.edit, Rename | Move):
            after = one.edit.after
            for around in outer:
                if after.startswith(around.after + "/"):
                    after = around.before + after[len(around.after) :]
            if parent_of(after) == parent_of(one.edit.before):
                yield replace(one, edit=Rename(one.edit.before, after))
            else:
                yield replace(one, edit=Move(one.edit.before, after))
        else:
            yield one


def _with_outer(one: Evidenced, found: Iterable[Evidenced]) -> list[Edit]:
    """An edit with those that it stands on, in order."""
    inside = [other for other in found if other.place == one.place or _around(other.edit, one.place)]
    return [other.edit for other in sorted(inside, key=_order)]


def _around(edit: Edit, place: str) -> bool:
    match edit:
        case Wrap() | Unwrap() | ToList(at=""):
            return True
        case Rename(before=before) | Move(before=before):
            return f"{place}/".startswith(f"{before}/")
        case _:
            return False


# Small parts


def _lost(at: str, place: Place) -> Lost:
    return Lost(at, tuple(sorted(place.types)))


def _fits(agreement: Agreement) -> bool:
    return agreement.same >= max(2, 0.8 * agreement.compared)


def _seats(shape: Shape) -> list[str]:
    """Places below the root that could hold a payload, outermost first."""
    below = [at for at, place in shape.places.items() if at and "*" not in at and place.always]
    return sorted(below, key=lambda at: at.count("/"))[:MAX_WAYS]


def _words_at(seen: Seen, pointer: str, known: dict[int, str | float]) -> set[str]:
    for row, told in zip(seen.answer.rows, seen.answer.hashes, strict=True):
        if row.pointer == pointer:
            return {word for value in told if isinstance(word := known.get(value), str)}
    return set()


def _spelling(word: str) -> str:
    """A word less case, separators and doubled letters: `IN_PROGRESS` is `in-progress`, `canceled` `cancelled`."""
    return re.sub(r"(.)\1", r"\1", re.sub(r"[\W_]", "", word).lower())


def _seated(edit: Edit) -> tuple[str, str]:
    """Return where the payload was, and where it is, by an edit of an envelope."""
    match edit:
        case Wrap(at=at):
            return "", at
        case Unwrap(at=at):
            return at, ""
    return "", "/*"


def _against(places: Sequence[str]) -> str:
    if not places:
        return ""
    return f"; but {', '.join(sorted(places)[:3])} in it is another value now"


def _said(agreement: Agreement) -> str:
    if not agreement.compared:
        return "no entity was seen before and after"
    return (
        f"{agreement.same} of {agreement.compared} entities show the same value there ({agreement.bits:.0f} bits)"
    )

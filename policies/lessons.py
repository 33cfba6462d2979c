"""What refusals taught about an operation's requests, and when a refusal is news at all.

`Lessons` are an operation's, for all workflow types: how requests are mended before their first sending, and how
far that is trusted (`policies.ladder`). Beside them stands which requests of each type the upstream took before
it changed: only against them can one tell a workflow's own mistake, which is its to see, from an upstream that
moved. Lessons hold places and names, and of values only those that an answer allowed or a person configured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from discovery import shape
from discovery.body import Kind, form_tree, read_body
from discovery.exchange import Json, Request
from discovery.hints import Hint, Reason
from discovery.shape import Shape, merged, shape_of
from policies import ladder
from policies.actions import Mended
from policies.ladder import Adapt, Rung, Standing
from policies.repair import FillField, Mend, RenameField, SpellField, WriteField, starred

TAKEN = 10
"""Accepted requests of a type that are looked at: as many as pin its answers."""

LARGE = 64 * 1024
"""Bytes of a request beyond which it is not looked at."""

_KINDS: dict[str, type[Any]] = {kind.__name__: kind for kind in (RenameField, WriteField, SpellField, FillField)}


@dataclass(frozen=True, slots=True)
class Lessons:
    """One operation's. `pending` are mends that are suggested and wait for a person; `word` counts decisions."""

    operation: str
    mends: tuple[Mend, ...] = ()
    pending: tuple[Mend, ...] = ()
    standing: Standing = field(default_factory=Standing)
    taken: Mapping[str, Shape] = field(default_factory=dict)  # by workflow type
    word: int = 0

    def holds_for(self, instance: str, setting: Adapt | None) -> bool:
        """Are an instance's requests mended before their first sending?"""
        return bool(self.mends) and ladder.applies(self.standing, instance, setting)

    def state(self) -> Json:
        """Return the lessons as JSON; `load` is its inverse."""
        return {
            "operation": self.operation,
            "mends": [told(mend) for mend in self.mends],
            "pending": [told(mend) for mend in self.pending],
            "standing": self.standing.state(),
            "taken": {type: taken.state() for type, taken in self.taken.items()},
            "word": self.word,
        }


def load(state: dict[str, Any]) -> Lessons:
    """Return the lessons whose `state` this is."""
    return Lessons(
        state["operation"],
        tuple(map(_read, state["mends"])),
        tuple(map(_read, state["pending"])),
        ladder.load(state["standing"]),
        {type: shape.load(taken) for type, taken in state["taken"].items()},
        state["word"],
    )


def told(mend: Mend) -> dict[str, Json]:
    """Return one mend as JSON, as the transcript and the store have it."""
    return {"edit": type(mend).__name__.removesuffix("Field").lower(), **asdict(mend)}


def said(mend: Mend) -> str:
    """Return one mend as a clause for people: how the field goes out."""
    match mend:
        case RenameField(_, before, after):
            return f"{before} goes out as {after}"
        case WriteField(_, pointer, form):
            return f"{pointer} goes out as {form}"
        case SpellField(_, pointer, before, after):
            return f"{pointer} goes out as {after} for {before}"
        case FillField(_, pointer, source):
            return f"{pointer} is filled from {'what is ' * (source != 'history')}{_SOURCES[source]}"


_SOURCES = {"config": "configured", "allowed": "allowed", "history": "the instance's history"}


def _read(state: dict[str, Any]) -> Mend:
    kind = _KINDS[f"{state['edit'].capitalize()}Field"]
    mend: Mend = kind(**{name: state[name] for name in kind.__slots__})
    return mend


def is_sure(mend: Mend) -> bool:
    """Does a mend hold without a person's word? The answer spelled out the name, a person wrote the value, or
    it is the only one that this instance knows of the very thing."""
    match mend:
        case RenameField():
            return True
        case FillField(source="config" | "history"):
            return True
        case _:
            return False


def may_be_made(mends: Sequence[Mend], lessons: Lessons, setting: Adapt | None) -> bool:
    """Tell whether a refused request goes out mended, as the upstream's `adapt` and a person have it."""
    if setting == "observe" or lessons.standing.stopped:
        return False
    approved = {*lessons.mends} if lessons.standing.approved else set()
    if setting == "suggest":
        return approved.issuperset(mends)
    return setting == "auto" or all(is_sure(mend) or mend in approved for mend in mends)


def is_news(hint: Hint, request: Request, taken: Shape | None) -> bool:
    """Does a refusal ask for what the upstream did without? Requests of this type were accepted without the field
    it misses, with the field it does not know, or with a value of the kind it does not take."""
    if taken is None or not taken.answers or hint.where not in ("body", "query"):
        return False
    at = f"/{hint.where}{starred(hint.pointer)}"
    known = taken.places.get(at)
    match hint.reason:
        case Reason.MISSING:
            return at.rpartition("/")[0] in taken.places and not (known and known.always)
        case Reason.UNKNOWN:
            return known is not None
        case Reason.TYPE:
            here = shape_of(_tree(request)).places.get(at)
            return known is not None and here is not None and here.types <= known.types
        case _:
            return False


def as_written(hint: Hint, before: Mended | None) -> Hint:
    """Return a hint about a request that was mended, in the names its workflow has."""
    for mend in before.mends if before else ():
        if isinstance(mend, RenameField) and (mend.where, mend.after) == (hint.where, starred(hint.pointer)):
            return replace(hint, pointer=mend.before)
    return hint


def accepted_request(lessons: Lessons, type: str, request: Request) -> Lessons:
    """The upstream took a request as its workflow wrote it."""
    before = lessons.taken.get(type, Shape())
    return replace(lessons, taken={**lessons.taken, type: merged(before, shape_of(_tree(request)))})


def has_seen(lessons: Lessons | None, type: str) -> bool:
    """Are enough accepted requests of a type known?"""
    return lessons is not None and type in lessons.taken and lessons.taken[type].answers >= TAKEN


def fared(lessons: Lessons, mends: Sequence[Mend], instance: str, setting: Adapt | None, *, well: bool) -> Lessons:
    """A mended request was accepted, or refused once more over what was mended."""
    if well:
        new = tuple(mend for mend in mends if mend not in lessons.mends)
        standing = lessons.standing
        if standing.rung in (Rung.OBSERVE, Rung.SUGGEST) and not standing.stopped:
            standing = replace(standing, rung=ladder.first(setting, sure=True))
        standing = ladder.told(ladder.seen(standing, instance), adapted=True, well=True)
        pending = tuple(mend for mend in lessons.pending if mend not in mends)
        return replace(lessons, mends=lessons.mends + new, pending=pending, standing=standing)
    if not set(mends) & set(lessons.mends):
        return lessons
    standing = ladder.told(lessons.standing, adapted=True, well=False)
    if standing.adapted.bad >= ladder.WORSE and standing.adapted.bad * 2 > standing.adapted.all:
        standing = ladder.halted(standing, f"{round(standing.adapted.bad)} mended requests were refused")
    return replace(lessons, standing=standing)


def suggested(lessons: Lessons, mends: Sequence[Mend]) -> Lessons:
    """A repair would help that only a person may allow."""
    new = tuple(mend for mend in mends if mend not in (*lessons.pending, *lessons.mends))
    return replace(lessons, pending=lessons.pending + new) if new else lessons


def approved(lessons: Lessons) -> Lessons:
    """A person accepted the suggested mends: they are made from now on."""
    standing = ladder.accepted(lessons.standing)
    mends = (*lessons.mends, *lessons.pending)
    return replace(lessons, mends=mends, pending=(), standing=standing, word=lessons.word + 1)


def held(lessons: Lessons) -> Lessons:
    """A person holds the operation: its requests go out as they are written."""
    return replace(lessons, standing=ladder.halted(lessons.standing), word=lessons.word + 1)


def forgotten(lessons: Lessons) -> Lessons:
    """The workflows were changed: what was taught is no longer needed."""
    return Lessons(lessons.operation, word=lessons.word + 1)


def ahead(mine: Lessons, theirs: Lessons) -> Lessons:
    """Return which of two processes' lessons holds: the latest word of a person, then the one that knows more."""
    return max(mine, theirs, key=_knowledge)


def _knowledge(lessons: Lessons) -> tuple[float, ...]:
    seen = sum(taken.answers for taken in lessons.taken.values())
    known = len(lessons.mends) + len(lessons.pending)
    return lessons.word, lessons.standing.stopped, known, lessons.standing.adapted.all, seen


def _tree(request: Request) -> Json:
    body = read_body(request.headers, request.body)
    query = form_tree(request.query.decode("utf-8", "replace")) if request.query else {}
    return {"body": body.value if body.kind in (Kind.JSON, Kind.FORM) else None, "query": query}

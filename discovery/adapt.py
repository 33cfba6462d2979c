"""Adaptations: how to get from the shape a workflow was written for to the one an upstream has now, and back.

`forward()` and `back()` rewrite a body by an adaptation's edits and touch no other byte of it; `verify()` replays
them on what was seen. Where the edits come from is `discovery.amend`. An edit is *sure* where values prove it; any
other is a suggestion, in force once a person accepted it. What no evidence brings back is `Lost`: it stays absent,
and is counted.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from discovery.edits import (
    Coerce,
    Default,
    Direction,
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
    is_lossless,
    perform,
    place_of,
)
from discovery.exchange import Json
from discovery.shape import Shape, misfits, shape_of
from discovery.splice import open_text


@dataclass(frozen=True, slots=True)
class Evidenced:
    """One edit with what speaks for it. `instead` is what holds while it is neither sure nor accepted."""

    edit: Edit
    sure: bool
    why: str
    instead: Lost | None = None

    @property
    def place(self) -> str:
        return place_of(self.edit)


@dataclass(frozen=True, slots=True)
class Adaptation:
    """From the pin to the contract: edits in the order in which they are made on the way *forward*."""

    edits: tuple[Evidenced, ...] = ()
    from_revision: int | None = None
    to_revision: int | None = None

    def in_force(self, accepted: Collection[str] = ()) -> tuple[Edit, ...]:
        """Return the edits that may be made: the sure ones, and those whose place a person `accepted`."""
        chosen = (one.edit if one.sure or one.place in accepted else one.instead for one in self.edits)
        return tuple(edit for edit in chosen if edit is not None)

    @property
    def suggestions(self) -> tuple[Evidenced, ...]:
        """The edits that wait for a person."""
        return tuple(one for one in self.edits if not one.sure)


@dataclass(frozen=True, slots=True)
class Adapted:
    """A body after its edits: those that changed something, and places of the pin that could not be restored."""

    body: bytes
    done: tuple[Edit, ...] = ()
    degraded: tuple[str, ...] = ()


def back(edits: Sequence[Edit], body: bytes) -> Adapted:
    """Return an answer in the shape of the pin. What is no JSON, or needs no edit, is returned as it came."""
    return _performed(tuple(reversed(edits)), body, "back")


def forward(edits: Sequence[Edit], body: bytes) -> Adapted | None:
    """Return a request in the shape of the contract, or None where the way back would not lead to the same."""
    if not all(map(is_lossless, edits)):
        return None
    there = _performed(tuple(edits), body, "forward")
    if not there.done:
        return there
    again = back(edits, there.body)
    return there if not there.degraded and orjson.loads(again.body) == orjson.loads(body) else None


def _performed(edits: Sequence[Edit], body: bytes, direction: Direction) -> Adapted:
    opened = open_text(body) if edits else None
    if opened is None:
        return Adapted(body)
    lead, root, tail = opened
    done, degraded = [], []
    for edit in edits:
        tally = perform(edit, root, direction)
        if tally.done:
            done.append(edit)
        if tally.left:
            degraded.append(place_of(edit))
    if not done:
        return Adapted(body, (), tuple(degraded))
    return Adapted(f"{lead}{root.text()}{tail}".encode(), tuple(done), tuple(degraded))


def verify(edits: Sequence[Edit], examples: Iterable[Json], pin: Shape) -> bool:
    """Replay `edits` on examples of answers as they are now: nothing of the pin may be worse served than without
    them, each edit's own place must be served well, and none may have to leave a place of any example as it is."""
    mended = {place_of(edit) for edit in edits if not isinstance(edit, Lost | Default | Unwrap)}
    useful: set[Edit] = set()
    for example in examples:
        before = misfits(shape_of(example), pin)
        result = back([edit for edit in edits if not isinstance(edit, Lost)], orjson.dumps(example))
        after = misfits(shape_of(orjson.loads(result.body)), pin)
        if result.degraded or not after <= before or after & mended:
            return False
        useful.update(result.done)
    return all(edit in useful for edit in edits if not isinstance(edit, Lost | Default | EnumMap))


_EDITS: dict[str, type[Any]] = {
    kind.__name__: kind for kind in (Rename, Move, Wrap, Unwrap, ToList, ToScalar, Coerce, EnumMap, Default, Lost)
}


def dump(adaptation: Adaptation) -> Json:
    """Return the adaptation as JSON; `load` is its inverse."""
    return {
        "from": adaptation.from_revision,
        "to": adaptation.to_revision,
        "edits": [
            {
                "sure": one.sure,
                "why": one.why,
                "instead": told(one.instead) if one.instead else None,
                **told(one.edit),
            }
            for one in adaptation.edits
        ],
    }


def load(state: Any) -> Adaptation:
    """Return the adaptation whose `dump` this is."""
    edits = []
    for one in state["edits"]:
        instead = read_edit(one["instead"]) if one["instead"] else None
        assert instead is None or isinstance(instead, Lost)
        edits.append(Evidenced(read_edit(one), one["sure"], one["why"], instead))
    return Adaptation(tuple(edits), state["from"], state["to"])


def told(edit: Edit) -> dict[str, Json]:
    """Return one edit as JSON, as the transcript and the store have it."""
    return {"edit": type(edit).__name__.lower(), **asdict(edit)}


def said(edit: Edit) -> str:
    """Return one edit as a clause for people: how the place comes now."""
    match edit:
        case Rename(before, after) | Move(before, after):
            return f"{before} comes as {after}"
        case Wrap(at):
            return f"all comes inside {at}"
        case Unwrap(at):
            return f"what was inside {at} comes alone"
        case ToList(at):
            return f"{at} comes as a list"
        case ToScalar(at):
            return f"{at} comes out of its list"
        case Coerce(at, before, after):
            return f"{at} comes as {after.value}, not as {before.value}"
        case EnumMap(at):
            return f"words of {at} come spelled otherwise"
        case Default(at):
            return f"{at} comes only where it is not null"
        case Lost(at):
            return f"{at} comes no more"


def read_edit(state: dict[str, Any]) -> Edit:
    """Return the edit that was `told`."""
    kind = next(kind for name, kind in _EDITS.items() if name.lower() == state["edit"])
    members = {name: state[name] for name in kind.__slots__}
    match kind.__name__:
        case "Coerce":
            members |= {"before": Form(state["before"]), "after": Form(state["after"])}
        case "EnumMap":
            members["words"] = tuple((old, new) for old, new in state["words"])
        case "Lost":
            members["types"] = tuple(state["types"])
    edit: Edit = kind(**members)
    return edit

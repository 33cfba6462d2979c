"""Which members of an object are required: what was never missing, weighed by what else is known of the API.

That a member was always there is all that traffic can show. How much it means is told by its surroundings: things
of the same kind elsewhere that lacked it or had null; how an API writes *nothing* (one that never sends null or an
empty list leaves such members out); whether the member names its object; and who sends it: what one client always
sent another may leave out, so requests need more samples than answers. `docs/discovery.md` has the numbers.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from discovery.evidence import Arrays, Node, Nulls, Numbers, Objects, Strings
from discovery.variants import Variant


@dataclass(frozen=True, slots=True)
class Enough:
    """How many objects of a kind must have been seen until what none of them lacked is called required.

    Of the members that 2 answers had, 64 to 100 % (by API) were not missing in any of the recordings this was
    measured on; requests take 5 for as much. What names an object (`id`, `type`) is there from the first. `pooled`
    is the share of an object's kind, over all operations, that must have had it. `never` is for APIs whose callers
    choose which members they get.
    """

    answered: int = 2
    sent: int = 5
    naming: int = 1
    pooled: float = 0.5
    never: bool = False


ENOUGH = Enough()


_NAMING = frozenset({"id", "uuid", "type", "object", "kind", "key", "name", "href"})
"""Members by which an object says what it is."""

OMITTING = 30
"""Members seen in 3 objects each, none ever empty, from which an API is believed to leave out the empty."""

SEEN = 0.01
"""Share of members that may have been empty in an API that leaves out the empty: the odd one is an accident."""


@dataclass(slots=True)
class Thing:
    """Objects of one kind, pooled over all places: how many, and how many had each key, or had null there."""

    names: frozenset[str]
    count: int = 0
    present: dict[str, int] = field(default_factory=dict)
    nulls: dict[str, int] = field(default_factory=dict)


SAME = 0.75
"""Share of common keys (Jaccard) from which two objects are taken for the same kind of thing."""


class Things:
    """Which objects are the same kind of thing, over all of an upstream's answers or (`sent`) of its requests.

    `omits` says that the API leaves out what is empty: nothing was ever null, `""` or `[]`.
    """

    def __init__(self, roots: Iterable[Node], sent: bool = False) -> None:
        self.sent = sent
        members = empty = 0
        found: dict[frozenset[str], Thing] = {}
        for root in roots:
            root.settle()
            for objects in _objects(root):
                self._pool(found, objects)
                if objects.count >= 3:
                    members += len(objects.properties)
                    empty += sum(map(_was_empty, objects.properties.values()))
        self.omits = members >= OMITTING and empty <= SEEN * members
        things: list[Thing] = []
        self._by_names: dict[frozenset[str], Thing] = {}
        index: dict[str, list[Thing]] = {}
        for names in sorted(found, key=lambda names: (-len(names), sorted(names))):
            thing = found[names]
            candidates = {id(other): other for name in sorted(names)[:4] for other in index.get(name, ())}
            for name in sorted(names)[-4:]:
                candidates.update({id(other): other for other in index.get(name, ())})
            best = max(
                candidates.values(),
                key=lambda other: (_jaccard(names, other.names), sorted(other.names)),
                default=None,
            )
            if best is None or _jaccard(names, best.names) < SAME:
                best = Thing(names)
                things.append(best)
                for name in names:
                    index.setdefault(name, []).append(best)
            self._join(best, thing)
            self._by_names[names] = best

    def of(self, objects: Objects) -> Thing | None:
        return self._by_names.get(frozenset(objects.properties))

    @staticmethod
    def _pool(found: dict[frozenset[str], Thing], objects: Objects) -> None:
        names = frozenset(objects.properties)
        thing = found.setdefault(names, Thing(names))
        thing.count += objects.count
        for key, node in objects.properties.items():
            nulls = node.get(Nulls)
            thing.present[key] = thing.present.get(key, 0) + node.count
            thing.nulls[key] = thing.nulls.get(key, 0) + (nulls.count if nulls else 0)

    @staticmethod
    def _join(into: Thing, other: Thing) -> None:
        into.count += other.count
        for key, count in other.present.items():
            into.present[key] = into.present.get(key, 0) + count
        for key, count in other.nulls.items():
            into.nulls[key] = into.nulls.get(key, 0) + count


def _jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    return len(one & other) / (len(one | other) or 1)


def _objects(node: Node) -> Iterable[Objects]:
    if objects := node.get(Objects):
        yield objects
        for inner in objects.properties.values():
            yield from _objects(inner)
        if objects.rest is not None:
            yield from _objects(objects.rest)
    if arrays := node.get(Arrays):
        yield from _objects(arrays.items)


def _was_empty(node: Node) -> bool:
    """Tell whether *nothing* was ever written out here: as null, an empty text or an empty array."""
    texts, arrays = node.get(Strings), node.get(Arrays)
    return bool(node.get(Nulls) or (texts and texts.empty) or (arrays and arrays.empty))


def required_of(objects: Objects, things: Things | None, enough: Enough) -> list[str]:
    """Return the keys that are believed never to be missing."""
    if enough.never:
        return []
    thing = things.of(objects) if things else None
    return sorted(
        key
        for key, node in objects.properties.items()
        if node.count >= objects.count and _believed(key, node, objects, thing, things, enough)
    )


def required_with(variant: Variant, objects: Objects, things: Things | None, enough: Enough) -> list[str]:
    """Return the keys of `variant` alone that are believed never to be missing there."""
    least = enough.sent if things is not None and things.sent else enough.answered
    return [
        key
        for key, count in sorted(variant.keys.items())
        if count == variant.count >= least
        and not objects.properties[key].get(Nulls)
        and not _left_out(objects.properties[key], things)
    ]


def _believed(
    key: str, node: Node, objects: Objects, thing: Thing | None, things: Things | None, enough: Enough
) -> bool:
    if things is None or thing is None:
        return objects.count >= enough.answered
    if thing.nulls.get(key, 0) or _left_out(node, things):
        return False
    least = enough.sent if things.sent else enough.naming if key.lower() in _NAMING else enough.answered
    return thing.count >= least and thing.present.get(key, 0) >= enough.pooled * thing.count


def _left_out(node: Node, things: Things | None) -> bool:
    """Tell whether the API would leave this member out when there is nothing to say."""
    return things is not None and things.omits and not things.sent and not _is_never_empty(node)


def _is_never_empty(node: Node) -> bool:
    """Tell what even an API that leaves out the empty would send: a text, a number that was 0 at times."""
    match list(node.kinds()):
        case [Strings()]:
            return True
        case [Numbers() as numbers]:
            return numbers.low <= 0 <= numbers.high
        case _:
            return False

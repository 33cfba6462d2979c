"""Made-up APIs that change in ways that look alike, to see that nothing wrong is made of them at once.

A `World` draws an API's fields, its customers, and one to three changes from a seed: honest ones (a rename, a
move, a new envelope) and traps (a field that goes while another comes that mostly holds the same values, swapped
names, constants, other units). Each knows the truth: what the old shape would hold. `judge()` has an adaptation
composed from the traffic, applies what would be made at once to customers it never met, and counts places that
hold what they held (`right`), and places that hold something else (`wrong`).

Run by hand: python tests/discovery/lookalikes.py 3000 [first seed]
"""

from __future__ import annotations

import json
import random
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import Any

from discovery.adapt import Adaptation, back, told
from discovery.amend import compose
from discovery.drift import drifts_among, operations_of
from discovery.drift_watch import Watch
from discovery.edits import Lost
from discovery.exchange import Exchange, Request, Response
from discovery.shape import Shape, example_of, merged, shape_of

KEY = b"a key of this file alone"
JSON = ((b"content-type", b"application/json"),)
FRESH = 12
"""Customers that come after the change, and that nobody has met: here a wrong edit shows."""

Body = dict[str, Any]


@dataclass
class Score:
    right: int = 0
    wrong: int = 0
    lost: int = 0
    edits: Counter[str] = field(default_factory=Counter)
    bad: list[str] = field(default_factory=list)


class World:
    """One API, before and after. `traps` are those that were drawn."""

    def __init__(self, seed: int, drawn: Sequence[str] = ()) -> None:
        self.dice = random.Random(seed)
        self.met = self.dice.choice((6, 10, 16, 25))
        self.rounds = self.dice.choice((1, 2, 3))
        self.fields = self._fields()
        self.changes: list[Callable[[Body, Body], Body]] = []
        self.names: list[str] = []
        self.taken = set(self.fields)
        self.truths: dict[str, Callable[[Body, Body], tuple[Any, ...]]] = {}  # where it is not what it was
        drawn = drawn or self.dice.sample(sorted(CHANGES), self.dice.choice((1, 1, 2, 3)))
        self.free = [name for name in self.fields if name != "id"]
        self.dice.shuffle(self.free)
        for name in sorted(drawn, key=lambda name: name == "enveloped"):
            change = CHANGES[name](self)
            if change is not None:
                self.changes.append(change)
                self.names.append(name)

    def _fields(self) -> dict[str, Callable[[random.Random, int], Any]]:
        makers = {
            "name": lambda d, n: f"{d.choice(['Ada', 'Ben', 'Cem', 'Dua'])} {d.randrange(10**6)}",
            "email": lambda d, n: f"p{d.randrange(10**8)}@example.com",
            "phone": lambda d, n: f"+49 30 {d.randrange(10**7):07d}",
            "cents": lambda d, n: d.randrange(1000, 99999),
            "fee": lambda d, n: d.choice((0, 0, 100, 250)),
            "level": lambda d, n: d.randrange(5),
            "active": lambda d, n: d.random() < 0.6,
            "country": lambda d, n: d.choice(["DE", "FR", "NL"]),
            "source": lambda d, n: "web",
            "state": lambda d, n: d.choice(["in_progress", "canceled", "paid"]),
            "seconds": lambda d, n: d.randrange(10, 5000),
            "created_at": lambda d, n: 1_600_000_000 + d.randrange(10**8),
            "zip": lambda d, n: f"{d.randrange(10**5):05d}",
            "ref": lambda d, n: f"R-{d.randrange(10**6)}",
            "note": lambda d, n: None if d.random() < 0.3 else f"note {d.randrange(10**5)}",
            "position": lambda d, n: n,
            "weight": lambda d, n: round(d.random() * 90 + 1, 2),
        }
        names = self.dice.sample(sorted(makers), self.dice.randrange(8, len(makers)))
        return {"id": lambda d, n: f"cus_{n:04d}{d.randrange(16**6):06x}"} | {name: makers[name] for name in names}

    def take(self, *among: str) -> str | None:
        """Take a field that no other change has, one of `among` if any are named."""
        found = next((name for name in self.free if not among or name in among), None)
        if found:
            self.free.remove(found)
        return found

    def new(self, name: str) -> str:
        """Return a name that nothing has yet, `name` if it is free."""
        while name in self.taken:
            name += "x"
        self.taken.add(name)
        return name

    def customer(self, number: int) -> tuple[Body, Body]:
        """Return a customer as before the changes, and what else is true of them."""
        dice = random.Random(self.dice_seed + number)
        before = {name: make(dice, number) for name, make in self.fields.items()}
        beside = {name: make(dice, number) for name, make in self.fields.items()}
        return before, beside | {"met": number < self.met, "throw": dice.random(), "number": number}

    @property
    def dice_seed(self) -> int:
        return hash((len(self.fields), self.met, self.rounds)) & 0xFFFF

    def after(self, number: int) -> Body:
        before, beside = self.customer(number)
        return reduce(lambda body, change: change(json.loads(json.dumps(body)), beside), self.changes, before)

    def before(self, number: int) -> Body:
        return self.customer(number)[0]

    def truth(self, number: int) -> dict[str, tuple[Any, ...]]:
        """Return what may stand at each place of the old shape."""
        before, beside = self.customer(number)
        moved = {place: told(before, beside) for place, told in self.truths.items()}
        return {place: (value,) for place, value in flat(before).items()} | moved


# What may happen. Each returns how a body changes, or None where its fields are not free.

Change = Callable[[Body, Body], Body]


def put(body: Body, old: str, new: str, value: Any) -> Body:
    """Return the body with `new` holding `value` where `old` was."""
    return {new if name == old else name: value if name == old else held for name, held in body.items()}


def rename(world: World) -> Change | None:
    old = world.take()
    return None if old is None else lambda body, _: put(body, old, f"{old}_value", body[old])


def rename_to_stranger(world: World) -> Change | None:
    old = world.take()
    new = world.new("zeta")
    return None if old is None else lambda body, _: put(body, old, new, body[old])


def move(world: World) -> Change | None:
    old = world.take()
    if old is None:
        return None
    new = world.new("details")
    return lambda body, _: put(body, old, new, {old: body[old], "more": "yes"})


def as_text(world: World) -> Change | None:
    old = world.take("cents", "seconds", "position", "weight")
    return None if old is None else lambda body, _: {**body, old: str(body[old])}


def enveloped(world: World) -> Change | None:
    return lambda body, _: {"data": body, "request": "r1"}


def listed(world: World) -> Change | None:
    old = world.take("ref", "email", "zip")
    return None if old is None else lambda body, _: {**body, old: [body[old]]}


def removed(world: World) -> Change | None:
    old = world.take()
    return None if old is None else lambda body, _: {name: held for name, held in body.items() if name != old}


# Traps


def mostly(share: float) -> Callable[[World], Change | None]:
    """A field goes and another comes that mostly holds the same, by `share`, and not for all that were met."""

    def trap(world: World) -> Change | None:
        old = world.take("email", "name", "phone", "ref", "cents", "zip", "position", "weight")
        if old is None:
            return None
        new = world.new("other")

        def change(body: Body, beside: Body) -> Body:
            alike = beside["throw"] < share and beside["number"] != world.met - 1
            return put(body, old, new, body[old] if alike else beside[old])

        return change

    return trap


def twins(world: World) -> Change | None:
    """Two fields hold the same for all that were met; the one goes, and one comes that is the other's."""
    old, other = world.take("email", "ref", "phone"), "copy"
    if old is None:
        return None
    maker = world.fields[old]
    world.fields[other] = maker
    original = world.customer

    def customer(number: int) -> tuple[Body, Body]:
        before, beside = original(number)
        if number < world.met:
            before[other] = before[old]
        return before, beside

    world.customer = customer  # type: ignore[method-assign]
    rename_copy = world.dice.random() < 0.5

    def change(body: Body, _: Body) -> Body:
        held = {name: value for name, value in body.items() if name not in (old, other)}
        if rename_copy:
            return {**held, "address": body[other]}
        return {**held, other: body[other], "address": body[other]}

    return change


def swapped(world: World) -> Change | None:
    one = world.take("email", "ref", "phone", "name")
    other = world.take("email", "ref", "phone", "name")
    if one is None or other is None:
        return None
    return lambda body, _: {**body, one: body[other], other: body[one]}


def rotated(world: World) -> Change | None:
    """One goes, a second takes the name of a third, and the third a new one."""
    one, other = world.take("email", "ref", "phone", "name"), world.take("email", "ref", "phone", "name")
    if one is None or other is None:
        return None

    def change(body: Body, beside: Body) -> Body:
        held = {name: value for name, value in body.items() if name not in (one, other)}
        return {**held, other: body[one], "third": beside[other]}

    return change


def constants(world: World) -> Change | None:
    old = world.take("source", "active", "level", "country", "fee")
    if old is None:
        return None
    return lambda body, beside: put(body, old, "channel", "web" if old == "source" else beside[old])


def agreeing_constants(world: World) -> Change | None:
    """As above, but the same for all that were met: a flag under another name that means something else."""
    old = world.take("active", "level", "country", "fee")
    if old is None:
        return None
    return lambda body, beside: put(body, old, "enabled", body[old] if beside["met"] else beside[old])


def units(world: World) -> Change | None:
    old = world.take("cents", "seconds", "weight")
    return None if old is None else lambda body, _: {**body, old: round(body[old] / 100, 2)}


def units_as_text(world: World) -> Change | None:
    old = world.take("cents", "seconds", "weight")
    return None if old is None else lambda body, _: {**body, old: f"{body[old] / 100:.2f}"}


def rounded_text(world: World) -> Change | None:
    old = world.take("weight")
    return None if old is None else lambda body, _: {**body, old: f"{body[old]:.0f}"}


def padding_lost(world: World) -> Change | None:
    old = world.take("zip")
    return None if old is None else lambda body, _: {**body, old: int(body[old])}


def renamed_into_other_units(world: World) -> Change | None:
    old = world.take("cents", "seconds")
    if old is None:
        return None
    return lambda body, _: put(body, old, f"{old}_exact", body[old] * 1000)


def two_heirs(world: World) -> Change | None:
    """Two fields come that hold what the old one held for all that were met; later they differ."""
    old = world.take("email", "ref", "phone", "cents")
    if old is None:
        return None

    def change(body: Body, beside: Body) -> Body:
        held = put(body, old, "billing", body[old] if beside["met"] else beside[old])
        return {**held, "shipping": body[old]}

    return change


def lists_of_several(world: World) -> Change | None:
    old = world.take("ref", "email")
    if old is None:
        return None
    return lambda body, beside: {**body, old: [body[old]] if beside["number"] % 3 else [beside[old], body[old]]}


def moved_under_siblings(world: World) -> Change | None:
    """Two fields move into an object, and change their names with each other on the way."""
    one = world.take("email", "ref", "phone", "name")
    other = world.take("email", "ref", "phone", "name")
    if one is None or other is None:
        return None

    def change(body: Body, _: Body) -> Body:
        held = {name: value for name, value in body.items() if name not in (one, other)}
        return {**held, "contact": {one: body[other], other: body[one]}}

    return change


def states_move(world: World) -> Change | None:
    """Words are spelled anew, and some customers are in another state by then."""
    old = world.take("state")
    if old is None:
        return None
    spelled = {"in_progress": "IN-PROGRESS", "canceled": "cancelled", "paid": "paid"}

    def state(body: Body, beside: Body) -> str:
        held: str = beside[old] if beside["throw"] < 0.2 else body[old]
        return held

    def change(body: Body, beside: Body) -> Body:
        return {**body, old: spelled[state(body, beside)]}

    world.truths[f"/{old}"] = lambda body, beside: (state(body, beside), spelled[state(body, beside)])

    return change


def by_position(world: World) -> Change | None:
    """A counter goes and another one comes that counts the same so far."""
    old = world.take("position")
    if old is None:
        return None
    return lambda body, beside: put(body, old, "rank", body[old] + (0 if beside["number"] < world.met - 1 else 7))


HONEST = {one.__name__: one for one in (rename, rename_to_stranger, move, as_text, enveloped, listed, removed)}

TRAPS: dict[str, Callable[[World], Change | None]] = {
    "mostly_the_same": mostly(0.9),
    "often_the_same": mostly(0.6),
    "seldom_the_same": mostly(0.1),
    **{
        one.__name__: one
        for one in (
            twins,
            swapped,
            rotated,
            constants,
            agreeing_constants,
            units,
            units_as_text,
            rounded_text,
            padding_lost,
            renamed_into_other_units,
            two_heirs,
            lists_of_several,
            moved_under_siblings,
            states_move,
            by_position,
        )
    },
}

CHANGES = HONEST | TRAPS


def composed(world: World) -> Adaptation:
    """Return what is composed of the world's traffic: its customers are asked for before the change and after."""
    watch = Watch(KEY)
    met = range(world.met)
    bodies = [(n, world.before(n)) for _ in range(world.rounds) for n in met]
    bodies += [(n, world.after(n)) for n in met]
    bodies += [(n, world.after(n)) for n in range(world.met, world.met + 3)]
    for number, body in bodies:
        request = Request("GET", f"/customers/{700000 + number}".encode())
        watch.fold(Exchange("shop", request, Response(200, JSON, json.dumps(body).encode())))
    (operation,) = operations_of(watch, lambda place: "/customers/{id}")
    found = [one for one in drifts_among([operation]) if one.where.startswith("response")]
    pin = reduce(merged, (shape_of(world.before(n)) for n in met), Shape())
    return compose(found, pin, [example_of(body) for _, body in bodies[-8:]], operation.seen, operation.words)


def judge(world: World, adaptation: Adaptation, score: Score) -> None:
    """Count what the edits made at once do to customers that were not met."""
    edits = adaptation.in_force()
    for number in range(world.met + 10, world.met + 10 + FRESH):
        raw, truth = flat(world.after(number)), world.truth(number)
        adapted = flat(json.loads(back(edits, json.dumps(world.after(number)).encode()).body))
        for place, values in truth.items():
            if place in adapted and adapted[place] in values:
                score.right += raw.get(place) != adapted[place]
            elif place in adapted and adapted[place] != raw.get(place):
                score.wrong += 1
                score.bad.append(f"{world.names}: {place} is {adapted[place]!r}, was {values!r}")
            elif place not in adapted:
                score.lost += 1
    for edit in edits:
        if not isinstance(edit, Lost):
            score.edits[str(told(edit)["edit"])] += 1


def flat(value: Any, place: str = "") -> dict[str, Any]:
    match value:
        case dict():
            return {
                at: held for name, inner in value.items() for at, held in flat(inner, f"{place}/{name}").items()
            }
        case list():
            inner = [(f"{place}/{number}", held) for number, held in enumerate(value)]
        case _:
            return {place: value}
    return {at: leaf for below, held in inner for at, leaf in flat(held, below).items()}


def play(seeds: range) -> Score:
    score = Score()
    for seed in seeds:
        world = World(seed)
        before = score.wrong
        judge(world, composed(world), score)
        if score.wrong > before:
            score.bad[-1] += f" (seed {seed}, {world.met} met, {world.rounds} rounds)"
    return score


if __name__ == "__main__":
    first = int(sys.argv[2]) if len(sys.argv) > 2 else 0
    total = play(range(first, first + int(sys.argv[1])))
    print(f"places restored {total.right}, wrong {total.wrong}, lost {total.lost}; edits made {dict(total.edits)}")
    print("\n".join(total.bad[-20:]))

"""Pins: the shape each workflow type was written for, per operation and status, and what leads back to it.

A pin is made of the first `PINNED_AFTER` answers that were delivered as successes, and stays until a person
accepts another shape. Every instance of the type inherits it. When answers no longer fit, `judged()` composes an
adaptation from what changed and puts it on the ladder. A pin holds places and kinds, and no value of the API's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import reduce
from typing import Any

import orjson

from discovery import adapt, shape
from discovery.adapt import Adaptation, Evidenced
from discovery.amend import compose, weighable
from discovery.drift import Drift
from discovery.drift_watch import Seen, Words
from discovery.edits import Edit, Lost
from discovery.exchange import Json
from discovery.shape import Shape, example_of, merged, misfits, shape_of
from policies import ladder
from policies.ladder import Adapt, Fared, Rung, Standing

PINNED_AFTER = 10
"""Answers a pin is made of: optional members show themselves in the first few."""

KNOWN = 5
"""Answers that an adaptation served before the shape they came in can be changed again."""

SETTLED = 20
"""Answers that an adaptation served after which its proof is no longer weighed anew."""

TOLD = 4
"""Answers in a row that lack a place before it is counted as lost, where drift detection tells nothing of it."""

EXAMPLES = 12
"""Answers as they are now that an adaptation is replayed on, the latest."""


@dataclass(frozen=True, slots=True)
class Pin:
    """One workflow type's shape of one operation's answers.

    `adaptation` leads back from the answers as they are `now`; its first `settled` edits are of earlier changes,
    and lead to `before`. `accepted` are places whose suggested edits a person accepted, `required` those a person
    marked: a safe call whose answer lacks one is stopped.
    """

    type: str
    operation: str
    status: int
    shape: Shape = field(default_factory=Shape)
    adaptation: Adaptation = field(default_factory=Adaptation)
    standing: Standing = field(default_factory=Standing)
    accepted: frozenset[str] = frozenset()
    required: frozenset[str] = frozenset()
    examples: tuple[Json, ...] = ()
    now: Shape = field(default_factory=Shape)
    before: Shape | None = None
    settled: int = 0
    word: int = 0  # how often a person decided about it: whoever knows of the latest decision is right

    @property
    def complete(self) -> bool:
        return self.shape.answers >= PINNED_AFTER

    def edits_for(self, instance: str, setting: Adapt | None = None) -> tuple[Edit, ...]:
        """Return the edits an answer to `instance` gets. Where none is made, what is lost still counts."""
        if ladder.applies(self.standing, instance, setting):
            return self.adaptation.in_force(self.accepted)
        lost = (one.edit if isinstance(one.edit, Lost) else one.instead for one in self.adaptation.edits)
        return tuple(edit for edit in lost if edit is not None)

    def state(self) -> Json:
        """Return the pin as JSON; `load` is its inverse."""
        return {
            "type": self.type,
            "operation": self.operation,
            "status": self.status,
            "shape": self.shape.state(),
            "adaptation": adapt.dump(self.adaptation),
            "standing": self.standing.state(),
            "accepted": [*sorted(self.accepted)],
            "required": [*sorted(self.required)],
            "examples": [*self.examples],
            "now": self.now.state(),
            "before": None if self.before is None else self.before.state(),
            "settled": self.settled,
            "word": self.word,
        }


def load(state: dict[str, Any]) -> Pin:
    """Return the pin whose `state` this is."""
    return Pin(
        state["type"],
        state["operation"],
        state["status"],
        shape.load(state["shape"]),
        adapt.load(state["adaptation"]),
        ladder.load(state["standing"]),
        frozenset(state["accepted"]),
        frozenset(state["required"]),
        tuple(state["examples"]),
        shape.load(state["now"]),
        None if state["before"] is None else shape.load(state["before"]),
        state["settled"],
        state.get("word", 0),
    )


def delivered(pin: Pin, body: Json) -> Pin:
    """A success was delivered as it came: the pin takes its shape, until it is complete."""
    return pin if pin.complete else replace(pin, shape=merged(pin.shape, shape_of(body)))


def unlike(pin: Pin, body: Json) -> bool:
    """Tell whether an answer, as the upstream sent it, is not of the pinned shape."""
    return pin.complete and bool(misfits(shape_of(body), pin.shape))


def served(pin: Pin, body: Json) -> bool:
    """Tell whether the edits that are proved or accepted bring an answer into the pinned shape whole."""
    edits = [edit for edit in pin.adaptation.in_force(pin.accepted) if not isinstance(edit, Lost)]
    done = adapt.back(edits, orjson.dumps(body))
    return bool(done.done) and not done.degraded and not misfits(shape_of(orjson.loads(done.body)), pin.shape)


def judged(
    pin: Pin,
    drifts: Sequence[Drift],
    answers: Sequence[Seen],
    words: Words,
    body: Json,
    instance: str,
    setting: Adapt | None,
) -> Pin:
    """An answer was unlike the pin: compose anew what leads back, from all that is known of the change now.

    What is proved less than before is no longer made, by whoever has seen enough to tell; what a person accepted
    or halted stays so. Where a shape that an adaptation served changes again, new edits come on top of the old.
    """
    if pin.now.answers >= KNOWN and not served(pin, body) and misfits(shape_of(body), pin.now):
        pin = replace(pin, before=pin.now, now=Shape(), examples=(), settled=len(pin.adaptation.edits))
    examples = (*pin.examples, example_of(body))[-EXAMPLES:]
    here = [one for one in drifts if one.where == f"response.{pin.status}"]
    if served(pin, body) and not weighable(here, answers):
        now = merged(pin.now, shape_of(body))
        return replace(pin, now=now, examples=examples, standing=ladder.seen(pin.standing, instance))
    news = compose(here, pin.before or pin.shape, examples, answers, words).edits
    news = (*_gone(pin.before or pin.shape, news, examples), *news)
    found = Adaptation(pin.adaptation.edits[: pin.settled] + news)
    standing = pin.standing
    if not standing.stopped and standing.rung in (Rung.OBSERVE, Rung.SUGGEST):
        sure = any(one.sure and not isinstance(one.edit, Lost) for one in found.edits)
        standing = replace(standing, rung=ladder.first(setting, sure=sure))
    if found.edits:
        standing = ladder.seen(standing, instance)
    pin = replace(pin, adaptation=found, examples=examples, standing=standing)
    return replace(pin, now=merged(pin.now, shape_of(body))) if served(pin, body) else pin


def _gone(shape: Shape, edits: Sequence[Evidenced], examples: Sequence[Json]) -> tuple[Evidenced, ...]:
    """Return what all examples still lack once `edits` are made: nothing was told of it beside greater changes."""
    if len(examples) < TOLD:
        return ()
    made = [one.edit for one in edits if one.sure and not isinstance(one.edit, Lost)]
    restored = [orjson.loads(adapt.back(made, orjson.dumps(example)).body) for example in examples[-TOLD:]]
    still = set.intersection(*(misfits(shape_of(body), shape) for body in restored))
    accounted = {one.place for one in edits}
    return tuple(
        Evidenced(Lost(place, tuple(sorted(shape.places[place].types))), True, "no answer has it since the change")
        for place in sorted(still - accounted)
        if place and not any(f"{place}/".startswith(f"{outer}/") for outer in still if outer != place)
    )


def judged_meanwhile(judged: Pin, now: Pin) -> Pin:
    """Return the pin that was judged, with what became of it while it was: calls that fared, a person's word."""
    if now.word != judged.word:
        return now
    if now.standing.stopped:
        return replace(judged, standing=now.standing)
    fared = replace(judged.standing, adapted=now.standing.adapted, plain=now.standing.plain)
    return replace(judged, standing=fared)


def lacking(pin: Pin, body: Json) -> tuple[str, ...]:
    """Return the places a person marked as required that a delivered answer does not have as pinned."""
    return tuple(sorted(misfits(shape_of(body), pin.shape) & pin.required))


def told(pin: Pin, *, well: bool) -> Pin:
    """An adapted answer served the pin, or not."""
    return replace(pin, standing=ladder.told(pin.standing, adapted=True, well=well))


def compared(pin: Pin, bad: int, all_: int) -> Pin:
    """So many calls came after answers that were not adapted, and fared so."""
    plain = pin.standing.plain
    return replace(pin, standing=replace(pin.standing, plain=Fared(plain.bad + bad, plain.all + all_)))


def ahead(mine: Pin, theirs: Pin) -> Pin:
    """Return which of two processes' pins of one operation holds: the one with the latest word of a person,
    then the one that knows more."""
    return max(mine, theirs, key=_knowledge)


def _knowledge(pin: Pin) -> tuple[float, ...]:
    edits = len(pin.adaptation.edits)
    return pin.word, pin.standing.stopped, edits, pin.standing.adapted.all, pin.now.answers, pin.shape.answers


def adopted(pin: Pin) -> Pin:
    """A person accepted the new shape: the workflow was changed. What was seen last is the pin now."""
    now = reduce(merged, map(shape_of, pin.examples), Shape())
    shape = now if pin.examples else pin.shape
    return Pin(pin.type, pin.operation, pin.status, shape, required=pin.required, word=pin.word + 1)


def approved(pin: Pin) -> Pin:
    """A person accepted the suggested edits: they are made from now on."""
    places = frozenset(one.place for one in pin.adaptation.suggestions)
    return replace(pin, accepted=pin.accepted | places, standing=ladder.accepted(pin.standing), word=pin.word + 1)


def required(pin: Pin, place: str) -> Pin:
    """A person marked a place: where it cannot be restored, a safe call is stopped."""
    return replace(pin, required=pin.required | {place}, word=pin.word + 1)


def held(pin: Pin) -> Pin:
    """A person holds the pin: nothing is adapted until it is approved anew."""
    return replace(pin, accepted=frozenset(), standing=ladder.halted(pin.standing), word=pin.word + 1)

"""The ladder an adaptation climbs: observe, suggest, canary, auto; and how it falls.

One `Standing` per adaptation (of answers: a workflow type's operation; of requests: an operation's lessons). It
is a plain value: `applies()` says whether a call is adapted; `seen()`, `told()`, `accepted()` and `halted()`
return the standing after some news. Nobody is asked where evidence is strong and nothing can be lost; nothing
is in force for everybody before it did well for several instances; what fares worse than calls did without it
is taken back.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Literal

from discovery.exchange import Json

Adapt = Literal["observe", "suggest", "auto"]

QUORUM = 2
"""Instances that must have met an adaptation before it holds for all: one may be odd."""

PROVING = 5
"""Adapted calls that must have done well before it holds for all."""

CANARIES = 5
"""Instances a canary holds for once `PROVING` of its calls did well, the first that came. Until then it holds for
whoever comes: an instance that calls but once would prove nothing."""

WORSE = 3
"""Failures of adapted calls without which nothing is taken back: one or two are any API's noise."""

MEMORY = 200
"""Calls after which old ones count half, so that a standing follows the upstream as it is now."""


class Rung(StrEnum):
    """How far an adaptation is trusted."""

    OBSERVE = "observe"  # it is recorded that it would help
    SUGGEST = "suggest"  # a person is asked
    CANARY = "canary"  # it holds for the first few instances
    AUTO = "auto"  # it holds for all


@dataclass(frozen=True, slots=True)
class Fared:
    """How calls fared: `bad` of `all`."""

    bad: float = 0.0
    all: float = 0.0

    def more(self, well: bool) -> Fared:
        share = 0.5 if self.all >= MEMORY else 1.0
        return Fared(self.bad * share + (not well), self.all * share + 1)


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one adaptation stands. `instances` met it, oldest first; `halt` says why it was taken back."""

    rung: Rung = Rung.OBSERVE
    instances: tuple[str, ...] = ()
    adapted: Fared = Fared()
    plain: Fared = Fared()
    approved: bool = False
    halt: str = ""

    @property
    def stopped(self) -> bool:
        return bool(self.halt)

    def state(self) -> Json:
        """Return the standing as JSON; `load` is its inverse."""
        return {
            "rung": self.rung.value,
            "instances": [*self.instances],
            "adapted": [self.adapted.bad, self.adapted.all],
            "plain": [self.plain.bad, self.plain.all],
            "approved": self.approved,
            "halt": self.halt,
        }


def load(state: dict[str, Any]) -> Standing:
    """Return the standing whose `state` this is."""
    return Standing(
        Rung(state["rung"]),
        tuple(state["instances"]),
        Fared(*state["adapted"]),
        Fared(*state["plain"]),
        state["approved"],
        state["halt"],
    )


def first(adapt: Adapt | None, *, sure: bool) -> Rung:
    """Return the rung a new adaptation starts on, as the upstream's `adapt` has it.

    By default (None), and with `auto`, what is sure is tried at once; what is not waits for a person, always.
    """
    match adapt:
        case "observe":
            return Rung.OBSERVE
        case "suggest":
            return Rung.SUGGEST
        case _:
            return Rung.CANARY if sure else Rung.SUGGEST


def applies(standing: Standing, instance: str, adapt: Adapt | None = None) -> bool:
    """Tell whether a call of `instance` is adapted."""
    if standing.stopped or adapt == "observe" or (adapt == "suggest" and not standing.approved):
        return False
    match standing.rung:
        case Rung.AUTO:
            return True
        case Rung.CANARY:
            unproved = standing.adapted.all - standing.adapted.bad < PROVING
            return unproved or len(standing.instances) < CANARIES or instance in standing.instances
        case _:
            return False


def seen(standing: Standing, instance: str) -> Standing:
    """`instance` met the drift that the adaptation is for."""
    if instance in standing.instances or len(standing.instances) >= CANARIES:
        return standing
    return _climbed(replace(standing, instances=(*standing.instances, instance)))


def told(standing: Standing, *, adapted: bool, well: bool) -> Standing:
    """A call of the operation, adapted or not, fared well or not. An adaptation that fares worse is taken back."""
    if not adapted:
        return replace(standing, plain=standing.plain.more(well))
    standing = replace(standing, adapted=standing.adapted.more(well))
    if not standing.stopped and _is_worse(standing.adapted, standing.plain):
        bad, all_ = round(standing.adapted.bad), round(standing.adapted.all)
        return replace(standing, rung=Rung.SUGGEST, approved=False, halt=f"{bad} of {all_} adapted calls failed")
    return _climbed(standing)


def accepted(standing: Standing) -> Standing:
    """A person accepted it: it is tried, and what was held against it is forgotten."""
    rung = standing.rung if standing.rung is Rung.AUTO else Rung.CANARY
    return _climbed(replace(standing, rung=rung, approved=True, halt="", adapted=Fared()))


def halted(standing: Standing, why: str = "a person said so") -> Standing:
    """The kill switch: nothing is adapted until a person accepts it anew."""
    return replace(standing, rung=Rung.SUGGEST, approved=False, halt=why)


def _climbed(standing: Standing) -> Standing:
    proved = len(standing.instances) >= QUORUM and standing.adapted.all - standing.adapted.bad >= PROVING
    ready = standing.rung is Rung.CANARY and proved and not standing.stopped
    return replace(standing, rung=Rung.AUTO) if ready else standing


def _is_worse(adapted: Fared, plain: Fared) -> bool:
    """More than twice as many bad ones as without it, of which one more is granted to both for the doubt."""
    return adapted.bad >= WORSE and adapted.bad / adapted.all > 2 * (plain.bad + 1) / (plain.all + 2)

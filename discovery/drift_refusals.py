"""What drift detection keeps of a refusal: which places of the request it names, and for what reason."""

from __future__ import annotations

from typing import NamedTuple

from discovery.complaints import complaints_of
from discovery.exchange import Json, Request
from discovery.hints import read_hints
from discovery.lexical import is_token
from discovery.slots import slots_of

MAX_ALLOWED = 12
"""Allowed words kept of one refusal."""


class Refusal(NamedTuple):
    """One thing a refusal said was wrong with a request; `allowed` only where words were told."""

    where: str  # request.body or request.query
    pointer: str  # items as `*`
    reason: str  # discovery.reasons.Reason
    allowed: tuple[str, ...] = ()

    @property
    def spot(self) -> tuple[str, str]:
        return self.where, self.pointer


def refusals_in(request: Request, complaint: Json) -> tuple[Refusal, ...]:
    """Return what a refusal said was wrong with `request`, places of its body with `*` for items."""
    return tuple(
        Refusal(
            f"request.{hint.where}",
            starred(request, hint.pointer) if hint.where == "body" else hint.pointer,
            hint.reason.value,
            tuple(word for word in hint.allowed[:MAX_ALLOWED] if isinstance(word, str) and is_token(word)),
        )
        for hint in read_hints(request, complaints_of(complaint))
        if hint.where in ("body", "query")
    )


def starred(request: Request, pointer: str) -> str:
    """Return a pointer into a request's body with `*` for items, also where the refusal left them out."""
    tree = slots_of(request).body
    told: list[str] = []
    for part in pointer.split("/")[1:]:
        if isinstance(tree, list):
            told.append("*")
            tree = tree[0] if tree else None
            if part.isdigit():
                continue
        told.append(part)
        tree = tree.get(part) if isinstance(tree, dict) else None
    return "".join("/" + part for part in told)

"""What an error body says was wrong with the request: where, why, what would be allowed."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from discovery.exchange import Json


class Reason(StrEnum):
    """Why a field was not accepted."""

    MISSING = "missing"
    UNKNOWN = "unknown"
    TYPE = "type"
    FORMAT = "format"
    ENUM = "enum"
    RANGE = "range"
    LENGTH = "length"
    UNIQUE = "unique"
    OTHER = "other"


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

"""Many-item answers: what became of each item, and what remains to be sent."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Item:
    """One item of a batch: its place in the request, the key it was recognised by, and how it ended.

    `ok` is None where nothing proves either way. `retry`: it had no effect for sure, and may be sent again.
    """

    index: int
    key: str | None
    ok: bool | None
    retry: bool = False
    why: str = ""

"""How commands print: data to stdout, talk to stderr; tables on a terminal, plain aligned text in a pipe.

What an upstream or a workflow wrote is cleaned of control characters first: a reply must not drive a terminal.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

COLOURS = {
    "succeeded": "green",
    "success": "green",
    "ok": "green",
    "all": "green",
    "open": "cyan",
    "waiting": "cyan",
    "accepted": "cyan",
    "claimed": "cyan",
    "sending": "cyan",
    "transient": "yellow",
    "rate-limited": "yellow",
    "partial": "yellow",
    "some": "yellow",
    "warning": "yellow",
    "in-doubt": "bold magenta",
    "unknown": "magenta",
    "rejected": "red",
    "validation": "red",
    "failed": "red",
    "refused": "red",
    "exhausted": "red",
    "problem": "bold red",
}
"""Words that have a colour wherever they stand: states, outcomes, effects, findings."""


def say(text: str) -> None:
    """Talk to a person: a line on stderr."""
    print(clean(text), file=sys.stderr, flush=True)  # noqa: T201


def put(text: str) -> None:
    """Print a line of data as it is."""
    print(text)  # noqa: T201


def put_json(value: object) -> None:
    """Print one JSON object on a line. Plain ASCII, so that no terminal or pipe can fail on it."""
    put(json.dumps(value, allow_nan=False, default=str))


def put_table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows under a head; coloured on a terminal, never cut in a pipe."""
    cells = [[clean(cell) for cell in row] for row in rows]
    if not sys.stdout.isatty():
        widths = [max(map(len, column)) for column in zip(columns, *cells, strict=True)]
        for row in (columns, *cells):
            put("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in cells:
        table.add_row(*(Text(cell, style=COLOURS.get(cell, "")) for cell in row))
    console().print(table)


def console() -> Console:
    """Return a terminal to print on; NO_COLOR is honoured."""
    from rich.console import Console

    return Console(highlight=False, markup=False, emoji=False)


def clean(text: str) -> str:
    """Return `text` with control characters made visible (tabs and line ends are kept as spaces)."""
    text = re.sub(r"[\t\r\n]+", " ", text)
    return re.sub(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]", _visible, text)


def _visible(found: re.Match[str]) -> str:
    return f"\\x{ord(found[0]):02x}" if ord(found[0]) < 256 else f"\\u{ord(found[0]):04x}"

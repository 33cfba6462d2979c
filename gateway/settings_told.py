"""Settings, told: what is wrong with them and what holds, each with where it stands and never with a secret."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from gateway.form import File, annotation_at
from gateway.sources import DEFAULT, Origin, Sources, Where, dotted

REFERENCE = re.compile(r"(?:(?P<scheme>[A-Za-z][\w-]*) )?(?P<kind>env|file):(?P<name>.+)", re.S)
HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Setting:
    """One value for `config show`: secrets are hidden, references to them are not."""

    name: str
    value: object
    origin: Origin


def problems(error: ValidationError, sources: Sources) -> list[str]:
    """Return a line for each problem, in the order of the file's lines."""
    found: dict[tuple[Where, str], tuple[Origin, str]] = {}
    for detail in error.errors(include_url=False):
        at = tuple(part for part in detail["loc"] if part != "[key]")
        while at and annotation_at(at) is None and detail["type"] != "extra_forbidden":
            at = at[:-1]  # the branch of a union
        what = _what(detail["type"], at, detail["msg"], detail.get("input"))
        origin = sources.origin(at)
        found.setdefault((at, detail["type"]), (origin, line(origin, at, what)))
    return [text for _, text in sorted(found.values(), key=lambda said: (said[0].name, said[0].line))]


def _what(kind: str, at: Where, message: str, value: object) -> str:
    match kind:
        case "extra_forbidden":
            table = annotation_at(at[:-1])
            known = list(table.model_fields) if isinstance(table, type) and issubclass(table, BaseModel) else []
            return "unknown key" + (like(str(at[-1]), known) or f"; known here: {', '.join(known)}")
        case "missing":
            return f"is required; add {at[-1]} = …"
        case "value_error":
            return message.removeprefix("Value error, ")
    what = re.sub(r"^Input should", "should", message)
    return what if _secretive(at) or isinstance(value, dict | list) else f"{what}, not {value!r}"


def _secretive(at: Where) -> bool:
    return "headers" in at or "callers" in at or at[-1:] in (("url",), ("base_url",), ("secret",))


def like(name: str, known: Iterable[str]) -> str:
    """Return a question that proposes the likeliest of `known`, or nothing."""
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def line(origin: Origin, at: Where, what: str) -> str:
    """Return `what` with its place: file and line, variable or flag, and the setting."""
    return f"{origin}: {dotted(at)}: {what}" if origin.kind != "default" else f"{dotted(at)}: {what}"


def shown(form: File, sources: Sources, data: Path) -> Iterator[Setting]:
    """Yield each value that holds, with who said so."""
    tree = form.model_dump(mode="json", exclude_none=True)
    tree["data"] = str(data)
    for at, value in _leaves(tree, ()):
        yield Setting(dotted(at), _redact(at, value), _source(sources, at))


def _source(sources: Sources, at: Where) -> Origin:
    """Return who set exactly this; a value inside a list was said where the list was."""
    if at in sources.origins or any(isinstance(part, int) for part in at):
        return sources.origin(at)
    return DEFAULT


def _leaves(tree: Any, at: Where) -> Iterator[tuple[Where, Any]]:
    match tree:
        case dict() if tree:
            for key, value in tree.items():
                yield from _leaves(value, (*at, key))
        case list() if tree:
            for index, value in enumerate(tree):
                yield from _leaves(value, (*at, index))
        case dict() | list():
            pass
        case _:
            yield at, tree


def _redact(at: Where, value: object) -> object:
    if not isinstance(value, str):
        return value
    if at == ("store", "url"):
        return without_password(value)
    secret = at[0] == "callers" or at[-1] == "secret" or (len(at) == 4 and at[2] == "headers")
    return HIDDEN if secret and not REFERENCE.fullmatch(value) else value


def without_password(url: str) -> str:
    """Return a store's URL as it may be shown."""
    url = re.sub(r"(://[^:/@]*:).*@", rf"\1{HIDDEN}@", url)
    return re.sub(r"([?&]password=)[^&]*", rf"\1{HIDDEN}", url)

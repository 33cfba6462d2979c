"""Where settings come from: file, environment and flags laid over one another, each value with its origin.

Flags beat the environment, the environment beats the file. Nothing is judged here but what cannot be read.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from gateway.problems import ConfigError

Where = tuple[str | int, ...]
"""A place in the tree of settings: `("upstreams", "billing", "base_url")`."""

PLAIN: dict[str, Where] = {
    "GIMBAL_STORE": ("store", "url"),
    "GIMBAL_DATA": ("data",),
}
KNOWN = {*PLAIN, "GIMBAL_CONFIG", "GIMBAL_DEBUG", "GIMBAL_KEY", "GIMBAL_URL"}
MAPS = {"upstreams": 1, "callers": 1, "callbacks": 1, "drift": 1, "headers": 3}
"""Tables whose keys are names of the user's own, and the depth they stand at."""

KEY = r"""(?:[\w-]+|"[^"]*"|'[^']*')"""
"""A TOML key, bare or quoted (escapes in a quoted one are not read: only lines are lost)."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Who said it: a flag, an environment variable, a file with a line (0: unknown), or a default."""

    kind: str
    name: str = ""
    line: int = 0

    def __str__(self) -> str:
        if self.kind == "default":
            return "default"
        return f"{self.name}:{self.line}" if self.line else self.name


DEFAULT = Origin("default")


@dataclass(slots=True)
class Sources:
    """What was said so far, later layers over earlier ones, and who said what."""

    tree: dict[str, Any] = field(default_factory=dict)
    origins: dict[Where, Origin] = field(default_factory=dict)

    def lay(self, at: Where, value: Any, origin: Origin) -> None:
        """Put `value` at `at`: tables are merged, all else is replaced."""
        table: Any = self.tree
        for depth, part in enumerate(at[:-1]):
            if not isinstance(table.get(part), dict):
                self._forget(at[: depth + 1])
                table[part] = {}
            table = table[part]
            self.origins.setdefault(at[: depth + 1], origin)
        if isinstance(value, dict) and (isinstance(table.get(at[-1]), dict) or at[-1] not in table):
            self.origins.setdefault(at, origin)
            table.setdefault(at[-1], {})
            for key, inner in value.items():
                self.lay((*at, key), inner, origin)
            return
        self._forget(at)
        table[at[-1]] = value
        self.origins[at] = origin

    def origin(self, at: Where) -> Origin:
        """Return who said what stands at `at`, or at the nearest table around it."""
        for end in range(len(at), 0, -1):
            if found := self.origins.get(at[:end]):
                return found
        return DEFAULT

    def _forget(self, at: Where) -> None:
        for known in [known for known in self.origins if known[: len(at)] == at]:
            del self.origins[known]


def from_file(sources: Sources, path: Path) -> None:
    """Lay a TOML file. A file that is not there, not readable or not TOML is a `ConfigError`."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise ConfigError(f"{path}: no such file; check --config or GIMBAL_CONFIG") from None
    except UnicodeDecodeError:
        raise ConfigError(f"{path}: is not UTF-8 text; save it as UTF-8") from None
    except OSError as error:
        reason = (error.strerror or "cannot be read").lower()
        raise ConfigError(f"{path}: {reason}; --config wants a readable TOML file") from None
    try:
        tree = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        found = re.search(r" \(at line (\d+), column \d+\)$", str(error))
        line = f":{found[1]}" if found else ""
        said = str(error)[: found.start()] if found else str(error)
        raise ConfigError(f"{path}{line}: is not TOML: {said}; text values stand in quotes") from None
    for key, value in tree.items():
        sources.lay((key,), value, Origin("file", str(path)))
    for at, number in _lines(text).items():
        if at in sources.origins or _exists(tree, at):
            sources.origins[at] = Origin("file", str(path), number)
    _inherit_lines(sources)


def from_environment(sources: Sources, environ: Mapping[str, str], is_table: Callable[[Where], bool]) -> None:
    """Lay `GIMBAL__…` variables and the plain ones; `is_table(where)` tells where JSON is expected."""
    for name, at in PLAIN.items():
        if environ.get(name):
            sources.lay(at, environ[name], Origin("environment", name))
    for name in sorted(environ):
        if not name.upper().startswith("GIMBAL__"):
            continue
        at = _place(sources.tree, name)
        value: Any = environ[name]
        if is_table(at):
            try:
                value = json.loads(value)
            except ValueError:
                raise ConfigError(
                    f"{name}: should be JSON here, because {dotted(at)} is a table or list"
                ) from None
        sources.lay(at, value, Origin("environment", name))


def from_flags(sources: Sources, flags: Mapping[Where, tuple[str, Any]]) -> None:
    """Lay flags: place -> (flag as it was written, value)."""
    for at, (flag, value) in flags.items():
        sources.lay(at, value, Origin("flag", flag))


def dotted(at: Where) -> str:
    """Return a place as people write it: `upstreams.billing.operations[0].match`."""
    text = ""
    for part in at:
        if isinstance(part, int):
            text += f"[{part}]"
        else:
            text += ("." if text else "") + (part if re.fullmatch(r"[\w-]+", part) else json.dumps(part))
    return text


def _place(tree: dict[str, Any], name: str) -> Where:
    """Return the place a variable names. A user's own names are found by likeness: `MY_API` is `my-api`."""
    at: list[str | int] = []
    table: Any = tree
    for part in name[len("GIMBAL__") :].lower().split("__"):
        key = part
        if at and MAPS.get(str(at[-1])) == len(at):
            like = [
                k for k in (table if isinstance(table, dict) else ()) if re.sub(r"[.-]", "_", k).lower() == part
            ]
            key = like[0] if like else part.replace("_", "-") if at[-1] == "headers" else part
        at.append(key)
        table = table.get(key) if isinstance(table, dict) else None
    return tuple(at)


def _lines(text: str) -> dict[Where, int]:
    """Return the line of each table and key, read loosely: only ever used to say where something stands."""
    found: dict[Where, int] = {}
    counts: dict[Where, int] = {}
    table: Where = ()
    for number, line in enumerate(text.splitlines(), 1):
        if array := re.match(r"\s*\[\[(.+)\]\]", line):
            name = _keys(array[1])
            counts[name] = counts.get(name, -1) + 1
            found.setdefault(name, number)
            table = (*name, counts[name])
            found[table] = number
        elif header := re.match(r"\s*\[([^\[\]]+)\]\s*(#.*)?$", line):
            name = _keys(header[1])
            outer = max((at for at in counts if name[: len(at)] == at), key=len, default=())
            table = (*outer, counts[outer], *name[len(outer) :]) if outer else name
            found.setdefault(table, number)
        elif key := re.match(
            r"""\s*((?:[\w-]+|"[^"]*"|'[^']*')(?:\s*\.\s*(?:[\w-]+|"[^"]*"|'[^']*'))*)\s*=""", line
        ):
            found.setdefault((*table, *_keys(key[1])), number)
    return found


def _keys(text: str) -> Where:
    parts = re.findall(KEY, text)
    return tuple(part[1:-1] if part[0] in "\"'" else part for part in parts)


def _exists(tree: Any, at: Where) -> bool:
    for part in at:
        try:
            tree = tree[part]
        except (KeyError, IndexError, TypeError):
            return False
    return True


def _inherit_lines(sources: Sources) -> None:
    """Give a value without a line of its own (inside an inline table) the line of what holds it."""
    for at, origin in sources.origins.items():
        if origin.kind == "file" and not origin.line:
            lines = (
                sources.origins[at[:end]].line for end in range(len(at), 0, -1) if at[:end] in sources.origins
            )
            sources.origins[at] = Origin("file", origin.name, next((line for line in lines if line), 0))

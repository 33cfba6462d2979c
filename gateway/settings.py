"""Files, environment and flags -> `Settings`: one frozen value the gateway is built from.

`load()` tells everything that is wrong at once, one line a problem: where, what, and what to do.
Secrets are named, not written: `env:NAME`, `file:PATH`, also after a scheme (`Bearer env:NAME`).
No secret is in a message, a `repr` or `config show`.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import sys
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args, get_origin
from urllib.parse import urlsplit

from pydantic import BaseModel, ValidationError

from gateway.form import File, IdempotencyTable, LookupTable, OperationTable, RateTable, UpstreamTable
from gateway.problems import ConfigError, Refused
from gateway.sources import (
    KNOWN,
    Origin,
    Sources,
    Where,
    dotted,
    from_environment,
    from_file,
    from_flags,
)
from policies.rules import Idempotency, Lookup, OperationRule, Rate, UpstreamRules

SECRETIVE = re.compile(r"authorization|key|token|secret|password|cookie|signature", re.I)
REFERENCE = re.compile(r"(?:(?P<scheme>[A-Za-z][\w-]*) )?(?P<kind>env|file):(?P<name>.+)", re.S)
HIDDEN = "***"


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes beyond which a request is too large."""

    body: int = 10 * 2**20
    headers: int = 64 * 2**10


@dataclass(frozen=True, slots=True)
class Retention:
    """Seconds: `idle` until a quiet workflow ends, `ended` until its records go, `keys` for keyed calls."""

    idle: float = 30 * 86400.0
    ended: float = 7 * 86400.0
    keys: float = 86400.0


@dataclass(frozen=True, slots=True)
class Setting:
    """One value for `config show`: secrets are hidden, references to them are not."""

    name: str
    value: object
    origin: Origin


@dataclass(frozen=True, slots=True)
class Settings:
    """All the gateway is told. `host` and `port` are `listen` in parts (port 0: any free one)."""

    host: str
    port: int
    store: str | None = field(repr=False)
    data: Path
    fsync: Literal["always", "everysec"] = "always"
    workers: int = 1
    callers: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = Limits()
    retention: Retention = Retention()
    upstreams: Mapping[str, UpstreamRules] = field(default_factory=dict)
    key: str | None = field(default=None, repr=False)
    default_workflow: tuple[str, str] | None = None  # type and id for calls without identity (`gimbal run`)
    json: bool = False  # say the banner of `serve` as JSON
    file: Path | None = None
    shown: tuple[Setting, ...] = field(default=(), repr=False)
    warnings: tuple[str, ...] = ()

    @property
    def listen(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def loopback(self) -> bool:
        return is_loopback(self.host)


def load(
    config: Path | None = None,
    flags: Mapping[Where, tuple[str, Any]] | None = None,
    environ: Mapping[str, str] = os.environ,
    *,
    secrets: bool = True,
) -> Settings:
    """Return the settings. Raises `ConfigError` with every problem found, `Refused` for an unsafe listen address.

    `config` is the file; without it `GIMBAL_CONFIG`, else `./gimbal.toml` where there is one.
    `secrets` False resolves none (no injected headers, no callers): for commands that send and serve nothing.
    """
    sources = Sources()
    path = config or (Path(environ["GIMBAL_CONFIG"]) if environ.get("GIMBAL_CONFIG") else None)
    if path is None and Path("gimbal.toml").is_file():
        path = Path("gimbal.toml")
    if path is not None:
        from_file(sources, path)
    from_environment(sources, environ, is_table)
    from_flags(sources, flags or {})
    try:
        form = File.model_validate(sources.tree)
    except ValidationError as error:
        raise ConfigError("\n".join(_problems(error, sources))) from None
    return _Reading(form, sources, environ, secrets, path).settings()


def is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def parse_listen(text: str) -> tuple[str, int]:
    """Return host and port of `HOST:PORT`, `[V6]:PORT`, `HOST` or `PORT`. Raises `ValueError`."""
    found = re.fullmatch(r"(?:(\[[0-9a-fA-F:.]+\]|[\w.-]*[A-Za-z.][\w.-]*):)?(\d{1,5})", text, re.A)
    host, port = (found[1] or "127.0.0.1", int(found[2])) if found else (text, 8470)
    if not re.fullmatch(r"\[[0-9a-fA-F:.]+\]|[\w.-]+", host, re.A) or port > 65535:
        raise ValueError("should be HOST:PORT, such as 127.0.0.1:8470 or [::1]:8470")
    return host.strip("[]"), port


def default_data(environ: Mapping[str, str]) -> Path:
    """Return the platform's user data directory for Gimbal."""
    home = Path(environ.get("HOME") or Path.home())
    if sys.platform == "darwin":
        return home / "Library" / "Application Support" / "gimbal"
    if sys.platform == "win32":
        return Path(environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "gimbal"
    # The XDG specification: a relative path is to be ignored.
    xdg = environ.get("XDG_DATA_HOME", "")
    return (Path(xdg) if xdg.startswith("/") else home / ".local" / "share") / "gimbal"


def without_password(url: str) -> str:
    """Return a store's URL as it may be shown."""
    return re.sub(r"(://[^:/@]*:)[^@]*@", rf"\1{HIDDEN}@", url)


@dataclass(slots=True)
class _Reading:
    """Turns a valid form into `Settings`, collecting what only the world can tell to be wrong."""

    form: File
    sources: Sources
    environ: Mapping[str, str]
    secrets: bool
    path: Path | None
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def settings(self) -> Settings:
        form = self.form
        host, port = self._listen()
        data = Path(form.data).expanduser() if form.data else default_data(self.environ)
        store = self._secret(("store", "url"), form.store.url) if form.store.url else None
        callers = self._callers()
        upstreams = {name: self._upstream(name, table) for name, table in form.upstreams.items()}
        self._stray_variables()
        if self.problems:
            raise ConfigError("\n".join(self.problems))
        if not is_loopback(host) and not form.callers:
            raise Refused(
                f"{self.sources.origin(('listen',))}: listening on {host} lets anyone call your upstreams; "
                'configure tokens first ([callers] ops = "env:OPS_TOKEN"), or listen on 127.0.0.1'
            )
        return Settings(
            host=host,
            port=port,
            store=store,
            data=data.absolute(),
            fsync=form.store.fsync,
            workers=form.workers,
            callers=callers,
            limits=Limits(form.limits.body, form.limits.headers),
            retention=Retention(form.retention.idle, form.retention.ended, form.retention.keys),
            upstreams=upstreams,
            key=self.environ.get("GIMBAL_KEY") or None,
            file=self.path,
            shown=tuple(_shown(form, self.sources, data.absolute())),
            warnings=tuple(self.warnings),
        )

    def _listen(self) -> tuple[str, int]:
        try:
            return parse_listen(self.form.listen)
        except ValueError as error:
            self._problem(("listen",), f"{error}, not {self.form.listen!r}")
            return "", 0

    def _callers(self) -> dict[str, str]:
        found = {}
        for name, said in self.form.callers.items():
            at: Where = ("callers", name)
            if not REFERENCE.fullmatch(said):
                self._warn(at, f'a token stands in plain text; name it instead: {name} = "env:…" or "file:…"')
            if not self.secrets:
                continue
            token = self._secret(at, said)
            if token is not None and not re.fullmatch(r"[A-Za-z0-9._~+/=-]{8,}", token):
                self._problem(
                    at, "a token is 8 or more of A-Z a-z 0-9 - . _ ~ + / = (RFC 6750 2.1); make a new one"
                )
            elif token is not None:
                found[name] = token
        return found

    def _upstream(self, name: str, table: UpstreamTable) -> UpstreamRules:
        at: Where = ("upstreams", name)
        url = urlsplit(table.base_url)
        if url.scheme == "http" and not is_loopback(url.hostname or ""):
            self._warn((*at, "base_url"), "http:// sends credentials and bodies in the clear; use https://")
        return UpstreamRules(
            name=name,
            base_url=table.base_url,
            headers=tuple(self._headers((*at, "headers"), table.headers)),
            timeout=table.timeout,
            connect_timeout=table.connect_timeout,
            wait=table.wait,
            attempts=table.attempts,
            idempotency=_idempotency(table.idempotency),
            rate=_rate(table.rate),
            require_key=table.require_key,
            body_limit=self.form.limits.body if table.body_limit is None else table.body_limit,
            transport=table.transport,
            verify=self._verify((*at, "verify"), table.verify),
            meaningful_headers=tuple(table.meaningful_headers),
            adapt=table.adapt,
            operations=tuple(_operation(operation) for operation in table.operations),
        )

    def _headers(self, at: Where, table: Mapping[str, str]) -> Iterator[tuple[str, str]]:
        for name, said in table.items():
            if not REFERENCE.fullmatch(said) and SECRETIVE.search(name):
                self._warn((*at, name), f'a secret may stand in plain text; name it instead: {name} = "env:…"')
            value = self._secret((*at, name), said) if self.secrets else None
            if value is not None and re.search(r"[\x00-\x08\x0a-\x1f\x7f]", value):
                self._problem((*at, name), "its value holds line breaks or control characters; look at its source")
            elif value is not None:
                yield name, value

    def _verify(self, at: Where, verify: bool | str) -> bool | str:
        if isinstance(verify, str) and not Path(verify).expanduser().is_file():
            self._problem(at, f"there is no CA bundle at {verify!r}; give the path of a PEM file, or true")
        if verify is False:
            self._warn(at, "its certificate is not checked; anyone on the way can read and answer in its name")
        return str(Path(verify).expanduser()) if isinstance(verify, str) else verify

    def _secret(self, at: Where, said: str) -> str | None:
        """Return what a reference stands for (text that is none stands for itself); its absence is a problem."""
        found = REFERENCE.fullmatch(said)
        if found is None:
            return said
        name = found["name"].strip()
        value: str | None
        if found["kind"] == "env":
            value = self.environ.get(name, "").strip()
            if not value:
                self._problem(at, f"environment variable {name} is not set; export it, or name another")
                return None
        else:
            try:
                value = Path(name).expanduser().read_text(encoding="utf-8").strip()
            except (OSError, UnicodeDecodeError):
                self._problem(at, f"cannot read {name}; check that the file exists and is yours to read")
                return None
            if not value:
                self._problem(at, f"{name} is empty; write the secret into it")
                return None
        return f"{found['scheme']} {value}" if found["scheme"] else value

    def _stray_variables(self) -> None:
        for name in sorted(self.environ):
            if name.startswith("GIMBAL_") and not name.startswith("GIMBAL__") and name not in KNOWN:
                self.warnings.append(f"{name}: is no variable of Gimbal's{_like(name, KNOWN) or '; unset it'}")

    def _problem(self, at: Where, what: str) -> None:
        self.problems.append(_line(self.sources.origin(at), at, what))

    def _warn(self, at: Where, what: str) -> None:
        self.warnings.append(_line(self.sources.origin(at), at, what))


# From the form to the rules


def _idempotency(table: IdempotencyTable) -> Idempotency:
    return Idempotency(table.carrier, table.name, table.window, table.stores, table.replayed)


def _rate(table: RateTable | None) -> Rate | None:
    return None if table is None else Rate(table.limit, table.per, table.burst)


def _lookup(table: LookupTable | None) -> Lookup | None:
    if table is None:
        return None
    return Lookup(table.get, table.found, math.inf if table.absent_after is None else table.absent_after)


def _operation(table: OperationTable) -> OperationRule:
    return OperationRule(
        match=table.match,
        safe=table.safe,
        replay=table.replay,
        idempotent=table.idempotent,
        idempotency=None if table.idempotency is None else _idempotency(table.idempotency),
        timeout=table.timeout,
        wait=table.wait,
        lookup=_lookup(table.lookup),
        assume=table.assume,
        partial=table.partial,
    )


# Saying what is wrong


def annotation_at(at: Where) -> Any:
    """Return the type the form has at `at`, or None where it has nothing."""
    annotation: Any = File
    for part in at:
        annotation = bare(annotation)
        if isinstance(annotation, type) and issubclass(annotation, BaseModel):
            known = annotation.model_fields.get(str(part))
            annotation = known.annotation if known else None
        else:
            annotation = get_args(annotation)[-1] if get_origin(annotation) in (dict, list) else None
    return bare(annotation)


def is_table(at: Where) -> bool:
    annotation = annotation_at(at)
    if get_origin(annotation) in (dict, list):
        return True
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def bare(annotation: Any) -> Any:
    """Return an annotation without `Annotated` and `| None`."""
    if hasattr(annotation, "__metadata__"):
        return bare(annotation.__origin__)
    rest = [part for part in get_args(annotation) if part is not type(None)]
    if get_origin(annotation) not in (dict, list) and len(rest) == 1:
        return bare(rest[0])
    return annotation


def _problems(error: ValidationError, sources: Sources) -> list[str]:
    """Return a line for each problem, in the order of the file's lines."""
    found: dict[tuple[Where, str], tuple[Origin, str]] = {}
    for detail in error.errors(include_url=False):
        at = tuple(part for part in detail["loc"] if part != "[key]")
        while at and annotation_at(at) is None and detail["type"] != "extra_forbidden":
            at = at[:-1]  # the branch of a union
        what = _what(detail["type"], at, detail["msg"], detail.get("input"))
        origin = sources.origin(at)
        found.setdefault((at, detail["type"]), (origin, _line(origin, at, what)))
    return [line for _, line in sorted(found.values(), key=lambda said: (said[0].name, said[0].line))]


def _what(kind: str, at: Where, message: str, value: object) -> str:
    match kind:
        case "extra_forbidden":
            table = annotation_at(at[:-1])
            known = list(table.model_fields) if isinstance(table, type) and issubclass(table, BaseModel) else []
            return "unknown key" + (_like(str(at[-1]), known) or f"; known here: {', '.join(known)}")
        case "missing":
            return f"is required; add {at[-1]} = …"
        case "value_error":
            return message.removeprefix("Value error, ")
    what = re.sub(r"^Input should", "should", message)
    return what if _secretive(at) or isinstance(value, dict | list) else f"{what}, not {value!r}"


def _secretive(at: Where) -> bool:
    return "headers" in at or "callers" in at or at[-1:] in (("url",), ("base_url",))


def _like(name: str, known: Iterable[str]) -> str:
    close = get_close_matches(name, list(known), n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _line(origin: Origin, at: Where, what: str) -> str:
    return f"{origin}: {dotted(at)}: {what}" if origin.kind != "default" else f"{dotted(at)}: {what}"


# Showing what holds


def _shown(form: File, sources: Sources, data: Path) -> Iterator[Setting]:
    tree = form.model_dump(mode="json", exclude_none=True)
    tree["data"] = str(data)
    for at, value in _leaves(tree, ()):
        yield Setting(dotted(at), _redact(at, value), _source(sources, at))


def _source(sources: Sources, at: Where) -> Origin:
    """Return who set exactly this; a value inside a list was said where the list was."""
    if at in sources.origins or any(isinstance(part, int) for part in at):
        return sources.origin(at)
    return Origin("default")


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
    secret = at[0] == "callers" or (len(at) == 4 and at[2] == "headers")
    return HIDDEN if secret and not REFERENCE.fullmatch(value) else value

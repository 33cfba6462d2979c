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
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from pydantic import ValidationError

from gateway.confirm import Confirm
from gateway.form import (
    CallbackTable,
    File,
    IdempotencyTable,
    LookupTable,
    OperationTable,
    RateTable,
    UpstreamTable,
    WaitTable,
    is_table,
)
from gateway.problems import ConfigError, Refused
from gateway.settings_told import REFERENCE, Setting, like, line, problems, shown
from gateway.sources import (
    KNOWN,
    Sources,
    Where,
    from_environment,
    from_file,
    from_flags,
)
from policies.notices import Receiver, callback_name, drift_name, key_of
from policies.rules import Idempotency, Lookup, OperationRule, Rate, UpstreamRules

SHORTEST = 16
"""Bytes of a secret that notices are signed with (Standard Webhooks asks for 24): fewer can be tried out."""

SECRETIVE = re.compile(r"authorization|key|token|secret|password|cookie|signature", re.I)


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
class Settings:
    """All the gateway is told. `host` and `port` are `listen` in parts (port 0: any free one)."""

    host: str
    port: int
    store: str | None = field(repr=False)
    data: Path
    hosts: frozenset[str] = frozenset()  # names by which browsers may reach us, the host of `listen` among them
    fsync: Literal["always", "everysec"] = "always"
    confirm: Confirm | None = None
    workers: int = 1
    callers: Mapping[str, str] = field(default_factory=dict, repr=False)
    limits: Limits = Limits()
    retention: Retention = Retention()
    upstreams: Mapping[str, UpstreamRules] = field(default_factory=dict)
    callbacks: tuple[Receiver, ...] = ()
    drift: tuple[Receiver, ...] = ()
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
        raise ConfigError("\n".join(problems(error, sources))) from None
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
        callbacks = self._receivers("callbacks", form.callbacks, callback_name)
        drift = self._receivers("drift", form.drift, drift_name)
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
            hosts=frozenset((*form.hosts, host.lower())),
            fsync=form.store.fsync,
            confirm=_confirm(form.store.wait),
            workers=form.workers,
            callers=callers,
            limits=Limits(form.limits.body, form.limits.headers),
            retention=Retention(form.retention.idle, form.retention.ended, form.retention.keys),
            upstreams=upstreams,
            callbacks=callbacks,
            drift=drift,
            key=self.environ.get("GIMBAL_KEY") or None,
            file=self.path,
            shown=tuple(shown(form, self.sources, data.absolute())),
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

    def _receivers(
        self, section: str, tables: Mapping[str, CallbackTable], named: Callable[[str], str]
    ) -> tuple[Receiver, ...]:
        found = []
        for name, table in tables.items() if self.secrets else ():
            at: Where = (section, name)
            if not REFERENCE.fullmatch(table.secret):
                self._warn((*at, "secret"), 'stands in plain text; name it instead: secret = "env:…" or "file:…"')
            if table.url.startswith("http://") and not is_loopback(urlsplit(table.url).hostname or ""):
                self._warn((*at, "url"), "http:// sends notices in the clear; use https://")
            secret = self._secret((*at, "secret"), table.secret)
            try:
                if secret is not None and len(key_of(secret)) < SHORTEST:
                    self._problem((*at, "secret"), f"has fewer than {SHORTEST} bytes, which can be guessed")
                elif secret is not None:
                    found.append(Receiver(named(name), table.url, secret, table.timeout))
            except ValueError as error:
                self._problem((*at, "secret"), str(error))
        return tuple(found)

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
            deadline=table.deadline,
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
                meant = f"GIMBAL__{name.removeprefix('GIMBAL_')}"
                hint = f"; did you mean {meant}?" if _is_setting(meant) else like(name, KNOWN)
                self.warnings.append(f"{name}: is no variable of Gimbal's{hint or '; unset it'}")

    def _problem(self, at: Where, what: str) -> None:
        self.problems.append(line(self.sources.origin(at), at, what))

    def _warn(self, at: Where, what: str) -> None:
        self.warnings.append(line(self.sources.origin(at), at, what))


def _is_setting(variable: str) -> bool:
    return variable.removeprefix("GIMBAL__").partition("_")[0].lower() in File.model_fields


# From the form to the rules


def _idempotency(table: IdempotencyTable) -> Idempotency:
    return Idempotency(table.carrier, table.name, table.window, table.stores, table.replayed)


def _confirm(table: WaitTable | None) -> Confirm | None:
    if table is None or not (table.local or table.replicas):
        return None
    return Confirm(table.local, table.replicas, table.on == "memory", table.timeout)


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
        deadline=table.deadline,
        poll=table.poll,
        lookup=_lookup(table.lookup),
        assume=table.assume,
        partial=table.partial,
        fill=tuple(table.fill.items()),
    )

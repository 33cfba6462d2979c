"""`gimbal doctor`: is everything in place to serve, and what to do where it is not. Secrets are never shown.

Each finding is `ok`, a `warning` (it works, but), or a `problem` (it does not). Any problem makes the exit code 1.
"""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import ssl
import stat
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal
from urllib.parse import urlsplit

import typer

from gateway.commands.options import AsJson, Config, Data, Store, Upstreams, read_settings
from gateway.commands.render import put, put_json, put_table
from gateway.problems import GimbalError

if TYPE_CHECKING:
    from gateway.settings import Settings
    from policies.rules import UpstreamRules

LITTLE_ROOM = 1 << 30
"""Free bytes below which a warning is due: a busy journal grows by some 100 MB before it is rewritten."""

NO_ROOM = 64 << 20
"""Free bytes below which the store is about to refuse writes."""

PATIENCE = 3.0
"""Seconds to wait for a connection to an upstream."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What was looked at, how it stands, what was seen, and what to do."""

    what: str
    state: Literal["ok", "warning", "problem"]
    seen: str
    do: str = ""


def doctor(
    repair: Annotated[
        bool,
        typer.Option("--repair", help="Cut a damaged journal of the embedded store at the damage, after a copy."),
    ] = False,
    upstream: Upstreams = None,
    as_json: AsJson = False,
    config: Config = None,
    data: Data = None,
    store: Store = None,
) -> None:
    """Look at versions, store, disk and upstreams, and say what to do."""
    if repair:
        from gateway.engine import Engine

        done = Engine(read_settings(config, data, store).data).repair()
        put_json({"repaired": done}) if as_json else put(done)
        return
    findings = [*_versions()]
    settings: Settings | None = None
    try:
        settings = read_settings(config, data, store, upstreams=upstream, secrets=True)
        findings += [Finding("configuration", "ok", str(settings.file or "no file; defaults and environment"))]
        findings += [Finding("configuration", "warning", warning) for warning in settings.warnings]
    except GimbalError as error:
        findings += [Finding("configuration", "problem", line, "correct it") for line in str(error).splitlines()]
    if settings is not None:
        findings += [*_data(settings.data), *asyncio.run(_world(settings))]
    if as_json:
        for finding in findings:
            put_json(asdict(finding))
    else:
        put_table(["", "WHAT", "SEEN", "DO"], [[f.state, f.what, f.seen, f.do] for f in findings])
    if any(finding.state == "problem" for finding in findings):
        raise typer.Exit(1)


def _versions() -> Iterator[Finding]:
    from importlib.metadata import PackageNotFoundError, version

    try:
        gimbal = version("gimbal-gateway")
    except PackageNotFoundError:
        gimbal = "not installed as a package"
    system = f"{platform.system()} {platform.machine()}"
    yield Finding(
        "versions", "ok", f"Gimbal {gimbal}, Python {platform.python_version()}, {system}, {ssl.OPENSSL_VERSION}"
    )


def _data(data: Path) -> Iterator[Finding]:
    """Look at the data directory (made at first start) and the room around it."""
    standing = next(folder for folder in (data, *data.parents) if folder.exists())
    if standing == data:
        info = data.stat()
        if not data.is_dir():
            yield Finding(
                "data directory", "problem", f"{data} is no directory", "move it away, or give --data DIR"
            )
        elif not os.access(data, os.W_OK | os.X_OK):
            yield Finding(
                "data directory", "problem", f"{data} is not yours to write", "chown it, or give --data DIR"
            )
        elif os.name == "posix" and stat.S_IMODE(info.st_mode) & 0o077:
            yield Finding("data directory", "warning", f"{data} is open to others", f"chmod 700 {data}")
        else:
            yield Finding("data directory", "ok", str(data))
    elif os.access(standing, os.W_OK):
        yield Finding("data directory", "ok", f"{data} (made at first start)")
    else:
        yield Finding("data directory", "problem", f"{data} cannot be made in {standing}", "give --data DIR")
    token = data / "admin-token"
    if os.name == "posix" and token.exists() and stat.S_IMODE(token.stat().st_mode) & 0o077:
        yield Finding("admin token", "problem", f"{token} can be read by others", "delete it; a new one is made")
    free = shutil.disk_usage(standing).free
    state: Literal["ok", "warning", "problem"] = (
        "ok" if free > LITTLE_ROOM else "warning" if free > NO_ROOM else "problem"
    )
    yield Finding(
        "disk", state, f"{free / 2**30:.1f} GiB free", "" if state == "ok" else f"make room under {standing}"
    )


async def _world(settings: Settings) -> list[Finding]:
    asked = [_store(settings), *(_upstream(upstream) for upstream in settings.upstreams.values())]
    return [finding for found in await asyncio.gather(*asked) for finding in found]


async def _store(settings: Settings) -> list[Finding]:
    """Ask the store what it promises. The embedded one is started where nobody had."""
    from gateway.engine import Engine
    from gateway.store import examine, open_store

    engine = None
    try:
        if settings.store is None:
            engine = Engine(settings.data, settings.fsync)
            url = await asyncio.to_thread(engine.ensure)
        else:
            url = settings.store
        client = open_store(url)
        try:
            found = await examine(client, embedded=engine is not None, patience=PATIENCE, confirm=settings.confirm)
        finally:
            await client.aclose()
    except GimbalError as error:
        seen, _, cure = str(error).partition(": ")
        return [Finding("store", "problem", seen, cure)]
    finally:
        if engine is not None:
            await asyncio.to_thread(engine.stop)
    kind = "embedded" if found.embedded else "named"
    seen = f"{kind} {found.engine} {found.version}: {found.promise}"
    notes = engine.status().notes if engine is not None else ()
    findings = [Finding("store", "ok", seen)]
    for text in (*found.warnings, *notes):
        said, _, cure = text.partition(": ")
        findings.append(Finding("store", "warning", said, cure))
    return findings


async def _upstream(rules: UpstreamRules) -> list[Finding]:
    """Connect to where an upstream listens; nothing is sent."""
    url = urlsplit(rules.base_url)
    host, port = url.hostname or "", url.port or (443 if url.scheme == "https" else 80)
    what = f"upstream {rules.name}"
    try:
        async with asyncio.timeout(PATIENCE):
            _, writer = await asyncio.open_connection(host, port)
    except TimeoutError:
        seen, do = f"{host}:{port} does not answer", "check its base_url, and firewalls on the way"
        return [Finding(what, "problem", seen, do)]
    except OSError as error:
        seen = f"{host}:{port} cannot be reached: {error.strerror or 'no such host'}"
        return [Finding(what, "problem", seen, "check its base_url, and that it runs")]
    writer.close()
    return [Finding(what, "ok", f"{host}:{port} takes connections")]

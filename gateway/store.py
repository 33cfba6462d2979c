"""The store calls are kept in, named or embedded: how it is opened, and what it promises.

`examine()` refuses a store that would lose or refuse what we keep, and states the rest as a value:
`Durability`, for `doctor` and the banner of `serve`. Nothing here shows a password.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import AuthenticationError, BusyLoadingError, NoPermissionError, RedisError, ResponseError

from gateway.confirm import Confirm
from gateway.problems import ConfigError, EngineError, Refused

SCHEMES = ("redis", "rediss", "unix")

FLOOR = (6, 2)
"""The oldest store our scripts run on: GETDEL, and what Lua may do."""

WAITAOF_SINCE = (7, 2)

TIMEOUT = 5.0
"""Seconds for one command: as long as a lease, since after that the answer is of no use to a holder."""

CONNECT_TIMEOUT = 2.0
"""Seconds for a connection; a caller waits this long at most to hear that the store is away."""

CONNECTIONS = 64
"""Connections of one process. Commands of one turn share a pipeline, so a few are busy at a time."""

LOADING_PATIENCE = 60.0
"""Seconds a named store may still read its files when we start."""


class Fsync(StrEnum):
    """When a store's journal reaches the disk."""

    ALWAYS = "always"  # before a write is acknowledged
    EVERYSEC = "everysec"  # about a second later
    NO = "no"  # when the system likes
    NONE = "none"  # there is no journal
    UNKNOWN = "unknown"  # the store does not tell


PROMISES = {
    Fsync.ALWAYS: "every acknowledged transition survives a killed engine and a power cut",
    Fsync.EVERYSEC: "a killed engine or a power cut may lose the last second or two of acknowledged transitions",
    Fsync.NO: "a power cut may lose the last half minute of acknowledged transitions, a kill some",
    Fsync.NONE: "everything since the store's last snapshot is lost when it ends",
    Fsync.UNKNOWN: "the store does not tell what survives its end",
}
"""What each setting means to a call; measured in docs/promises.md where it is about the embedded engine."""


@dataclass(frozen=True, slots=True)
class Durability:
    """What a store says of itself. `replicas` counts those connected; `run_id` changes when it restarts."""

    engine: str  # valkey or redis
    version: str
    fsync: Fsync
    eviction: str
    replicas: int
    embedded: bool
    run_id: str
    warnings: tuple[str, ...] = ()
    confirm: Confirm | None = None

    @property
    def promise(self) -> str:
        if self.confirm is None:
            return PROMISES[self.fsync]
        return (
            f"{self.confirm.promise}; else {PROMISES[self.fsync]}"
            if not self.confirm.local
            else self.confirm.promise
        )


def open_store(url: str) -> Redis:
    """Return a client of the store at `url`; nothing is sent yet.

    It never tries a command twice: only the ledger knows which of its commands may be repeated. It is not for
    blocking reads, which would run into its timeout.
    """
    scheme, _, rest = url.partition("://")
    if scheme not in SCHEMES or not rest:
        raise ConfigError("the store's URL must be redis://HOST:PORT/DB, rediss://... or unix:///PATH")
    try:
        return Redis.from_url(
            url,
            protocol=2,  # a tenth faster than RESP3 for scripts, and no push messages to sort out
            decode_responses=False,
            socket_timeout=TIMEOUT,
            socket_connect_timeout=CONNECT_TIMEOUT,
            retry=Retry(NoBackoff(), 0),
            health_check_interval=0,
            max_connections=CONNECTIONS,
            client_name="gimbal",
        )
    except ValueError as error:  # its text names the option or the port, never a password
        raise ConfigError(f"the store's URL is wrong: {error}") from error


async def examine(
    store: Redis, *, embedded: bool = False, patience: float = LOADING_PATIENCE, confirm: Confirm | None = None
) -> Durability:
    """Return what `store` promises, waiting `patience` seconds for one that is still loading.

    Raises `EngineError` for one that is away, too old, read-only or closed to us, `Refused` for one that evicts
    or can never `confirm` what it is to.
    """
    try:
        said = await _loaded(store, patience)
        fsync = await _fsync(store, said)
    except (RedisError, OSError) as error:
        raise EngineError(_refusal(error)) from error
    found = durability(said, fsync, embedded)
    return found if confirm is None else confirming(found, confirm)


def confirming(found: Durability, confirm: Confirm) -> Durability:
    """Return `found` as it is when each transition waits for `confirm`; `Refused` where that never comes."""
    version = tuple(int(part) for part in found.version.split(".")[:2])
    if any(name == "WAITAOF" for name, *_ in confirm.commands()) and version < WAITAOF_SINCE:
        raise Refused(
            f"store.wait: {found.engine} {found.version} knows no WAITAOF (7.2 does): "
            'upgrade it, or wait for replicas alone: wait = { local = false, replicas = 1, on = "memory" }'
        )
    if confirm.local and found.fsync in (Fsync.NONE, Fsync.NO):
        raise Refused(
            f"store.wait: the store never says when a write is on its disk (appendfsync is {found.fsync}): "
            "set appendonly yes and appendfsync always or everysec, or local = false"
        )
    warnings = [text for text in found.warnings if not (confirm.local and text.startswith("appendfsync"))]
    if confirm.replicas > found.replicas:
        missing = f"store.wait: {found.replicas} of {confirm.replicas} replicas are connected"
        warnings.append(f"{missing}: nothing is sent until the rest are")
    return replace(found, warnings=tuple(warnings), confirm=confirm)


def durability(said: Mapping[str, Any], fsync: Fsync, embedded: bool) -> Durability:
    """Judge what the store `said` (its INFO): a value, or `EngineError` or `Refused` naming the cure."""
    engine = str(said.get("server_name", "redis"))  # Redis does not tell its name
    version = str(said.get(f"{engine}_version", said.get("redis_version", "0")))
    if tuple(int(part) for part in version.split(".")[:2]) < FLOOR:
        raise EngineError(f"the store is {engine} {version}: Gimbal needs 6.2 or later")
    if said.get("role") == "slave":
        raise EngineError("the store is a read-only replica: name its primary")
    eviction = str(said.get("maxmemory_policy", "unknown"))
    evicts = eviction not in ("noeviction", "unknown")
    if evicts and said.get("maxmemory"):
        raise Refused(
            f"the store evicts keys when its memory is full ({eviction}), which forgets calls that were made: "
            "set maxmemory-policy noeviction"
        )
    warnings = [
        text
        for text, said_so in (
            (f"maxmemory-policy is {eviction}: set it to noeviction before maxmemory is set", evicts),
            (f"appendfsync is {fsync}: {PROMISES[fsync]}", fsync in (Fsync.EVERYSEC, Fsync.NO)),
            (f"appendonly is off: {PROMISES[fsync]}", fsync is Fsync.NONE),
            (f"appendfsync cannot be read: {PROMISES[fsync]}", fsync is Fsync.UNKNOWN),
            ("its last journal write failed: is its disk full?", said.get("aof_last_write_status", "ok") != "ok"),
        )
        if said_so
    ]
    return Durability(
        engine=engine,
        version=version,
        fsync=fsync,
        eviction=eviction,
        replicas=int(said.get("connected_slaves", 0)),
        embedded=embedded,
        run_id=str(said.get("run_id", "")),
        warnings=tuple(warnings),
    )


async def _loaded(store: Redis, patience: float) -> dict[str, Any]:
    """Return the store's INFO once it serves commands."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + patience
    while True:
        try:
            await store.ping()
            return await store.info()
        except RedisError as error:
            if not isinstance(_root(error), BusyLoadingError) or loop.time() > deadline:
                raise
            await asyncio.sleep(0.1)


async def _fsync(store: Redis, said: Mapping[str, Any]) -> Fsync:
    if not said.get("aof_enabled"):
        return Fsync.NONE
    try:
        told = (await store.config_get("appendfsync")).get("appendfsync")
    except ResponseError:  # hosted stores close CONFIG
        return Fsync.UNKNOWN
    return next((setting for setting in Fsync if setting == told), Fsync.UNKNOWN)


def _refusal(error: Exception) -> str:
    """Return what went wrong and its cure, as a sentence."""
    match _root(error):
        case AuthenticationError() | NoPermissionError() as root:
            return f"the store does not let us in ({root}): put a user and password that may do all in its URL"
        case BusyLoadingError():
            return "the store is still loading its files: try again when it has"
        case ResponseError() as root:
            return f"the store refuses us ({root}): is it a Redis or Valkey?"
        case root:
            return f"the store cannot be reached ({root}): start it, or correct its URL"


def _root(error: BaseException) -> BaseException:
    """Return what redis-py's asyncio client wraps in a ConnectionError when it happens while connecting."""
    cause = error.__cause__
    return cause if isinstance(cause, RedisError) else error

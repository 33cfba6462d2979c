"""What a store promises, and which stores are refused."""

from __future__ import annotations

import asyncio

import pytest

from gateway.engine import Engine
from gateway.problems import ConfigError, EngineError, Refused
from gateway.store import Durability, Fsync, durability, examine, open_store

INFO = {
    "redis_version": "7.2.4",
    "role": "master",
    "cluster_enabled": 0,
    "maxmemory": 0,
    "maxmemory_policy": "noeviction",
    "connected_slaves": 0,
    "run_id": "4f0c",
    "aof_last_write_status": "ok",
}


async def examined(url: str, patience: float = 1.0) -> Durability:
    async with open_store(url) as store:
        return await examine(store, patience=patience)


# Opening


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("http://host", "must be redis://"),
        ("localhost", "must be redis://"),
        ("redis://", "must be redis://"),
        ("redis://host:99999", "Port out of range"),
        ("redis://me:secret@host?socket_timeout=soon", "socket_timeout"),
    ],
)
def test_a_wrong_url_is_a_wrong_setting_and_keeps_its_password(url, said):
    with pytest.raises(ConfigError, match=said) as caught:
        open_store(url)

    assert "secret" not in str(caught.value)


# What it promises


def test_the_embedded_engine_keeps_every_acknowledged_transition_and_warns_of_nothing(data):
    found = asyncio.run(examined(Engine(data).ensure()))

    assert found.engine == "valkey"
    assert found.fsync is Fsync.ALWAYS
    assert found.warnings == ()
    assert len(found.run_id) == 40


def test_a_store_that_syncs_later_says_what_may_be_lost(store_url):
    found = asyncio.run(examined(store_url))

    assert found.fsync is Fsync.NO
    assert found.promise in found.warnings[0]


@pytest.mark.parametrize(
    ("said", "fsync", "warning"),
    [
        ({}, Fsync.EVERYSEC, "last second or two"),
        ({}, Fsync.NONE, "since the store's last snapshot"),
        ({}, Fsync.UNKNOWN, "does not tell"),
        ({"maxmemory_policy": "allkeys-lru"}, Fsync.ALWAYS, "before maxmemory is set"),
        ({"aof_last_write_status": "err"}, Fsync.ALWAYS, "is its disk full"),
    ],
)
def test_weaker_promises_are_said(said, fsync, warning):
    found = durability(INFO | said, fsync, embedded=False)

    assert len(found.warnings) == 1
    assert warning in found.warnings[0]


@pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl"])
def test_an_evicting_store_is_refused(policy):
    with pytest.raises(Refused, match="set maxmemory-policy noeviction"):
        durability(INFO | {"maxmemory": 1 << 20, "maxmemory_policy": policy}, Fsync.ALWAYS, embedded=False)


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"redis_version": "6.0.16"}, "is redis 6.0.16: Gimbal needs 6.2"),
        ({"role": "slave"}, "read-only replica: name its primary"),
    ],
)
def test_a_store_we_cannot_use_is_named_with_a_cure(said, why):
    with pytest.raises(EngineError, match=why):
        durability(INFO | said, Fsync.ALWAYS, embedded=False)


def test_a_valkey_is_judged_by_its_own_version():
    said = INFO | {"server_name": "valkey", "valkey_version": "9.1.2"}

    assert durability(said, Fsync.ALWAYS, embedded=True).version == "9.1.2"


# Real stores that are set otherwise


async def examined_when(url: str, *settings: tuple[str, str]) -> Durability:
    async with open_store(url) as store:
        for name, value in settings:
            await store.config_set(name, value)
    return await examined(url)


def test_a_real_store_that_evicts_is_refused(data):
    url = Engine(data).ensure()

    with pytest.raises(Refused, match="allkeys-lru"):
        asyncio.run(examined_when(url, ("maxmemory", "100mb"), ("maxmemory-policy", "allkeys-lru")))


def test_a_real_store_without_a_journal_is_taken_and_said(data):
    found = asyncio.run(examined_when(Engine(data).ensure(), ("appendonly", "no")))

    assert found.fsync is Fsync.NONE


def test_a_real_store_that_wants_a_password_is_opened_with_it_alone(data):
    url = Engine(data).ensure()

    with pytest.raises(EngineError, match="put a user and password"):
        asyncio.run(examined_when(url, ("requirepass", "secret")))
    with pytest.raises(EngineError, match="put a user and password"):
        asyncio.run(examined(f"{url}?password=wrong"))

    assert asyncio.run(examined(f"{url}?password=secret")).engine == "valkey"


def test_a_real_store_that_closes_config_is_taken_with_a_warning(data):
    async def close_config(url: str) -> Durability:
        async with open_store(url) as store:
            await store.acl_setuser("guest", enabled=True, nopass=True, categories=["+@all"], commands=["-config"])
        return await examined(f"{url}?username=guest&password=any")

    found = asyncio.run(close_config(Engine(data).ensure()))

    assert found.fsync is Fsync.UNKNOWN
    assert "cannot be read" in found.warnings[0]


def test_a_real_replica_is_refused(data):
    async def follow(url: str) -> Durability:
        async with open_store(url) as store:
            await store.replicaof("127.0.0.1", "1")
        return await examined(url)

    with pytest.raises(EngineError, match="read-only replica"):
        asyncio.run(follow(Engine(data).ensure()))


@pytest.mark.parametrize("url", ["unix:///nowhere/store.sock", "redis://127.0.0.1:1"])
def test_a_store_that_is_away_is_named_at_once(url):
    with pytest.raises(EngineError, match=r"cannot be reached .*: start it, or correct its URL"):
        asyncio.run(examined(url))


def test_a_store_that_goes_on_loading_is_given_up_after_our_patience(tmp_path):
    async def load_for_ever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while line := await reader.readline():
            if line.startswith(b"*"):
                writer.write(b"-LOADING the dataset is in memory soon\r\n")
        writer.close()

    async def ask() -> Durability:
        async with await asyncio.start_unix_server(load_for_ever, tmp_path / "s"):
            return await examined(f"unix://{tmp_path}/s", patience=0.05)

    with pytest.raises(EngineError, match="still loading"):
        asyncio.run(ask())


def test_something_that_is_no_store_is_named(tmp_path):
    async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async def ask() -> Durability:
        async with await asyncio.start_unix_server(greet, tmp_path / "s"):
            return await examined(f"unix://{tmp_path}/s")

    with pytest.raises(EngineError, match="cannot be reached"):
        asyncio.run(ask())

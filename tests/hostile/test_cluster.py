"""Three real engines as a cluster: every script touches one slot, work is spread, and a moved slot is followed."""

from __future__ import annotations

import asyncio
import itertools
import os
import shutil
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
import redis
from redis.crc import key_slot

from fixtures.upstreams.counting import Counting
from gateway.cluster import ClusterLink
from gateway.contracts import RedisContracts
from gateway.engine_binary import find_binary
from gateway.vault import Vault
from policies.claims import SHARDS
from tests.hostile.serving import Serving, process, until

NODES = 3
SLOTS = 16384


class Cluster:
    """Three nodes on loopback, each with a third of the slots."""

    def __init__(self, home: Path, stack: ExitStack) -> None:
        self.ports = [_free_port() for _ in range(NODES)]
        for port, bus in zip(self.ports, [_free_port() for _ in range(NODES)], strict=True):
            place = home / str(port)
            place.mkdir()
            command = [find_binary().path, "--port", str(port), "--bind", "127.0.0.1", "--dir", str(place)]
            command += ["--cluster-enabled", "yes", "--cluster-port", str(bus), "--save", "", "--appendonly", "no"]
            stack.enter_context(process(*command, "--logfile", str(place / "log")))
        self.nodes = [redis.Redis(port=port) for port in self.ports]
        for node in self.nodes:
            stack.callback(node.close)
            until(lambda node=node: _answers(node))
        self._assign()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.ports[0]}"

    def move(self, slot: int) -> None:
        """Give a slot, with nothing in it, to the next node; only the two of them are told at once."""
        names = [_said(node, "CLUSTER MYID").decode() for node in self.nodes]
        owner = next(at for at, node in enumerate(self.nodes) if _owns(node, slot))
        new = (owner + 1) % NODES
        for node in (self.nodes[new], self.nodes[owner]):
            node.execute_command("CLUSTER SETSLOT", slot, "NODE", names[new])

    def _assign(self) -> None:
        first, *others = self.nodes
        for at, node in enumerate(self.nodes):
            node.execute_command("CLUSTER ADDSLOTSRANGE", SLOTS * at // NODES, SLOTS * (at + 1) // NODES - 1)
            node.execute_command("CLUSTER SET-CONFIG-EPOCH", at + 1)
        for node in others:
            bus = int(node.config_get("cluster-port")["cluster-port"])
            port = node.connection_pool.connection_kwargs["port"]
            first.execute_command("CLUSTER MEET", "127.0.0.1", port, bus)
        for node in self.nodes:
            until(lambda node=node: b"cluster_state:ok" in _said(node, "CLUSTER INFO"))
            until(lambda node=node: len(_said(node, "CLUSTER SLOTS")) == NODES)
            node.config_resetstat()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    home = tmp_path_factory.mktemp("cluster")
    with ExitStack() as stack:
        yield Cluster(home, stack)
    shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def upstream() -> Iterator[Counting]:
    with Counting() as counting:
        yield counting


def take(gateway: Serving, workflow: str, modes: str, **headers: str) -> httpx.Response:
    identity = {"Workflow-Id": workflow, "Workflow-Run": os.urandom(4).hex(), "X-Ref": workflow, **headers}
    with gateway.client(headers=identity) as caller:
        return caller.post(f"/shop/{modes}/things", content=workflow)


def test_a_gateway_on_a_cluster_does_all_it_does_and_no_command_crosses_slots(cluster, upstream, tmp_path):
    """Effects, replays, waits that end without a caller, doubts that are settled; over all nodes."""
    with Serving({"shop": upstream.url}, tmp_path, cluster.url) as gateway, ThreadPoolExecutor(8) as callers:
        plain = [f"plain-{number}" for number in range(30)]
        done = list(callers.map(lambda name: take(gateway, name, "ok"), plain))
        again = list(callers.map(lambda name: take(gateway, name, "ok"), plain))
        late = [f"late-{number}" for number in range(10)]
        put_off = list(callers.map(lambda name: take(gateway, name, "429:1,ok", Prefer="wait=0"), late))
        doubt = take(gateway, "doubt", "drop-after,ok")
        gateway.said("resolve", doubt.headers["Gimbal-Call"], "--applied")
        until(lambda: all(upstream.effects[name] for name in late))
        listed = gateway.said("workflows")
        complaints = [_complaints(node) for node in cluster.nodes]

    assert {answer.status_code for answer in done} == {201}
    assert [answer.content for answer in again] == [answer.content for answer in done]
    assert all("Idempotent-Replayed" in answer.headers for answer in again)
    assert {answer.status_code for answer in put_off} == {503}
    assert doubt.json()["type"] == "/-/problems/in-doubt"
    assert set(upstream.effects.values()) == {1}
    assert listed
    assert [names & {"CROSSSLOT", "ERR", "CLUSTERDOWN"} for names in complaints] == [set()] * NODES
    assert all(node.dbsize() > 10 for node in cluster.nodes)


def test_the_shards_are_spread_evenly_over_the_slots_of_a_cluster():
    nodes = [key_slot(f"gimbal:{{s{shard}}}:due".encode()) * NODES // SLOTS for shard in range(SHARDS)]

    counts = [nodes.count(node) for node in range(NODES)]

    assert min(counts) > 0.8 * SHARDS / NODES


def test_every_key_of_a_shard_lies_in_one_slot(cluster, upstream, tmp_path):
    with Serving({"shop": upstream.url}, tmp_path, cluster.url) as gateway:
        for number in range(5):
            take(gateway, f"slots-{number}", "ok")

    keys = list(itertools.chain.from_iterable(node.keys("gimbal:{s*") for node in cluster.nodes))
    by_shard: dict[bytes, set[int]] = {}
    for key in keys:
        slot = cluster.nodes[0].execute_command("CLUSTER KEYSLOT", key)
        by_shard.setdefault(key.partition(b"}")[0], set()).add(slot)

    assert len(keys) > 20
    assert {len(slots) for slots in by_shard.values()} == {1}


def test_a_slot_that_moved_is_followed_and_nothing_is_done_twice(cluster):
    key = "gimbal:{moved}:counter"

    async def count() -> list[int]:
        link = ClusterLink(cluster.url)
        try:
            before = await link.do("INCR", key)
            await link.do("DEL", key)
            cluster.move(key_slot(key.encode()))
            return [before, *[await link.do("INCR", key) for _ in range(3)]]
        finally:
            await link.aclose()

    counted = asyncio.run(count())

    assert counted == [1, 1, 2, 3]


def test_contracts_are_kept_in_a_cluster_too(cluster):
    async def keep() -> list[str]:
        contracts = RedisContracts(ClusterLink(cluster.url), Vault([bytes(32)]))
        try:
            await contracts.override("kept", "/orders/{id}")
            number = await contracts.revise("kept", "digest", 1.0, {"operations": {}})
            revision = await contracts.revision("kept")
            assert revision is not None
            return [*await contracts.overrides("kept"), str(number), revision.digest]
        finally:
            await contracts.aclose()

    assert asyncio.run(keep()) == ["/orders/{id}", "1", "digest"]


def _complaints(node: redis.Redis) -> set[str]:
    return {name.removeprefix("errorstat_") for name in node.info("errorstats")}


def _owns(node: redis.Redis, slot: int) -> bool:
    me = _said(node, "CLUSTER MYID")
    return any(
        first <= slot <= last and primary[2] == me for first, last, primary, *_ in _said(node, "CLUSTER SLOTS")
    )


def _said(node: redis.Redis, command: str) -> Any:
    """What a node says, before redis-py makes something else of it."""
    link = node.connection_pool.get_connection()
    try:
        link.send_command(*command.split())
        return link.read_response()
    finally:
        node.connection_pool.release(link)


def _answers(node: redis.Redis) -> bool:
    try:
        return bool(node.ping())
    except redis.ConnectionError:
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])

"""A Redis Cluster as one store: each command goes to the node that has its key's slot.

The same face as `gateway.link.Link`. All keys of a script lie in one slot (their hash tag, see `gateway._lua`), so
every command has one node. Which node that is, is asked once, and again when a node says that a slot has moved; a
command refused for that was not carried out, so it is sent again. While a slot has no node the store is away.

`TIME` is any node's: a node whose clock is behind finds its calls due so much later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from redis.crc import key_slot
from redis.exceptions import AskError, MovedError, ResponseError

from gateway.confirm import Confirm
from gateway.link import CONNECT_TIMEOUT, TIMEOUT, Argument, Link, Script
from gateway.problems import LedgerUnavailable, Unconfirmed

MOVES = 5
"""Times a command follows its slot: a reshard moves one once, a failover twice."""

PAUSE = 0.1
"""Seconds before a slot that is on its way is asked for again."""

KEY_AT = {"EVAL": 3, "EVALSHA": 3}
"""Where a command has its key, if not first."""

KEYLESS = frozenset({"TIME", "PING", "INFO"})
"""Commands any node answers."""


async def open_link(url: str, confirm: Confirm | None = None) -> Link | ClusterLink:
    """Return a link to the store at `url`, which says itself whether it is a cluster's node.

    A store that is away gets a plain link: whoever uses it first is told.
    """
    link = Link(url, confirm=confirm)
    try:
        told = await link.do("INFO", "cluster")
    except LedgerUnavailable:
        return link
    if b"cluster_enabled:1" not in told:
        return link
    await link.aclose()
    return ClusterLink(url, confirm=confirm)


class ClusterLink:
    """Links to the nodes of the cluster that `url` is a node of. Belongs to one event loop."""

    def __init__(
        self,
        url: str,
        *,
        timeout: float = TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
        confirm: Confirm | None = None,
    ) -> None:
        self._url = url
        self._confirm = confirm
        self._timeouts = {"timeout": timeout, "connect_timeout": connect_timeout}
        self._seed = Link(url, timeout=timeout, connect_timeout=connect_timeout)
        self._nodes: dict[str, Link] = {}
        self._slots: list[tuple[int, int, str]] = []  # first, last, node's address
        self._learning: asyncio.Task[None] | None = None

    @property
    def connected(self) -> bool:
        return self._seed.connected

    @property
    def connections(self) -> int:
        return sum(node.connections for node in self._nodes.values())

    async def do(self, *command: Argument) -> Any:
        """Send one command to its node and return its answer."""
        name = str(command[0])
        if name in KEYLESS:
            return await self._seed.do(*command)
        return await self._at(str(command[KEY_AT.get(name, 1)]), lambda node: node.do(*command))

    async def do_all(self, commands: Sequence[tuple[Argument, ...]]) -> list[Any]:
        """Send each command, which only reads, to its node and return their answers."""
        return list(await asyncio.gather(*(self.do(*command) for command in commands)))

    async def run(self, script: Script, key: str, *arguments: Argument) -> Any:
        """Run `script` at the node of `key` and return its answer."""
        return await self._at(key, lambda node: node.run(script, key, *arguments))

    async def aclose(self) -> None:
        for link in (self._seed, *self._nodes.values()):
            await link.aclose()

    async def _at(self, key: str, send: Any) -> Any:
        slot = key_slot(key.encode())
        for _ in range(MOVES):
            address = await self._address(slot)
            try:
                return await send(self._node(address))
            except Unconfirmed:
                raise
            except LedgerUnavailable as error:
                match error.__cause__:
                    case MovedError() as moved:  # other nodes may not have heard of it yet
                        self._slots.insert(0, (slot, slot, self._named(moved.host, moved.port)))
                    case AskError():  # half way to another node: wait until it is there
                        await asyncio.sleep(PAUSE)
                    case ResponseError():
                        raise
                    case _:  # a dead node: who asks next asks for its successor
                        self._slots.clear()
                        raise
        raise LedgerUnavailable(f"slot {slot} of the store keeps moving; nothing was done")

    async def _address(self, slot: int) -> str:
        for _ in range(2):
            for first, last, address in self._slots:
                if first <= slot <= last:
                    return address
            if self._learning is None or self._learning.done():
                self._learning = asyncio.create_task(self._learn())
            await asyncio.shield(self._learning)
        raise LedgerUnavailable(f"slot {slot} of the store has no node; nothing was sent")

    async def _learn(self) -> None:
        """Ask for the map of slots, of any node that answers."""
        failure: LedgerUnavailable | None = None
        for link in (self._seed, *self._nodes.values()):
            try:
                told = await link.do("CLUSTER", "SLOTS")
            except LedgerUnavailable as error:
                failure = error
                continue
            self._slots = [
                (first, last, self._named(primary[0].decode(), primary[1])) for first, last, primary, *_ in told
            ]
            return
        assert failure is not None
        raise failure

    def _named(self, host: str, port: int) -> str:
        """A node that does not know its own name is where we asked."""
        name = host or urlsplit(self._url).hostname or ""
        return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"

    def _node(self, address: str) -> Link:
        link = self._nodes.get(address)
        if link is None:
            parts = urlsplit(self._url)
            user, at, _ = parts.netloc.rpartition("@")
            url = urlunsplit(parts._replace(netloc=f"{user}{at}{address}", path="/0"))
            link = self._nodes[address] = Link(url, confirm=self._confirm, **self._timeouts)
        return link

"""Values of an upstream that replicas share, by name: sealed, and written only over what was read.

`gimbal:{c/NAME}:PART` is a hash of them; its field without a name counts the writings, so that whoever has read
all of it learns with one small question that nothing is new. It expires after `KEPT` without a writing.

A person's word is written over whatever is there; a gateway writes only over what it has read, and where somebody
else was faster, the values' own rule says which of the two holds.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Generic, Protocol, TypeVar

import orjson

from discovery.exchange import Json
from gateway.cluster import ClusterLink
from gateway.contracts import KEPT
from gateway.link import Link, Script
from gateway.problems import LedgerUnavailable
from gateway.vault import Vault

FLUSH = 5.0
"""Seconds between writings, and until what a person decided is in force everywhere."""

_SWAP = Script(
    """
    local stored = redis.call('HGET', KEYS[1], ARGV[1]) or ''
    if stored ~= ARGV[2] then return stored end
    redis.call('HSET', KEYS[1], ARGV[1], ARGV[3])
    redis.call('HINCRBY', KEYS[1], '', 1)
    redis.call('EXPIRE', KEYS[1], ARGV[4])
    return ''
    """
)
"""Write a value if what is there is still what was read; else return what is there."""

_log = logging.getLogger("gimbal.pins")


class Value(Protocol):
    """What is kept on a shelf."""

    def state(self) -> Json: ...


V = TypeVar("V", bound=Value)


@dataclass(slots=True)
class Shelf(Generic[V]):
    """The values of one part. Every method raises `LedgerUnavailable` while the store is away.

    `name` names a value, `load` reads its state, `ahead` returns which of two holds, the first where both may.
    """

    link: Link | ClusterLink
    vault: Vault
    part: str
    name: Callable[[V], str]
    load: Callable[[Any], V]
    ahead: Callable[[V, V], V]
    _marks: dict[tuple[str, str], bytes] = field(default_factory=dict)  # what was last read or written
    _read: dict[str, int] = field(default_factory=dict)  # writings that had been made when all was read

    async def all(self, upstream: str) -> list[V]:
        """Return an upstream's values, by name."""
        key = self._key(upstream)
        fields: list[bytes] = await self.link.do("HGETALL", key)
        sealed = {name.decode(): value for name, value in zip(fields[::2], fields[1::2], strict=True) if name}
        self._marks.update({(upstream, name): value for name, value in sealed.items()})
        return [self._open(sealed[name], key) for name in sorted(sealed)]

    async def news(self, upstream: str) -> list[V] | None:
        """Return all values where any was written since they were last asked for here; else None."""
        writings = int(await self.link.do("HGET", self._key(upstream), "") or 0)
        if self._read.get(upstream) == writings:
            return None
        found = await self.all(upstream)
        self._read[upstream] = writings
        return found

    async def keep(self, upstream: str, value: V) -> None:
        """Write a value over whatever is there: a person decided about it."""
        key = self._key(upstream)
        await self.link.do("HSET", key, self.name(value), self._seal(value, key))
        await self.link.do("HINCRBY", key, "", 1)
        await self.link.do("EXPIRE", key, KEPT)

    async def merge(self, upstream: str, value: V) -> V:
        """Write what this process knows; return what holds now: another's value where that was ahead."""
        name, key = self.name(value), self._key(upstream)
        while True:
            mark = self._marks.get((upstream, name), b"")
            sealed = self._seal(value, key)
            stored: bytes = await self.link.run(_SWAP, key, name, mark, sealed, KEPT)
            self._marks[upstream, name] = stored or sealed
            if not stored:
                return value
            theirs = self._open(stored, key)
            if self.ahead(value, theirs) is theirs:
                return theirs

    async def aclose(self) -> None:
        await self.link.aclose()

    def _key(self, upstream: str) -> str:
        return f"gimbal:{{c/{upstream}}}:{self.part}"

    def _seal(self, value: V, key: str) -> bytes:
        return self.vault.seal(zlib.compress(orjson.dumps(value.state()), 3), key)

    def _open(self, sealed: bytes, key: str) -> V:
        try:
            return self.load(orjson.loads(zlib.decompress(self.vault.open(sealed, key))))
        except (zlib.error, orjson.JSONDecodeError) as error:
            raise LedgerUnavailable(f"a value is damaged in the store ({key}): {error}") from error


class Sharing(Protocol):
    """What keeps in step with other processes: it writes its news, and reads theirs."""

    async def flush(self) -> None: ...

    async def refresh(self, upstream: str) -> None: ...


async def keep_in_step(parts: Sequence[Sharing], upstreams: Sequence[str]) -> None:
    """Write and read every `FLUSH` seconds, for ever. What fails is said once, and tried again."""
    said: set[str] = set()
    while True:
        await asyncio.sleep(FLUSH)
        failed: set[str] = set()
        for part in parts:
            works: list[Callable[[], Awaitable[None]]] = [part.flush]
            works += [partial(part.refresh, upstream) for upstream in upstreams]
            for work in works:
                try:
                    await work()
                except LedgerUnavailable as away:
                    failed.add(str(away))
        for error in sorted(failed - said):
            _log.warning("what is pinned and taught waits for the store: %s", error)
        said = failed

"""Values of an upstream that replicas share, by name: sealed, and written only over what was read.

`gimbal:{c/NAME}:PART` is a hash of them; its field without a name counts the writings, so that whoever has read
all of it learns with one small question that nothing is new. It expires after `KEPT` without a writing.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Any

import orjson

from discovery.exchange import Json
from gateway.cluster import ClusterLink
from gateway.contracts import KEPT
from gateway.link import Link, Script
from gateway.problems import LedgerUnavailable
from gateway.vault import Vault

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


@dataclass(frozen=True, slots=True)
class Shelved:
    """A value as it was read: `mark` says that nobody has written it since."""

    state: Any
    mark: bytes


@dataclass(frozen=True, slots=True)
class Shelf:
    """The values of one part. Raises `LedgerUnavailable` while the store is away."""

    link: Link | ClusterLink
    vault: Vault
    part: str

    async def writings(self, upstream: str) -> int:
        """Return how often anything of `upstream` was written."""
        return int(await self.link.do("HGET", self._key(upstream), "") or 0)

    async def all(self, upstream: str) -> dict[str, Shelved]:
        key = self._key(upstream)
        fields: list[bytes] = await self.link.do("HGETALL", key)
        named = zip(fields[::2], fields[1::2], strict=True)
        return {name.decode(): self._open(sealed, key) for name, sealed in named if name}

    async def put(self, upstream: str, name: str, state: Json) -> None:
        """Write a value over whatever is there: a person said so."""
        key = self._key(upstream)
        await self.link.do("HSET", key, name, self._seal(state, key))
        await self.link.do("HINCRBY", key, "", 1)
        await self.link.do("EXPIRE", key, KEPT)

    async def swap(self, upstream: str, name: str, state: Json, over: bytes) -> tuple[bool, Shelved]:
        """Write a value over the one that was read with the mark `over` (empty: there was none).

        Return whether it was written, and what is there now.
        """
        key = self._key(upstream)
        sealed = self._seal(state, key)
        stored: bytes = await self.link.run(_SWAP, key, name, over, sealed, KEPT)
        return (True, Shelved(state, sealed)) if not stored else (False, self._open(stored, key))

    def _key(self, upstream: str) -> str:
        return f"gimbal:{{c/{upstream}}}:{self.part}"

    def _seal(self, state: Json, key: str) -> bytes:
        return self.vault.seal(zlib.compress(orjson.dumps(state), 3), key)

    def _open(self, sealed: bytes, key: str) -> Shelved:
        try:
            return Shelved(orjson.loads(zlib.decompress(self.vault.open(sealed, key))), sealed)
        except (zlib.error, orjson.JSONDecodeError) as error:
            raise LedgerUnavailable(f"a value is damaged in the store ({key}): {error}") from error

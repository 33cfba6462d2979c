"""ContractStore in Redis: what was learned, shared by replicas, merged without coordination.

A replica appends what it has seen to a list; reading sums the list up. So replicas never wait for each
other, and no order matters. When the list is long, whoever reads it puts the sum in its place, in one step
that changes nothing if another was faster. Evidence is stored compressed and sealed: it holds no values but small
closed sets, yet what an API looks like is nobody else's business.

Keys, per upstream: `gimbal:{c/NAME}:seen` and `:looks` (lists), `:sources` and `:overrides` (sets), `:changes` (a
string), `:revisions` (hash); and `gimbal:contracts`, the names. All expire after `KEPT` without news.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from typing import Any, cast

import orjson

from discovery.contract import Revision
from discovery.drift_watch import Watch
from discovery.evidence import State
from discovery.traffic import Evidence
from gateway.cluster import ClusterLink
from gateway.link import Link, Script
from gateway.problems import LedgerUnavailable
from gateway.vault import Vault

KEPT = 400 * 86400
"""Seconds without news after which an upstream is forgotten: a yearly job still finds its contract."""

LONG = 24
"""Pieces of evidence after which they are summed up: reading stays a fraction of a second."""

REVISIONS = 50
"""Revisions kept per upstream, the newest."""

_NAMES = "gimbal:contracts"

_ADD = Script(
    """
    if ARGV[3] ~= '' then
        if redis.call('SADD', ARGV[2], ARGV[3]) == 0 then return 0 end
        redis.call('EXPIRE', ARGV[2], ARGV[4])
    end
    local length = redis.call('RPUSH', KEYS[1], ARGV[1])
    redis.call('EXPIRE', KEYS[1], ARGV[4])
    return length
    """
)
"""Append a piece, unless it comes from a source that was added before."""

_COMPACT = Script(
    """
    if redis.call('LRANGE', KEYS[1], 0, 0)[1] ~= ARGV[1] then return 0 end
    if redis.call('LINDEX', KEYS[1], ARGV[2] - 1) ~= ARGV[3] then return 0 end
    redis.call('LTRIM', KEYS[1], ARGV[2], -1)
    redis.call('LPUSH', KEYS[1], ARGV[4])
    redis.call('EXPIRE', KEYS[1], ARGV[5])
    return 1
    """
)
"""Put a sum in the place of the first ARGV[2] pieces, if those are still the ones that were summed."""

_SWAP = Script(
    """
    if (redis.call('GET', KEYS[1]) or '') ~= ARGV[1] then return 0 end
    redis.call('SET', KEYS[1], ARGV[2], 'EX', ARGV[3])
    return 1
    """
)
"""Put a value in the place of the one that was read, if it is still there."""

_REVISE = Script(
    """
    local number = tonumber(redis.call('HGET', KEYS[1], 'last') or '0')
    local digest = redis.call('HGET', KEYS[1], 'digest')
    if tonumber(ARGV[6]) < tonumber(redis.call('HGET', KEYS[1], 'behind') or '0') then return number end
    redis.call('HSET', KEYS[1], 'behind', ARGV[6])
    if digest == ARGV[1] then return number end
    number = number + 1
    redis.call('HSET', KEYS[1], 'last', number, 'digest', ARGV[1], number .. ':at', ARGV[2],
        number .. ':digest', ARGV[1], number .. ':document', ARGV[3])
    local old = number - tonumber(ARGV[4])
    redis.call('HDEL', KEYS[1], old .. ':at', old .. ':digest', old .. ':document')
    redis.call('EXPIRE', KEYS[1], ARGV[5])
    return number
    """
)
"""Keep a document as the next revision, unless it says what the last one says, or less evidence is behind it."""


class RedisContracts:
    """Implements `discovery.store.ContractStore`. `vault` seals; evidence is hashed with the callers' own key."""

    def __init__(self, link: Link | ClusterLink, vault: Vault) -> None:
        self.link = self._link = link  # also for what else is kept per upstream (`gateway.lookups`)
        self.vault = self._vault = vault

    async def add(self, upstream: str, seen: State, source: str = "") -> None:
        key = _key(upstream, "seen")
        length = await self._link.run(_ADD, key, self._seal(seen, key), _key(upstream, "sources"), source, KEPT)
        await self._link.do("SADD", _NAMES, upstream)
        await self._link.do("EXPIRE", _NAMES, KEPT)
        if length > LONG:
            await self._sum(upstream)

    async def learned(self, upstream: str, source: str) -> bool:
        return bool(await self._link.do("SISMEMBER", _key(upstream, "sources"), source))

    async def evidence(self, upstream: str) -> State | None:
        pieces = await self._pieces(upstream)
        if not pieces:
            return None
        return await asyncio.to_thread(self._merged, pieces, _key(upstream, "seen"))

    async def remember(self, upstream: str, looks: State) -> None:
        key = _key(upstream, "looks")
        length = await self._link.do("RPUSH", key, await asyncio.to_thread(self._seal, looks, key))
        await self._link.do("EXPIRE", key, KEPT)
        if length > LONG:
            pieces: list[bytes] = await self._link.do("LRANGE", key, 0, -1)
            sealed = await asyncio.to_thread(lambda: self._seal(self._in_turn(pieces, key), key))
            await self._link.run(_COMPACT, key, pieces[0], len(pieces), pieces[-1], sealed, KEPT)

    async def remembered(self, upstream: str) -> State | None:
        key = _key(upstream, "looks")
        pieces: list[bytes] = await self._link.do("LRANGE", key, 0, -1)
        return await asyncio.to_thread(self._in_turn, pieces, key) if pieces else None

    async def changes(self, upstream: str) -> tuple[bytes, State | None]:
        key = _key(upstream, "changes")
        sealed: bytes = await self._link.do("GET", key) or b""
        return sealed, self._open(sealed, key) if sealed else None

    async def change(self, upstream: str, known: bytes, changes: State) -> bool:
        key = _key(upstream, "changes")
        return bool(await self._link.run(_SWAP, key, known, self._seal(changes, key), KEPT))

    async def upstreams(self) -> list[str]:
        names: list[bytes] = await self._link.do("SMEMBERS", _NAMES)
        return sorted(name.decode() for name in names)

    async def overrides(self, upstream: str) -> list[str]:
        told: list[bytes] = await self._link.do("SMEMBERS", _key(upstream, "overrides"))
        return sorted(template.decode() for template in told)

    async def override(self, upstream: str, template: str, *, remove: bool = False) -> None:
        key = _key(upstream, "overrides")
        await self._link.do("SREM" if remove else "SADD", key, template)
        await self._link.do("EXPIRE", key, KEPT)

    async def revise(
        self, upstream: str, digest: str, at: float, document: dict[str, Any], behind: int = 0
    ) -> int:
        key = _key(upstream, "revisions")
        sealed = self._seal(document, key)
        return int(await self._link.run(_REVISE, key, digest, str(at), sealed, REVISIONS, KEPT, behind))

    async def revisions(self, upstream: str) -> list[tuple[int, float, str]]:
        key = _key(upstream, "revisions")
        last = int(await self._link.do("HGET", key, "last") or 0)
        found = []
        for number in range(max(1, last - REVISIONS + 1), last + 1):
            at, digest = await self._link.do("HMGET", key, f"{number}:at", f"{number}:digest")
            if at is not None:
                found.append((number, float(at), digest.decode()))
        return found

    async def latest(self, upstream: str) -> int:
        return int(await self._link.do("HGET", _key(upstream, "revisions"), "last") or 0)

    async def revision(self, upstream: str, number: int | None = None) -> Revision | None:
        key = _key(upstream, "revisions")
        number = number or int(await self._link.do("HGET", key, "last") or 0)
        fields = (f"{number}:at", f"{number}:digest", f"{number}:document")
        at, digest, sealed = await self._link.do("HMGET", key, *fields)
        if sealed is None:
            return None
        return Revision(number, float(at), digest.decode(), self._open(sealed, key))

    async def forget(self, upstream: str) -> None:
        for part in ("seen", "sources", "looks", "changes", "overrides", "revisions"):
            await self._link.do("DEL", _key(upstream, part))
        await self._link.do("SREM", _NAMES, upstream)

    async def aclose(self) -> None:
        await self._link.aclose()

    async def _pieces(self, upstream: str) -> list[bytes]:
        return cast("list[bytes]", await self._link.do("LRANGE", _key(upstream, "seen"), 0, -1))

    async def _sum(self, upstream: str) -> None:
        key = _key(upstream, "seen")
        pieces = await self._pieces(upstream)
        if len(pieces) < 2:
            return
        merged = await asyncio.to_thread(self._merged, pieces, key)
        sealed = await asyncio.to_thread(self._seal, merged, key)
        await self._link.run(_COMPACT, key, pieces[0], len(pieces), pieces[-1], sealed, KEPT)

    def _merged(self, pieces: Sequence[bytes], key: str) -> State:
        whole = Evidence()
        for piece in pieces:
            whole.merge(Evidence.load(self._open(piece, key)))
        return whole.state()

    def _in_turn(self, pieces: Sequence[bytes], key: str) -> State:
        whole = Watch()
        for piece in pieces:
            whole.merge(Watch.load(self._open(piece, key)))
        return whole.state()

    def _seal(self, value: Any, place: str) -> bytes:
        return self._vault.seal(zlib.compress(orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS), 3), place)

    def _open(self, sealed: bytes, place: str) -> Any:
        try:
            return orjson.loads(zlib.decompress(self._vault.open(sealed, place)))
        except (zlib.error, orjson.JSONDecodeError) as error:
            raise LedgerUnavailable(f"what was learned is damaged in the store ({place}): {error}") from error


def _key(upstream: str, part: str) -> str:
    return f"gimbal:{{c/{upstream}}}:{part}"

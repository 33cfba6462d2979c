"""Pins in the store, and the adapting of answers by them.

`RedisPins` keeps the pins of an upstream beside its contracts: `gimbal:{c/NAME}:pins`, a hash, each pin sealed.
`Adapter` is what a running gateway asks before it delivers: `adapt_answer()` looks in a dictionary, and where
nothing is to be adapted that is all; learning comes after the answer is on its way. Only while answers are unlike
their pin and nothing leads back yet is each judged before it is delivered. `Adapter.flush()` writes what changed,
`Adapter.refresh()` reads it.
"""

from __future__ import annotations

import asyncio
import logging
import zlib
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import orjson

from discovery import adapt
from discovery.body import Kind, read_body
from discovery.drift import drifts
from discovery.drift_watch import Watch
from discovery.edits import Edit
from discovery.exchange import Exchange, Json, Request, Response
from discovery.splice import LIMIT
from discovery.store import ContractStore
from discovery.traffic import segments_of
from gateway.cluster import ClusterLink
from gateway.contracts import KEPT, RedisContracts
from gateway.link import Link
from gateway.ports import Entry
from gateway.problems import LedgerUnavailable
from gateway.vault import Vault
from policies import pins
from policies.history import Memory
from policies.outcome import Effect
from policies.pins import Pin
from policies.rules import UpstreamRules

JUDGED = 40
"""Answers in a row, unlike their pin and not served, that are judged one by one; later every tenth is."""

QUEUE = 1024
"""Delivered answers that wait to be learned from; what comes beyond is not."""

_log = logging.getLogger("gimbal.pins")

Key = tuple[str, str, tuple[str, ...], int]
"""Workflow type, method, place of the path (`discovery.traffic.segments_of`), status."""


class RedisPins:
    """The pins of upstreams, shared by replicas; of two that write one pin, the later wins."""

    def __init__(self, link: Link | ClusterLink, vault: Vault) -> None:
        self._link = link
        self._vault = vault

    @classmethod
    def beside(cls, contracts: RedisContracts) -> RedisPins:
        """Return the pins in the same store, over the same connection."""
        return cls(contracts._link, contracts._vault)

    async def all(self, upstream: str) -> list[Pin]:
        """Return an upstream's pins, by type and operation."""
        key = _key(upstream)
        sealed: list[bytes] = await self._link.do("HVALS", key)
        found = [pins.load(self._open(one, key)) for one in sealed]
        return sorted(found, key=lambda pin: (pin.type, pin.operation, pin.status))

    async def keep(self, upstream: str, pin: Pin) -> None:
        key = _key(upstream)
        text = zlib.compress(orjson.dumps(pin.state()), 3)
        await self._link.do("HSET", key, _field(pin), self._vault.seal(text, key))
        await self._link.do("EXPIRE", key, KEPT)

    async def aclose(self) -> None:
        await self._link.aclose()

    def _open(self, sealed: bytes, place: str) -> Any:
        try:
            return orjson.loads(zlib.decompress(self._vault.open(sealed, place)))
        except (zlib.error, orjson.JSONDecodeError) as error:
            raise LedgerUnavailable(f"a pin is damaged in the store ({place}): {error}") from error


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer in the shape its workflow was written for. `line` goes to the transcript where something was done;
    `broken` are places a person marked as required that could not be restored."""

    response: Response
    adapted: int = 0
    degraded: int = 0
    line: dict[str, Json] | None = None
    broken: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Look:
    """A delivered answer that is still to be learned from."""

    upstream: str
    key: Key
    instance: str
    exchange: Exchange


@dataclass(slots=True)
class Adapter:
    """Holds the pins of a process. `key` is what values are hashed with for drift; belongs to one event loop."""

    store: RedisPins
    contracts: ContractStore
    key: bytes
    rules: Callable[[str], UpstreamRules]
    _pins: dict[str, dict[Key, Pin]] = field(default_factory=dict)
    _watches: dict[str, Watch] = field(default_factory=dict)
    _unlike: dict[tuple[str, Key], int] = field(default_factory=dict)  # answers unlike their pin, in a row
    _news: set[tuple[str, Key]] = field(default_factory=set)
    _looks: deque[_Look] = field(default_factory=deque)
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _learning: asyncio.Task[None] | None = None

    async def refresh(self, upstream: str) -> None:
        """Read an upstream's pins, and the looks that drift is told from. What was not yet written stays."""
        known = self._pins.setdefault(upstream, {})
        for pin in await self.store.all(upstream):
            key = _key_of(pin)
            if (upstream, key) not in self._news:
                known[key] = pin
        if upstream not in self._watches:
            looks = await self.contracts.remembered(upstream)
            self._watches[upstream] = Watch.load(looks, self.key) if looks is not None else Watch(self.key)

    async def flush(self) -> None:
        """Write what changed. Raises `LedgerUnavailable`; what could not be written is tried again."""
        await self.learn()
        for upstream, key in sorted(self._news):
            await self.store.keep(upstream, self._pins[upstream][key])
            self._news.discard((upstream, key))

    async def adapt_answer(
        self, upstream: str, workflow: tuple[str, str], request: Request, response: Response, at: float
    ) -> Answered:
        """Return a successful answer as its workflow (type, id) expects it; learn from it afterwards.

        While answers are unlike the pin and nothing leads back yet, each is judged before it is delivered.
        """
        known = self._pins.get(upstream)
        if known is None or len(response.body) > LIMIT:
            return Answered(response)
        rules = self.rules(upstream)
        key = (workflow[0], request.method, segments_of(_below(request, rules)), response.status)
        if len(self._looks) < QUEUE:
            self._looks.append(_Look(upstream, key, workflow[1], Exchange(upstream, request, response, at)))
        pin = known.get(key)
        if pin is not None and 0 < self._unlike.get((upstream, key), 0) <= JUDGED:
            await self.learn()
            pin = known[key]
        elif self._learning is None or self._learning.done():
            self._learning = asyncio.get_running_loop().create_task(self.learn())
        if pin is None or not pin.adaptation.edits:
            return Answered(response)
        answered = self._edited(upstream, pin, workflow[1], response)
        if answered.adapted:
            self._set(upstream, key, pins.told(known[key], well=not answered.degraded))
        return answered

    async def learn(self) -> None:
        """Learn from what was delivered: complete pins, and judge what is unlike them."""
        async with self._lock:
            while self._looks:
                look = self._looks.popleft()
                try:
                    await self._learn(look)
                except Exception:
                    _log.exception("could not learn a pin of %s from an answer", look.upstream)

    async def _learn(self, look: _Look) -> None:
        response = look.exchange.answer
        assert isinstance(response, Response)
        body = read_body(response.headers, response.body)
        if body.kind is not Kind.JSON:
            return
        rules = self.rules(look.upstream)
        watch = self._watches.setdefault(look.upstream, Watch(self.key))
        watch.fold(look.exchange, urlsplit(rules.base_url).path.rstrip("/"))
        pin = self._pins[look.upstream].get(look.key) or Pin(look.key[0], _named(look.key), response.status)
        if not pin.complete:
            self._set(look.upstream, look.key, pins.delivered(pin, body.value))
        elif not pins.unlike(pin, body.value):
            self._unlike.pop((look.upstream, look.key), None)
        elif not pins.served(pin, body.value) or pin.now.answers < pins.SETTLED:
            unlike = self._unlike[look.upstream, look.key] = self._unlike.get((look.upstream, look.key), 0) + 1
            if unlike <= JUDGED or unlike % 10 == 0:
                judged = await asyncio.to_thread(self._judged, pin, look, watch, body.value, rules)
                if pins.served(judged, body.value):
                    self._unlike.pop((look.upstream, look.key), None)
                if judged.adaptation != pin.adaptation:
                    _log.info("%s %s of %s: %s", look.upstream, pin.operation, pin.type, _told(judged))
                self._set(look.upstream, look.key, judged)

    def _judged(self, pin: Pin, look: _Look, watch: Watch, body: Json, rules: UpstreamRules) -> Pin:
        """Judge an answer that is unlike its pin by the looks of its place alone."""
        place = (look.key[1], look.key[2])
        stream = watch.streams.get(place)
        if stream is None:
            return pin
        found = drifts(Watch(self.key, watch.seq, {place: stream}), lambda _: pin.operation.partition(" ")[2])
        return pins.judged(pin, found, stream.seen, stream.words, body, look.instance, rules.adapt)

    def _edited(self, upstream: str, pin: Pin, instance: str, response: Response) -> Answered:
        edits = pin.edits_for(instance, self.rules(upstream).adapt)
        if not edits:
            return Answered(response)
        try:
            done, response = apply(edits, response)
        except Exception:  # whatever an answer holds, its workflow gets it
            _log.exception("could not adapt an answer of %s", upstream)
            return Answered(response)
        if not done.done and not done.degraded:
            return Answered(response)
        broken = tuple(place for place in done.degraded if place in pin.required)
        line: dict[str, Json] = {
            "side": "answer",
            "pin": f"{pin.type}: {pin.operation} {pin.status}",
            "edits": [adapt.told(edit) for edit in done.done],
            "degraded": [*done.degraded],
            "rung": pin.standing.rung.value,
        }
        return Answered(response, len(done.done), len(done.degraded), line, broken)

    def _set(self, upstream: str, key: Key, pin: Pin) -> None:
        self._pins[upstream][key] = pin
        self._news.add((upstream, key))


def apply(edits: tuple[Edit, ...], response: Response) -> tuple[adapt.Adapted, Response]:
    """Return what became of an answer's body, and the answer with it; a compressed body is sent plain."""
    text = response.body
    encoded = response.header(b"content-encoding") not in (None, b"identity") or text[:2] == b"\x1f\x8b"
    if encoded:
        try:
            text = zlib.decompressobj(47).decompress(text, LIMIT)
        except zlib.error:
            return adapt.Adapted(response.body), response
    done = adapt.back(edits, text)
    if not done.done:
        return done, response
    length = (b"content-length", str(len(done.body)).encode())
    headers = tuple(
        length if name.lower() == b"content-length" else (name, value)
        for name, value in response.headers
        if not (encoded and name.lower() == b"content-encoding")
    )
    return done, replace(response, headers=headers, body=done.body)


def memories(entries: Iterable[Entry]) -> list[Memory]:
    """Return what a workflow instance's calls showed it, oldest first: what `policies.repair` may draw on.

    Calls in doubt and refused ones are left out: what they hold was not accepted.
    """
    good = (entry for entry in entries if entry.record.effect is Effect.ALL and entry.reply is not None)
    ordered = sorted(good, key=lambda entry: entry.created)
    return [Memory(entry.id, entry.about.request, entry.reply) for entry in ordered]


def _told(pin: Pin) -> list[str]:
    return [f"{type(one.edit).__name__} {one.place} ({one.why})" for one in pin.adaptation.edits]


def _below(request: Request, rules: UpstreamRules) -> bytes:
    return request.path.removeprefix(urlsplit(rules.base_url).path.rstrip("/").encode())


def _named(key: Key) -> str:
    return f"{key[1]} /{'/'.join(key[2])}"


def _key_of(pin: Pin) -> Key:
    method, _, path = pin.operation.partition(" ")
    return pin.type, method, tuple(path.strip("/").split("/")), pin.status


def _key(upstream: str) -> str:
    return f"gimbal:{{c/{upstream}}}:pins"


def _field(pin: Pin) -> str:
    return f"{pin.type} {pin.operation} {pin.status}"

"""Keeps a running gateway's workflow types on the shapes they were written for.

`adapt_answer()` is asked before an answer is delivered. Where the answer has a look that is known, that is all but
a dictionary look-up, and learning comes later, at leisure. An answer of an unknown look is judged before
it is delivered, and so are those that follow until something leads back. What changed is written, and what other
replicas or a person wrote is read, every few seconds (`gateway.shelf`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import zlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

import orjson

from discovery import adapt
from discovery.body import Kind, read_body
from discovery.constant import constant
from discovery.drift import drifts
from discovery.drift_watch import Watch
from discovery.edits import Edit, Lost, place_of
from discovery.exchange import Exchange, Json, Request, Response
from discovery.splice import LIMIT
from discovery.store import ContractStore
from discovery.traffic import segments_of
from gateway.leisure import TURN, Leisure
from gateway.problems import LedgerUnavailable
from gateway.shelf import Shelf
from policies import pins
from policies.actions import Answered
from policies.outcome import Outcome
from policies.pins import Pin
from policies.rules import UpstreamRules

JUDGED = 40
"""Answers in a row, unlike their pin and not served, that are judged one by one; later every tenth is."""

QUEUE = 256
"""Delivered answers that wait to be learned from; what comes beyond is not."""

ORDINARY = 32
"""Answers of a known look that may be among them: enough to learn from, and soon worked off when one is judged."""

LOOKED_AT = 4096
"""Bytes of an answer whose look is told before it is delivered (some 50 us); of a larger one it is told after."""

LOOKS = 256
"""Looks remembered per operation and type."""

WORKFLOWS = 10_000
"""Workflow instances of which it is remembered what their last answer was."""

_WELL = {
    Outcome.SUCCESS: True,
    Outcome.PARTIAL: True,
    Outcome.VALIDATION: False,
    Outcome.REFUSED: False,
}
"""What an outcome says of the answer before it; any other says nothing."""

_log = logging.getLogger("gimbal.pins")

Key = tuple[str, str, tuple[str, ...], int]
"""Workflow type, method, place of the path (`discovery.traffic.segments_of`), status."""

Where = tuple[str, Key]


@constant
class _Look:
    """A delivered answer that is still to be learned from."""

    upstream: str
    key: Key
    instance: str
    exchange: Exchange


@dataclass(slots=True)
class Adapter:
    """Holds the pins of a process. `key` is what values are hashed with for drift; belongs to one event loop."""

    store: Shelf[Pin]
    contracts: ContractStore
    key: bytes
    rules: Callable[[str], UpstreamRules]
    _pins: dict[str, dict[Key, Pin]] = field(default_factory=dict)
    _watches: dict[str, Watch] = field(default_factory=dict)
    _revisions: dict[str, int] = field(default_factory=dict)
    _known: dict[Where, set[object]] = field(default_factory=dict)  # looks that need nothing new
    _unlike: dict[Where, int] = field(default_factory=dict)  # answers unlike their pin, in a row
    _news: set[Where] = field(default_factory=set)
    _looks: deque[_Look] = field(default_factory=deque)
    _last: dict[tuple[str, str], tuple[Where, bool]] = field(default_factory=dict)  # a workflow's last answer
    _plain: dict[Where, tuple[int, int]] = field(default_factory=dict)  # calls after unadapted ones: bad, all
    _lock: asyncio.Lock = field(default_factory=asyncio.Lock)
    _learning: asyncio.Task[None] | None = None

    # Beside the path of calls

    async def aclose(self) -> None:
        """Write what was learned, if the store is there."""
        if self._learning is not None:
            self._learning.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._learning
        with contextlib.suppress(LedgerUnavailable):
            await self.flush()

    async def refresh(self, upstream: str) -> None:
        """Read what others wrote, at first also the looks drift is told from. What is not yet written stays."""
        found = await self.store.news(upstream)
        known = self._pins.setdefault(upstream, {})
        for pin in found or ():
            key = _key_of(pin)
            if (upstream, key) not in self._news:
                self._hold(upstream, key, pin)
        if upstream not in self._watches:
            looks = await self.contracts.remembered(upstream)
            self._watches[upstream] = Watch.load(looks, self.key) if looks is not None else Watch(self.key)
        if any(pin.adaptation.edits for pin in known.values()):
            self._revisions[upstream] = await self.contracts.latest(upstream)

    async def flush(self) -> None:
        """Write what changed. Raises `LedgerUnavailable`; what could not be written is tried again."""
        await self.learn()
        for upstream, key in sorted(self._news):
            pin = self._pins[upstream][key]
            holds = await self.store.merge(upstream, pin)
            now = self._pins[upstream][key]  # what came meanwhile may be ahead of both
            best = holds if now is pin else pins.ahead(now, holds)
            if best is holds:
                self._news.discard((upstream, key))
            self._hold(upstream, key, best)

    # On the path

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
        where = upstream, key
        look = _Look(upstream, key, workflow[1], Exchange(upstream, request, response, at))
        pin = known.get(key)
        if pin is None or not pin.complete:
            self._later(look, QUEUE)
            return Answered(response)
        unlike = self._unlike.get(where, 0)
        if unlike > JUDGED:
            self._later(look, QUEUE)
        elif unlike or self._is_new(where, pin, response):
            self._looks.append(look)
            await self.learn()
            pin = known[key]
        else:
            self._later(look, ORDINARY)
        answered, well = Answered(response), True
        if pin.adaptation.edits:
            answered, well = self._edited(upstream, pin, workflow[1], response)
        if pin.required:
            answered = _checked(pin, answered)
        if len(self._last) >= WORKFLOWS:
            self._last.clear()
        self._last[workflow] = where, bool(answered.adapted)
        if answered.adapted:
            self._set(where, pins.told(self._compared(where), well=well))
        return answered

    def fared(self, workflow: tuple[str, str], outcome: Outcome) -> None:
        """A call of the workflow ended so: it speaks for the adaptation of the answer before it, or against it."""
        well = _WELL.get(outcome)
        if well is None or (last := self._last.pop(workflow, None)) is None:
            return
        where, adapted = last
        if not adapted:
            bad, all_ = self._plain.get(where, (0, 0))
            self._plain[where] = bad + (not well), all_ + 1
        elif not well and where[1] in self._pins[where[0]]:
            pin = pins.told(self._compared(where), well=False)
            if pin.standing.stopped:
                _log.warning("%s %s of %s: %s", where[0], pin.operation, pin.type, pin.standing.halt)
            self._set(where, pin)

    def _compared(self, where: Where) -> Pin:
        """Return the pin, told how calls fared that were not adapted."""
        pin = self._pins[where[0]][where[1]]
        bad, all_ = self._plain.pop(where, (0, 0))
        return pins.compared(pin, bad, all_) if all_ else pin

    def _is_new(self, where: Where, pin: Pin, response: Response) -> bool:
        """Has an answer a look that was not met before, and that does not fit the pin as it is?"""
        text = response.body
        if len(text) > LOOKED_AT or text[:1] not in (b"{", b"["):
            return False
        try:
            body = orjson.loads(text)
            look = _look_of(body)
        except (orjson.JSONDecodeError, RecursionError):
            return False
        looks = self._known.setdefault(where, set())
        if look in looks:
            return False
        if len(looks) >= LOOKS:
            looks.clear()
        looks.add(look)
        return pins.unlike(pin, body)

    def _edited(self, upstream: str, pin: Pin, instance: str, response: Response) -> tuple[Answered, bool]:
        """Return the answer, and whether every edit did what it is for: what is lost is no fault of theirs."""
        edits = pin.edits_for(instance, self.rules(upstream).adapt)
        if not edits:
            return Answered(response), True
        try:
            done, response = apply(edits, response)
        except Exception:  # whatever an answer holds, its workflow gets it
            _log.exception("could not adapt an answer of %s", upstream)
            return Answered(response), False
        if not done.done and not done.degraded:
            return Answered(response), True
        line: dict[str, Json] = {
            "side": "answer",
            "of": f"{pin.type}: {pin.operation} {pin.status}",
            "edits": [adapt.told(edit) for edit in done.done],
            "degraded": [*done.degraded],
            "rung": pin.standing.rung.value,
            "why": "; ".join([*map(adapt.said, done.done), *(f"{at} is lacking" for at in done.degraded)]),
        }
        revision = self._revisions.get(upstream) or None
        answered = Answered(response, len(done.done), len(done.degraded), line, contract=revision)
        lost = {place_of(edit) for edit in edits if isinstance(edit, Lost)}
        return answered, lost.issuperset(done.degraded)

    # Learning

    def _later(self, look: _Look, room: int) -> None:
        if len(self._looks) < room:
            self._looks.append(look)
        if self._learning is None or self._learning.done():
            self._learning = asyncio.get_running_loop().create_task(self._study())

    async def _study(self) -> None:
        """Learn in turns, and rest between them."""
        leisure = Leisure()
        while self._looks:
            end = time.perf_counter() + TURN
            while self._looks and time.perf_counter() < end:
                async with self._lock:
                    await self._next()
            await asyncio.sleep(leisure.rest())

    async def learn(self) -> None:
        """Learn at once from all that was delivered: complete pins, and judge what is unlike them."""
        async with self._lock:
            while self._looks:
                await self._next()

    async def _next(self) -> None:
        if not self._looks:
            return
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
        where = look.upstream, look.key
        rules = self.rules(look.upstream)
        watch = self._watches.setdefault(look.upstream, Watch(self.key))
        watch.fold(look.exchange, urlsplit(rules.base_url).path.rstrip("/"))
        pin = self._pins[look.upstream].get(look.key) or Pin(look.key[0], _named(look.key), response.status)
        if not pin.complete:
            self._set(where, pins.delivered(pin, body.value))
        elif not pins.unlike(pin, body.value):
            self._unlike.pop(where, None)
        elif not pins.served(pin, body.value) or pin.now.answers < pins.SETTLED:
            unlike = self._unlike[where] = self._unlike.get(where, 0) + 1
            if unlike <= JUDGED or unlike % 10 == 0:
                judged = await asyncio.to_thread(self._judged, pin, look, watch, body.value, rules)
                if pins.served(judged, body.value):
                    self._unlike.pop(where, None)
                judged = pins.judged_meanwhile(judged, self._pins[look.upstream].get(look.key, pin))
                if judged.adaptation != pin.adaptation:
                    _log.info("%s %s of %s: %s", look.upstream, pin.operation, pin.type, _told(judged))
                self._set(where, judged)

    def _judged(self, pin: Pin, look: _Look, watch: Watch, body: Json, rules: UpstreamRules) -> Pin:
        """Judge an answer that is unlike its pin by the looks of its place alone."""
        place = (look.key[1], look.key[2])
        stream = watch.streams.get(place)
        if stream is None:
            return pin
        found = drifts(Watch(self.key, watch.seq, {place: stream}), lambda _: pin.operation.partition(" ")[2])
        return pins.judged(pin, found, stream.seen, stream.words, body, look.instance, rules.adapt)

    def _set(self, where: Where, pin: Pin) -> None:
        self._hold(*where, pin)
        self._news.add(where)

    def _hold(self, upstream: str, key: Key, pin: Pin) -> None:
        """Take a pin for the one that holds. What was like another one may not be like this one."""
        known = self._pins.setdefault(upstream, {})
        before = known.get(key)
        if before is not None and (before.adaptation, before.shape) != (pin.adaptation, pin.shape):
            self._known.pop((upstream, key), None)
            self._unlike.pop((upstream, key), None)
        known[key] = pin


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


def _checked(pin: Pin, answered: Answered) -> Answered:
    """Say which places are lacking that a person marked as required."""
    body = read_body(answered.response.headers, answered.response.body)
    broken = pins.lacking(pin, body.value) if body.kind is Kind.JSON else ()
    return replace(answered, broken=broken, degraded=max(answered.degraded, len(broken))) if broken else answered


def _look_of(value: Any) -> object:
    """Return what a body looks like: its members and their types; of an array, the looks of its items."""
    kind = type(value)
    if kind is dict:
        return tuple([(name, _look_of(inner)) for name, inner in value.items()])
    if kind is list:
        return frozenset([_look_of(inner) for inner in value])
    return kind


def _told(pin: Pin) -> list[str]:
    return [f"{type(one.edit).__name__} {one.place} ({one.why})" for one in pin.adaptation.edits]


def _below(request: Request, rules: UpstreamRules) -> bytes:
    return request.path.removeprefix(urlsplit(rules.base_url).path.rstrip("/").encode())


def _named(key: Key) -> str:
    return f"{key[1]} /{'/'.join(key[2])}"


def _key_of(pin: Pin) -> Key:
    method, _, path = pin.operation.partition(" ")
    return pin.type, method, tuple(path.strip("/").split("/")), pin.status

"""Death at each boundary of a life whose request is mended: what goes out again is the very same, and once."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import pytest

from discovery.exchange import Request, Response
from discovery.hints import Hint
from gateway.gate import Arrival, Gate, Identified, Known, Passed
from gateway.testing import ManualClock, MemoryLedger
from policies.actions import Call, Mended
from policies.claims import LEASE
from policies.outcome import Outcome
from policies.repair import NeedsInput, RenameField, with_body
from policies.rules import Idempotency, Rules, UpstreamRules

ASKED, WANTED = b'{"qty":1}', b'{"quantity":1}'
REFUSAL = b'{"errors":[{"pointer":"/qty","code":"unknown_field","message":"qty was renamed to quantity"}]}'
JSON = ((b"content-type", b"application/json"),)


class Died(BaseException):
    """The process is gone: nobody catches this."""


@dataclass
class Fate:
    """Dies at the boundary numbered `at`, counted over all lives; 0: never."""

    at: int
    met: int = 0

    def pass_by(self) -> None:
        self.met += 1
        if self.met == self.at:
            raise Died


@dataclass
class Shop:
    """An upstream that has renamed a field; it keeps keys where it is asked under one."""

    fate: Fate
    effects: int = 0
    sent: list[tuple[bytes | None, bytes]] = field(default_factory=list)
    _by_key: set[bytes] = field(default_factory=set)

    async def send(self, request: Request, *, timeout: float, not_after: float | None = None) -> Response:
        self.fate.pass_by()
        key = request.header(b"idempotency-key")
        self.sent.append((key, request.body))
        answer = Response(422, JSON, REFUSAL)
        if request.body == WANTED:
            self.effects += key is None or key not in self._by_key
            self._by_key |= {key} - {None}
            answer = Response(201, JSON, b'{"id":1}')
        self.fate.pass_by()
        return answer

    async def open(
        self, request: Request, body: AsyncIterator[bytes] | None = None, *, timeout: float, **_: Any
    ) -> Response:
        return await self.send(request, timeout=timeout)

    async def aclose(self) -> None:
        """Nothing is held open."""


class Dying:
    """A ledger whose callers may die before a transition, or after it and before they hear of it."""

    def __init__(self, ledger: MemoryLedger, fate: Fate) -> None:
        self._ledger, self._fate = ledger, fate

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._ledger, name)
        if name not in ("claim", "change"):
            return method

        async def transition(*arguments: Any, **options: Any) -> Any:
            self._fate.pass_by()
            done = await method(*arguments, **options)
            self._fate.pass_by()
            return done

        return transition


@dataclass
class Renaming:
    """A mender that knows one lesson: as an answer to a refusal, or before the first sending."""

    prepares: bool

    def accepted(self, call: Call, rules: Rules) -> None:
        """Nothing is remembered."""

    def teaches(self, upstream: str) -> bool:
        return self.prepares

    async def prepare(self, call: Call, rules: Rules) -> Mended | None:
        return _renamed(call.request, call.frozen)

    async def amend(
        self,
        call: Call,
        rules: Rules,
        request: Request,
        answer: Response,
        hints: tuple[Hint, ...],
        before: Mended | None,
    ) -> Mended | NeedsInput | None:
        return None if before else _renamed(call.request, call.frozen)

    def taught(self, call: Call, rules: Rules, mended: Mended) -> None:
        """Nothing is learned."""


def _renamed(request: Request, frozen: Request) -> Mended:
    mends = (RenameField("body", "/qty", "/quantity"),)
    return Mended(with_body(request, WANTED), with_body(frozen, WANTED), mends, ("it said so",), {}, last=True)


async def live(rules: UpstreamRules, prepares: bool, at: int) -> tuple[Fate, Shop, Passed | None]:
    """Live the call, dying at the boundary `at`; then let its workflow run again, until it is told something."""
    clock, fate = ManualClock(), Fate(at)
    shop, ledger = Shop(fate), MemoryLedger(clock)
    passed = None
    for run in range(4):
        # Only the first run knows the lesson's other form: what the next sends must be what was kept.
        gate = Gate(
            {"shop": Known(rules, shop)}, Dying(ledger, fate), clock, mender=Renaming(prepares and not run)
        )
        who = gate.identify(
            Arrival("shop", "POST", b"/orders", (*JSON, (b"workflow-id", b"w"), (b"workflow-step", b"s")))
        )
        assert isinstance(who, Identified)
        try:
            passed = await gate.perform(who, ASKED)
            if passed.reply.outcome is not Outcome.VALIDATION:  # refused after a doubt: nothing is mended then
                break
        except Died:
            clock.at += LEASE + 1
        finally:
            await gate.runner.aclose()
    return fate, shop, passed


@pytest.mark.parametrize("prepares", [False, True], ids=["after a refusal", "before the first sending"])
@pytest.mark.parametrize("keyed", [False, True], ids=["without a key", "under a key"])
def test_a_mended_request_takes_effect_once_whenever_its_sender_dies(keyed, prepares):
    rules = UpstreamRules("shop", "https://shop.test")
    if keyed:
        rules = UpstreamRules("shop", "https://shop.test", idempotency=Idempotency("header"))
    boundaries = asyncio.run(live(rules, prepares, 0))[0].met

    for at in range(1, boundaries + 1):
        _, shop, passed = asyncio.run(live(rules, prepares, at))

        assert passed is not None
        fate = passed.reply.outcome.value
        assert shop.effects <= 1
        assert fate == "success" if keyed else fate in ("success", "in-doubt")
        assert (fate == "success") <= (shop.effects == 1)
        under_key: dict[bytes, set[bytes]] = {}
        for key, body in shop.sent:
            under_key.setdefault(key or b"", set()).add(body)
        assert not keyed or all(len(bodies) == 1 for bodies in under_key.values())
    assert boundaries >= (6 if prepares else 10)

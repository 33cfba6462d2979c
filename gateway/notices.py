"""Sends signed notices: each is a call of the ledger, kept before it is sent and sent by whoever finds it due.

Whoever has something to tell calls `enqueue`, with an id that is the same however often the same thing is told:
what was taken once is not taken again. The sweeper calls `go_on`. What a receiver's answer means and when the next
try is due are decided in `policies.notices`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from hashlib import blake2b
from os import urandom
from urllib.parse import urlsplit

from discovery.exchange import Request
from gateway.ports import About, Ledger, Pending
from gateway.runner import Runner
from gateway.streamed import StreamingUpstream
from gateway.upstream import open_upstream
from policies.actions import Call
from policies.claims import ALWAYS, LEASE, Ask, Change, Granted, Replays, State, StepKey
from policies.notices import GIVEN_UP, Receiver, deliver
from policies.reply import Reply
from policies.rules import Rules, UpstreamRules, rules_for

ANSWER = 64 * 1024
"""Bytes a receiver may answer: it has nothing to say beyond its status."""

HEADERS = ((b"content-type", b"application/json"), (b"user-agent", b"gimbal"))


class Notices:
    """The way to each of `receivers`. Records of notices stay for `kept` seconds after their end."""

    def __init__(
        self, receivers: Iterable[Receiver], ledger: Ledger, runner: Runner, *, kept: float = 7 * 86400.0
    ) -> None:
        self.receivers = {receiver.name: receiver for receiver in receivers}
        self._ways = {name: _way(receiver) for name, receiver in self.receivers.items()}
        self._ledger = ledger
        self._runner = runner
        self._kept = kept

    async def aclose(self) -> None:
        for _, wire in self._ways.values():
            await wire.aclose()

    async def enqueue(
        self, to: str, id: str, subject: str, kind: str, body: bytes, shard: int | None = None
    ) -> str:
        """Keep a notice for the receiver called `to`, due at once; return its `webhook-id`, a call's id.

        `id` names what is told, for all time; `subject` (whom it is about) and `kind` (what happened) are shown.
        It lies in `shard`, else in one of its own. Raises `LedgerUnavailable`; then it may or may not be kept.
        """
        notice = notice_id(to, id, shard)
        request = Request("POST", _target(self.receivers[to].url), HEADERS, body)
        about = About(StepKey("notice", subject, kind), to, "POST", request, self._kept)
        ask = Ask(id, send=False, window=ALWAYS, replays=Replays.DEFINITE, alone=True)
        claimed = await self._ledger.claim(notice, about, ask)
        match claimed.result:
            case Granted(record, resumed=False):  # else it was kept before: nothing is begun anew
                now = record.lease_until - LEASE
                due = Change(State.WAITING, not_before=now, deadline=now + GIVEN_UP, settles=True)
                await self._ledger.change(notice, record.fence, due)
                if self._runner.on_wait is not None:
                    self._runner.on_wait(notice, now)
        return notice

    async def go_on(self, notice: str, pending: Pending) -> Reply | None:
        """Send a notice whose time has come. None: its receiver is not known here. Raises `LedgerUnavailable`."""
        about = pending.about
        receiver = self.receivers.get(about.upstream)
        if receiver is None:
            return None
        rules, wire = self._ways[receiver.name]
        request = replace(about.request, target=_target(receiver.url))  # where it is now
        call = Call(
            notice,
            receiver.name,
            request,
            about.request,
            pending.record.fingerprint,
            patience=0.0,
            step=about.step,
            attended=False,
            owner=urandom(6).hex(),
        )
        return (await self._runner.perform(deliver(call, receiver.secret), call, rules, wire, about))[0]


def notice_id(to: str, id: str, shard: int | None = None) -> str:
    """Return the id of the notice that tells `id` to `to`: no step's, so nobody can take its place."""
    digest = blake2b(f"{to}\n{id}".encode(), digest_size=12, person=b"gimbal notice")
    place = digest.digest()[0] if shard is None else shard
    return f"{place:02x}{digest.hexdigest()}"


def _way(receiver: Receiver) -> tuple[Rules, StreamingUpstream]:
    url = urlsplit(receiver.url)
    rules = UpstreamRules(
        receiver.name, f"{url.scheme}://{url.netloc}", timeout=receiver.timeout, body_limit=ANSWER
    )
    return rules_for(rules, "POST", "/"), open_upstream(rules)


def _target(url: str) -> bytes:
    parts = urlsplit(url)
    return (parts.path or "/").encode() + (b"?" + parts.query.encode() if parts.query else b"")

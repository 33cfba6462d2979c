"""Tells a workflow's callback how a call ended that its caller did not wait for.

The end is noted in the same script that makes it (`gateway._lua`), so none is lost with a process: whoever sweeps
next turns it into a notice under an id of its own, and only then is the note dropped. What of a call is told is
what `/-/calls/{id}.json` shows, secrets hidden, and the reply's body as the upstream sent it.
"""

from __future__ import annotations

import asyncio
import base64
from datetime import UTC, datetime

import orjson

from discovery.exchange import Response
from gateway.notices import Notices
from gateway.ports import Clock, Entry, Waiting
from gateway.views import Facts, call_summary, call_view
from policies.notices import callback_of

UNKNOWN = 60.0
"""Seconds what is due waits on where its upstream, or its callback, is not configured here."""

BODY = 256 * 1024
"""Bytes of a notice: receivers commonly take no more. What makes it longer is left out, and said so."""


class Callbacks:
    """The callbacks of workflow types, among the receivers of `notices`."""

    def __init__(self, notices: Notices, ledger: Waiting, clock: Clock) -> None:
        self._notices = notices
        self._ledger = ledger
        self._clock = clock

    async def tell(self, end: str) -> None:
        """Hand an end that is owed (see `Record.news`) to its callback. Raises `LedgerUnavailable`.

        Where its callback, or the key it is sealed with, is not known here, it is left to a process that knows it.
        A call that has gone on since, because its step was asked for anew, is told when it ends again.
        """
        call, _, news = end.partition(".")
        entry = await self._ledger.entry(call)
        if entry is not None and entry.record.news == news:
            receiver = callback_of(entry.about.step.type, self._notices.receivers)
            if receiver is None or entry.unreadable:
                await self._ledger.told(end, again=self._clock.now() + UNKNOWN)
                return
            kind = f"call.{entry.record.state.value}"
            body = await asyncio.to_thread(body_of, entry, kind)  # bodies may be large
            await self._notices.enqueue(receiver, end, call, kind, body, int(call[:2], 16))
        await self._ledger.told(end)


def body_of(entry: Entry, kind: str) -> bytes:
    """Return the notice's body: the call whole, or without its bodies where they are too long."""
    said = _body(entry, kind, call_view(entry), _reply(entry.reply))
    return said if len(said) <= BODY else _body(entry, kind, {**call_summary(entry), "shortened": True}, None)


def _body(entry: Entry, kind: str, call: Facts, reply: Facts | None) -> bytes:
    at = datetime.fromtimestamp(entry.updated, UTC).isoformat(timespec="milliseconds")
    data = {"call": call, "reply": reply, "url": f"/-/calls/{entry.id}"}
    return orjson.dumps({"type": kind, "timestamp": at, "data": data})


def _reply(reply: Response | None) -> Facts | None:
    """Return the recorded reply with its body verbatim: as text where it is UTF-8, else in base64."""
    if reply is None:
        return None
    kind = (reply.header(b"content-type") or b"").decode("latin-1")
    try:
        return {"status": reply.status, "content_type": kind, "body": reply.body.decode()}
    except UnicodeDecodeError:
        return {"status": reply.status, "content_type": kind, "body_base64": base64.b64encode(reply.body).decode()}

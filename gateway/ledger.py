"""The ledger in Redis (6.2 or newer) or Valkey: what is kept of each step, and each transition as one script.

Promises: a transition is one round trip and all or nothing, with its indexes; the store's clock is the only
clock; what was decided is exactly what `policies.claims` decides. Requests, replies, items and transcripts
are sealed (`gateway.vault`). Layout of keys and the shared Lua: `gateway._lua`; values as stored:
`gateway.ledger_values`.

Keys live as long as somebody may ask: a call that has not ended, for ever; the steps of a workflow, until
`kept` seconds after it ended; a step that is only an Idempotency-Key, until `kept` seconds after its own end.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from heapq import nlargest
from typing import Any, Protocol, TypeVar

from discovery.exchange import Headers, Request, Response
from gateway._lua import IDLE, script
from gateway.cluster import ClusterLink
from gateway.ledger_values import (
    call_key,
    counts_key,
    dump_about,
    dump_headers,
    dump_original,
    dump_reply,
    dump_request,
    load_about,
    load_changed,
    load_headers,
    load_original,
    load_record,
    load_reply,
    load_request,
    load_times,
    load_told,
    load_workflow,
    pack,
    pairs,
    workflow_name,
    workflow_of,
)
from gateway.link import Link, Script
from gateway.ports import About, Entry, Pending, Workflow
from gateway.problems import LedgerUnavailable, Unconfirmed
from gateway.vault import Vault
from policies.actions import Claimed
from policies.claims import SHARDS, Ask, Change, ChangeResult, State, StepKey, noted, shard_of
from policies.outcome import Outcome
from policies.reply import Original

T = TypeVar("T")

KEPT = 30 * 86400.0
"""Seconds the records of an idle workflow are kept after it was ended for it (interface 5)."""


UNREADABLE = About(StepKey("", "", ""), "", "", Request("", b"", (), b""))
"""What is known of a call whose record does not open."""


class Now(Protocol):
    """What tells the time in place of the store."""

    def now(self) -> float: ...


class RedisLedger:
    """The `Ledger` port over one `Link`. Belongs to one event loop; `aclose` it there.

    `firm` is a link that confirms (`gateway.confirm`): transitions go over it, so that what waits for the disk or
    for replicas holds up nothing else. `clock` is for tests alone: its time takes the place of the store's.
    """

    def __init__(
        self,
        link: Link | ClusterLink,
        vault: Vault,
        clock: Now | None = None,
        firm: Link | ClusterLink | None = None,
    ) -> None:
        self._link = link
        self._firm = firm or link
        self._vault = vault
        self._clock = clock

    async def aclose(self) -> None:
        await self._link.aclose()
        await self._firm.aclose()

    @property
    def epoch(self) -> int:
        return self._firm.connections

    async def claim(
        self, call: str, about: About, ask: Ask, credentials: Headers = (), sent: Request | None = None
    ) -> Claimed:
        def read(said: Any) -> Claimed:
            told, record, request, reply, items, original, goes = said
            return Claimed(
                load_told(told, load_record(record)),
                request=load_request(self._open(call, "request", request)) if request else None,
                reply=load_reply(self._open(call, "reply", reply)) if reply else None,
                items=self._open(call, "items", items) if items else b"",
                original=load_original(self._open(call, "original", original)) if original else None,
                sent=load_request(self._open(call, "sent", goes)) if goes else None,
            )

        return await self._firmly(
            read,
            CLAIM,
            call,
            pack(ask),
            workflow_of(about),
            about.kept or 0,
            self._seal(call, "about", dump_about(about)),
            self._seal(call, "request", dump_request(about.request)),
            self._seal_sent(call, sent),
            *self._seal_credentials(call, credentials),
        )

    async def change(
        self,
        call: str,
        fence: int,
        wish: Change,
        *,
        reply: Response | None = None,
        transcript: bytes = b"",
        items: bytes = b"",
        credentials: Headers = (),
        original: Original | None = None,
        sent: Request | None = None,
    ) -> ChangeResult:
        return await self._firmly(
            lambda said: load_changed(*said),
            CHANGE,
            call,
            fence,
            pack(wish),
            self._seal_reply(call, reply),
            self._seal(call, "lines", transcript),
            self._seal(call, "items", items),
            self._seal_original(call, original),
            self._seal_sent(call, sent),
            *self._seal_credentials(call, credentials),
        )

    async def renew(self, held: Sequence[tuple[str, int]], lease: float) -> list[bool]:
        answers = await asyncio.gather(*(self._run(RENEW, call, fence, lease) for call, fence in held))
        return [bool(kept) for kept in answers]

    async def occurrence(self, type: str, id: str, run: str, fingerprint: str, marker: str) -> int:
        if not run:
            return 1
        counted: int = await self._link.run(OCCURRENCE, counts_key(type, id, run), fingerprint, marker)
        return counted

    async def delivered(self, type: str, id: str, run: str, fingerprint: str, occurrence: int) -> None:
        if run:
            # Whole, never by its digest: an engine that does not know it yet would hear of it only after the
            # caller's next call, and take that for a repeat.
            await self._link.do("EVAL", DELIVERED, 1, counts_key(type, id, run), fingerprint, occurrence)

    async def note(
        self,
        call: str,
        about: About,
        reply: Response,
        transcript: bytes,
        outcome: Outcome = Outcome.SUCCESS,
        original: Original | None = None,
    ) -> None:
        await self._run(
            NOTE,
            call,
            pack(noted(outcome)),
            workflow_of(about),
            about.kept or 0,
            self._seal(call, "about", dump_about(about)),
            self._seal(call, "request", dump_request(about.request)),
            self._seal_reply(call, reply),
            self._seal(call, "lines", transcript),
            self._seal_original(call, original),
        )

    async def resolve(self, call: str, applied: bool, reply: Response | None, transcript: bytes) -> ChangeResult:
        rule = "applied" if applied else "not-applied"
        return await self._operate(call, rule, self._seal_reply(call, reply), transcript)

    async def cancel(self, call: str, transcript: bytes) -> ChangeResult:
        return await self._operate(call, "cancel", b"", transcript)

    async def hasten(self, call: str, transcript: bytes) -> ChangeResult:
        return await self._operate(call, "hasten", b"", transcript)

    async def _operate(self, call: str, rule: str, reply: bytes, transcript: bytes) -> ChangeResult:
        lines = self._seal(call, "lines", transcript)
        return await self._firmly(lambda said: load_changed(*said), OPERATE, call, rule, reply, lines)

    async def due(self, shard: int, limit: int = 100) -> list[str]:
        """Let time do its work on `shard` (lapsed leases, ended waits); return calls whose time has come."""
        found: list[bytes] = await self._run(DUE, f"{shard:02x}", limit)
        return [name.decode() for name in found]

    async def heads(self) -> list[float]:
        """Return, for each shard, in how many seconds its next call is due; `inf`: none is."""
        clock, *heads = await self._link.do_all(
            [("TIME",), *(("ZRANGE", f"gimbal:{{s{shard}}}:due", 0, 0, "WITHSCORES") for shard in range(SHARDS))]
        )
        now = self._clock.now() if self._clock else int(clock[0]) + int(clock[1]) / 1e6
        return [float(head[1]) - now if head else math.inf for head in heads]

    async def take(self, shard: int, limit: int, hold: float) -> tuple[list[str], float]:
        """As `due`, but each call is told to one taker only: for `hold` seconds nobody else is told of it.

        The number is in how many seconds the shard's next call is due.
        """
        found, head = await self._run(TAKE, f"{shard:02x}", limit, hold)
        return [name.decode() for name in found], float(head)

    async def told(self, end: str, again: float | None = None) -> None:
        due = f"gimbal:{{s{int(end[:2], 16)}}}:due"
        await self._link.do(*(("ZREM", due, end) if again is None else ("ZADD", due, "XX", again, end)))

    async def pending(self, call: str) -> Pending | None:
        """Return what is needed to go on with a call without its caller."""
        key = call_key(call)
        record, about, request, credentials = await self._link.do(
            "HMGET", key, "record", "about", "request", "credentials"
        )
        if record is None:
            return None
        return Pending(
            load_about(self._open(call, "about", about), load_request(self._open(call, "request", request))),
            load_record(record),
            load_headers(self._open(call, "credentials", credentials)) if credentials else (),
        )

    async def reap(self, shard: int, idle: float = IDLE, kept: float = KEPT) -> int:
        """End the workflows of `shard` that were idle for `idle` seconds with nothing open; return how many."""
        ended: int = await self._run(REAP, f"{shard:02x}", idle, kept)
        return ended

    async def entry(self, call: str) -> Entry | None:
        return (await self._entries([call]))[0]

    async def calls(
        self, state: State | None = None, limit: int = 100, before: tuple[float, str] | None = None
    ) -> list[Entry]:
        at, last = (repr(before[0]), before[1]) if before else ("", "")
        await self._everywhere(lambda shard: self._run(DUE, f"{shard:02x}", limit))
        listed = await self._everywhere(
            lambda shard: self._run(LIST, f"{shard:02x}", state or "", limit, at, last)
        )
        newest = nlargest(limit, {(float(at), name.decode()) for found in listed for name, at in pairs(found)})
        found = await self._entries([name for _, name in newest])
        return [entry for entry in found if entry and state in (None, entry.record.state)]

    async def workflows(self, limit: int = 100) -> list[Workflow]:
        listed = await self._everywhere(lambda shard: self._run(WORKFLOWS, f"{shard:02x}", limit))
        every = [load_workflow(name.decode(), fields) for found in listed for name, fields in pairs(found)]
        return nlargest(limit, every, key=lambda workflow: workflow.active)

    async def workflow(self, type: str, id: str) -> tuple[Workflow, list[Entry]] | None:
        name = workflow_name(type, id)
        fields, calls = await self._run(WORKFLOW, f"{shard_of(type, id):02x}", name)
        if not fields:
            return None
        entries = await self._entries([call.decode() for call in calls])
        return load_workflow(name, fields), sorted((e for e in entries if e), key=lambda entry: entry.created)

    async def history(self, type: str, id: str, limit: int) -> list[Entry]:
        """Return the latest calls of a workflow instance, `limit` of its steps and of its reads at most."""
        place, name = f"gimbal:{{s{shard_of(type, id)}}}", workflow_name(type, id)
        listed = await asyncio.gather(
            *(self._link.do("ZRANGE", f"{place}:{kind}:{name}", -limit, -1) for kind in ("steps", "notes"))
        )
        found = await self._entries([call.decode() for calls in listed for call in calls])
        return [entry for entry in found if entry]

    async def end(self, type: str, id: str, kept: float) -> bool:
        """End a workflow; True also where there is none."""
        ended = await self._run(END, f"{shard_of(type, id):02x}", workflow_name(type, id), kept)
        return bool(ended)

    # How

    async def _run(self, lua: Script, call: str, *arguments: str | bytes | int | float) -> Any:
        now = repr(self._clock.now()) if self._clock else ""
        return await self._link.run(lua, call_key(call), now, *arguments)

    async def _firmly(
        self, read: Callable[[Any], T], lua: Script, call: str, *arguments: str | bytes | int | float
    ) -> T:
        """Run a transition, and return what `read` makes of its answer once it is confirmed.

        Raises `Unconfirmed` with the same where it is not.
        """
        now = repr(self._clock.now()) if self._clock else ""
        try:
            return read(await self._firm.run(lua, call_key(call), now, *arguments))
        except Unconfirmed as error:
            raise Unconfirmed(str(error), read(error.result)) from None

    async def _everywhere(self, ask: Any) -> list[Any]:
        return await asyncio.gather(*map(ask, range(SHARDS)))

    async def _entries(self, calls: Sequence[str]) -> list[Entry | None]:
        fields = ("record", "about", "request", "reply", "lines", "items", "original", "sent")
        stored = await asyncio.gather(*(self._link.do("HMGET", call_key(call), *fields) for call in calls))
        return [self._entry(call, *values) for call, values in zip(calls, stored, strict=True)]

    def _entry(
        self,
        call: str,
        record: bytes | None,
        about: bytes | None,
        request: bytes | None,
        reply: bytes | None,
        lines: bytes | None,
        items: bytes | None,
        original: bytes | None,
        sent: bytes | None,
    ) -> Entry | None:
        if record is None or about is None or request is None:
            return None
        created, updated = load_times(record)
        try:
            return Entry(
                call,
                load_about(self._open(call, "about", about), load_request(self._open(call, "request", request))),
                load_record(record),
                load_reply(self._open(call, "reply", reply)) if reply else None,
                tuple(self._lines(call, lines or b"")),
                created=created,
                updated=updated,
                items=self._open(call, "items", items) if items else b"",
                original=load_original(self._open(call, "original", original)) if original else None,
                sent=load_request(self._open(call, "sent", sent)) if sent else None,
            )
        except LedgerUnavailable as error:  # one that does not open hides no other
            why = str(error)
            return Entry(call, UNREADABLE, load_record(record), None, (), created, updated, unreadable=why)

    def _lines(self, call: str, stored: bytes) -> list[bytes]:
        lines: list[bytes] = []
        while stored:
            length = int.from_bytes(stored[:4], "big")
            lines += self._open(call, "lines", stored[4 : 4 + length]).splitlines()
            stored = stored[4 + length :]
        return lines

    def _seal(self, call: str, field: str, plain: bytes) -> bytes:
        return self._vault.seal(plain, f"{call} {field}") if plain else b""

    def _seal_reply(self, call: str, reply: Response | None) -> bytes:
        return self._seal(call, "reply", dump_reply(reply)) if reply else b""

    def _seal_original(self, call: str, original: Original | None) -> bytes:
        return self._seal(call, "original", dump_original(original)) if original else b""

    def _seal_sent(self, call: str, sent: Request | None) -> bytes:
        return self._seal(call, "sent", dump_request(sent)) if sent else b""

    def _seal_credentials(self, call: str, credentials: Headers) -> tuple[bytes, ...]:
        return (self._seal(call, "credentials", dump_headers(credentials)),) if credentials else ()

    def _open(self, call: str, field: str, sealed: bytes) -> bytes:
        return self._vault.open(sealed, f"{call} {field}")


# One script an operation

CLAIM = Script(
    script("""
local old, now = load(), time(ARGV[1])
local new, told = claim(old, cmsgpack.unpack(ARGV[2]), now)
if told == 'granted' then
  if not old then
    new.workflow = ARGV[3] ~= '' and ARGV[3] or nil
    new.kept = tonumber(ARGV[4])
  else
    redis.call('HDEL', call, 'reply', 'items', 'credentials', 'original', 'sent')
  end
  put('about', ARGV[5])
  put('request', ARGV[6])
  put('sent', ARGV[7])
  put('credentials', ARGV[8])
elseif told == 'recorded' and new.workflow then
  redis.call('ZADD', shard .. 'open', 'XX', now, new.workflow)
end
keep(old, new, now)
if told == 'resumed' and old == new then again(old) end
if told == 'granted' or told == 'busy' or told == 'later' then
  return {told, packed(new), false, false, false, false, false}
end
if told == 'recorded' then
  local stored = redis.call('HMGET', call, 'reply', 'original')
  return {told, packed(new), false, stored[1], false, stored[2], false}
end
local stored = redis.call('HMGET', call, 'request', 'reply', 'items', 'sent')
return {told, packed(new), stored[1], stored[2], stored[3], false, stored[4]}
""")
)

CHANGE = Script(
    script("""
local old, now = load(ARGV[5] ~= ''), time(ARGV[1])
local new, kept = change(old, tonumber(ARGV[2]), cmsgpack.unpack(ARGV[3]), now)
if kept then
  put('reply', ARGV[4])
  put('items', ARGV[6])
  put('original', ARGV[7])
  put('sent', ARGV[8])
  put('credentials', ARGV[9])
  append(ARGV[5])
  keep(old, new, now)
elseif old then
  again(old)
end
return {kept and 1 or 0, packed(new)}
""")
)

RENEW = Script(
    script("""
local old, now = load(), time(ARGV[1])
local new, kept = renew(old, tonumber(ARGV[2]), tonumber(ARGV[3]), now)
if kept then keep(old, new, now) end
return kept and 1 or 0
""")
)

OPERATE = Script(
    script("""
local rules = {
  applied = function(record, now) return resolve(record, true, now) end,
  ['not-applied'] = function(record, now) return resolve(record, false, now) end,
  cancel = cancel,
  hasten = hasten,
}
local old, now = load(true), time(ARGV[1])
local new, kept = rules[ARGV[2]](old, now)
if kept then
  put('reply', ARGV[3])
  append(ARGV[4])
end
if new then keep(old, new, now) end
return {kept and 1 or 0, packed(new)}
""")
)

NOTE = Script(
    script("""
local now, new = time(ARGV[1]), cmsgpack.unpack(ARGV[2])
new.workflow = ARGV[3] ~= '' and ARGV[3] or nil
new.kept = tonumber(ARGV[4])
new.created, new.updated = now, now
put('about', ARGV[5])
put('request', ARGV[6])
put('reply', ARGV[7])
put('original', ARGV[9])
append(ARGV[8])
write(new)
enter(new, 'notes:', now)
expire(nil, new)
if new.workflow then
  local notes = shard .. 'notes:' .. new.workflow
  for _, member in ipairs(redis.call('ZRANGE', notes, 0, -NOTES - 1)) do
    redis.call('DEL', shard .. 'call:' .. member)
    redis.call('ZREM', notes, member)
  end
  touch(new.workflow, now)
end
""")
)

OCCURRENCE = Script(
    script("""
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local count, met = occur(stored and cmsgpack.unpack(stored), ARGV[2])
redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(count))
redis.call('EXPIRE', KEYS[1], IDLE)
return met
""")
)

DELIVERED = """
local stored = redis.call('HGET', KEYS[1], ARGV[1])
local count = stored and cmsgpack.unpack(stored)
if count and count.occurrence == tonumber(ARGV[2]) then
  count.delivered = true
  redis.call('HSET', KEYS[1], ARGV[1], cmsgpack.pack(count))
end
"""

# The following act on a whole shard: their key only names it.

DUE = Script(
    script("""
local now, ready = time(ARGV[1]), {}
for _, member in ipairs(redis.call('ZRANGE', shard .. 'due', '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
  at(shard .. 'call:' .. member)
  local old = load(false, true)
  local new = old and lapse(old, now)
  if new then
    keep(old, new, now)
    if due(new) <= now then ready[#ready + 1] = member end
  end
end
return ready
""")
)

# The index says more than the record for `hold` seconds: that somebody looks at the call just now. Whatever
# changes when the record is due puts that right, and so does the end of the hold. A member without a record is an
# end that is owed to a callback.
TAKE = Script(
    script("""
local now, ready = time(ARGV[1]), {}
for _, member in ipairs(redis.call('ZRANGE', shard .. 'due', '-inf', now, 'BYSCORE', 'LIMIT', 0, ARGV[2])) do
  at(shard .. 'call:' .. member)
  local old = load(false, true)
  local new = old and lapse(old, now)
  if new then keep(old, new, now) end
  if not new or due(new) <= now then
    ready[#ready + 1] = member
    redis.call('ZADD', shard .. 'due', now + tonumber(ARGV[3]), member)
  end
end
local head = redis.call('ZRANGE', shard .. 'due', 0, 0, 'WITHSCORES')[2]
return {ready, head and string.format('%.6f', tonumber(head) - now) or 'inf'}
""")
)

# Newest first, only those made before a given one (its time, its id). `due` is in another order, so it is looked
# through whole.
LIST = Script(
    script("""
local state, limit, before, last = ARGV[2], tonumber(ARGV[3]), tonumber(ARGV[4]), ARGV[5]
local found = {}
local function earlier(created, member)
  return not before or created < before or (created == before and member < last)
end
local function add(key, wanted, most)
  local top = key ~= 'due' and before and ARGV[4] or '+inf'
  for _, member in ipairs(redis.call('ZRANGE', shard .. key, top, '-inf', 'BYSCORE', 'REV')) do
    if #found == most then return end
    at(shard .. 'call:' .. member)
    local record = load(false, true)
    if record and (not wanted or record.state == wanted) and earlier(record.created, member) then
      found[#found + 1] = {record.created, member}
    end
  end
end
if state == '' then
  add('recent', nil, limit)
elseif SOUGHT[state] then
  add(state, nil, limit)
elseif TERMINAL[state] then
  add('recent', state, limit)
else
  add('due', state)
  table.sort(found, function(one, other)
    if one[1] == other[1] then return one[2] > other[2] end
    return one[1] > other[1]
  end)
end
local told = {}
for place = 1, math.min(limit, #found) do
  told[#told + 1] = found[place][2]
  told[#told + 1] = string.format('%.17g', found[place][1])
end
return told
""")
)

ENDING = """
local OPEN = {'new', 'claimed', 'sending', 'waiting', 'accepted', 'partial', 'in-doubt'}

-- End `workflow` if nothing of it is open: all its keys expire together.
local function finish(workflow, kept, now)
  local key = shard .. 'workflow:' .. workflow
  for _, states in ipairs(redis.call('HMGET', key, unpack(OPEN))) do
    if states and tonumber(states) > 0 then return false end
  end
  local last = redis.call('ZSCORE', shard .. 'open', workflow)
  if not last then return true end
  local gone = now + kept
  local at_ms = string.format('%.0f', gone * 1000)
  redis.call('HSET', key, 'ended', now, 'active', last)
  redis.call('ZREM', shard .. 'open', workflow)
  redis.call('ZREMRANGEBYSCORE', shard .. 'ended', '-inf', now)
  redis.call('ZADD', shard .. 'ended', gone, workflow)
  local longest = redis.call('ZRANGE', shard .. 'ended', -1, -1, 'WITHSCORES')[2]
  redis.call('PEXPIREAT', shard .. 'ended', string.format('%.0f', tonumber(longest) * 1000))
  redis.call('PEXPIREAT', key, at_ms)
  for _, kind in ipairs({'steps:', 'notes:'}) do
    for _, member in ipairs(redis.call('ZRANGE', shard .. kind .. workflow, 0, -1)) do
      redis.call('PEXPIREAT', shard .. 'call:' .. member, at_ms)
      redis.call('ZREM', shard .. 'exhausted', member)
    end
    redis.call('PEXPIREAT', shard .. kind .. workflow, at_ms)
  end
  return true
end
"""

END = Script(
    script(
        ENDING
        + """
return finish(ARGV[2], tonumber(ARGV[3]), time(ARGV[1])) and 1 or 0
"""
    )
)

REAP = Script(
    script(
        ENDING
        + """
local now, ended = time(ARGV[1]), 0
local idle = redis.call('ZRANGE', shard .. 'open', '-inf', now - tonumber(ARGV[2]), 'BYSCORE', 'LIMIT', 0, 100)
for _, workflow in ipairs(idle) do
  if finish(workflow, tonumber(ARGV[3]), now) then
    ended = ended + 1
  else
    redis.call('ZADD', shard .. 'open', now, workflow) -- looked at again when it was idle for as long once more
  end
end
return ended
"""
    )
)

WORKFLOWS = Script(
    script("""
local found = {}
for _, key in ipairs({'open', 'ended'}) do
  local members = redis.call('ZRANGE', shard .. key, 0, tonumber(ARGV[2]) - 1, 'REV', 'WITHSCORES')
  for place = 1, #members, 2 do
    local fields = redis.call('HGETALL', shard .. 'workflow:' .. members[place])
    if #fields > 0 then
      if key == 'open' then
        fields[#fields + 1] = 'active'
        fields[#fields + 1] = members[place + 1]
      end
      found[#found + 1] = members[place]
      found[#found + 1] = fields
    end
  end
end
return found
""")
)

WORKFLOW = Script(
    script("""
local fields = redis.call('HGETALL', shard .. 'workflow:' .. ARGV[2])
local last = redis.call('ZSCORE', shard .. 'open', ARGV[2])
if last then
  fields[#fields + 1] = 'active'
  fields[#fields + 1] = last
end
local calls = redis.call('ZRANGE', shard .. 'steps:' .. ARGV[2], 0, -1)
for _, member in ipairs(redis.call('ZRANGE', shard .. 'notes:' .. ARGV[2], 0, -1)) do
  calls[#calls + 1] = member
end
return {fields, calls}
""")
)

"""The rules of `policies.claims` in Lua, and how their outcome is kept: the text all ledger scripts share.

`RULES` is a twin, line by line: same names, same order, same arithmetic (Lua's numbers are Python's floats).
A property test drives both with the same schedules. `KEEP` says what a record's keys are, and writes a record
with every index that depends on it, so that no two of them can differ.

Keys, all under the call's shard tag, so that a script touches one Redis Cluster slot:

    gimbal:{s24}:call:<id>            hash: record (MessagePack map), about, request, reply, items, lines,
                                      credentials (of the caller, while a deferred call may need them)
    gimbal:{s24}:due                  zset of calls that time will move, by when somebody has to look;
                                      and of ends owed to a callback (<id>.<fence>.<state>), by when they came
    gimbal:{s24}:in-doubt, ...        zset of calls people look for, by creation (`SOUGHT`)
    gimbal:{s24}:recent               zset of the newest calls, by creation; capped, expires when unused
    gimbal:{s24}:workflow:<type>/<id> hash: started, active, ended, and how many calls are in which state
    gimbal:{s24}:steps:<type>/<id>    zset of the workflow's steps, by creation
    gimbal:{s24}:notes:<type>/<id>    zset of its safe calls, by creation; capped
    gimbal:{s24}:counts:<type>/<id>/<run>  hash: occurrences of unnamed steps; expires when unused
    gimbal:{s24}:open                 zset of open workflows, by last activity
    gimbal:{s24}:ended                zset of ended workflows, by when their records expire; expires with them

A hash of a workflow that is open has no expiry. Names of keys are derived from the one that is declared.
"""

from __future__ import annotations

from policies.claims import LEASE, LONGEST_KEPT, MARKERS

FORMAT = 1
"""Version of the rules: a record that others have to know more for says `format`, and theirs. None does yet."""

RECENT = 1000
"""Calls a shard's `recent` remembers: as many as a person pages through, as one workflow lies in one shard."""

NOTES = 1000
"""Safe calls kept in a workflow's history."""

IDLE = 30 * 86400
"""Seconds after which an idle workflow with nothing open ends, and what only idles expires (interface 5)."""

LINES = 64 * 1024
"""Bytes kept of a call's transcript: the newest."""

RULES = """
local HELD = {claimed = true, sending = true, accepted = true, partial = true}
local TERMINAL = {succeeded = true, rejected = true, failed = true, exhausted = true, cancelled = true}
local ALWAYS = math.huge

-- The names make room at once: a table that grows to this size is moved five times.
local function with(record, changes)
  local copy = {
    state = '', fingerprint = '', fence = 0, generation = 0, attempt = 0, lease_until = 0, not_before = 0,
    deadline = 0, first_sent = 0, window = 0, replays = '', effect = '', doubted = false, some = false,
    doubt_since = 0, credentials = '', owner = '',
  }
  for name, value in pairs(record) do copy[name] = value end
  for name, value in pairs(changes) do copy[name] = value end
  return copy
end

local function repeat_until(record)
  return record.first_sent ~= 0 and record.first_sent + record.window or ALWAYS
end

local function due(record)
  local state, alone = record.state, record.credentials ~= 'caller'
  if state == 'claimed' or state == 'sending' then return record.lease_until end
  if (state == 'accepted' or state == 'partial') and alone then
    return math.max(record.lease_until, record.not_before)
  end
  if state == 'waiting' then
    local starts = alone and record.not_before or ALWAYS
    local ends = record.deadline ~= 0 and record.deadline or ALWAYS
    local safe = record.effect == 'unknown' and repeat_until(record) or ALWAYS
    return math.min(starts, ends, safe)
  end
  if state == 'in-doubt' and record.not_before ~= 0 then
    return alone and record.not_before or math.max(record.not_before, repeat_until(record))
  end
  return ALWAYS
end

local function news(record)
  local ended = TERMINAL[record.state] or (record.state == 'in-doubt' and record.not_before == 0)
  if ended and record.callback == 'owed' then return string.format('%d.%s', record.fence, record.state) end
end

local function bounded(record, now)
  if record.credentials ~= 'kept' then return record end
  if record.state == 'in-doubt' and record.not_before == 0 then
    return with(record, {credentials = 'caller'})
  end
  return with(record, {deadline = record.deadline ~= 0 and record.deadline or now + LONGEST_KEPT})
end

local function let_go(record)
  return record.callback == 'wanted' and 'owed' or record.callback
end

local function doubt(record, now, look)
  return with(record, {
    state = 'in-doubt', outcome = 'in-doubt', effect = 'unknown', lease_until = 0, not_before = look,
    doubt_since = now,
  })
end

local function lapse(record, now)
  if (record.state == 'claimed' or record.state == 'sending') and record.lease_until <= now then
    record = with(record, {state = 'waiting', not_before = now, lease_until = 0, callback = let_go(record)})
  end
  if record.state ~= 'waiting' then return record end
  local ended = record.deadline ~= 0 and now >= record.deadline
  if record.effect == 'unknown' then
    if ended or now >= repeat_until(record) then return doubt(record, now, now) end
    return record
  end
  if ended and record.effect == 'none' then return with(record, {state = 'exhausted', not_before = 0}) end
  return record
end

local function grant(record, ask, now, told)
  local held = with(record, {
    state = ask.send and 'sending' or 'claimed',
    effect = ask.send and 'unknown' or record.effect,
    doubted = record.effect == 'unknown',
    lease_until = now + ask.lease,
    attempt = record.attempt + (ask.send and 1 or 0),
    not_before = 0,
    owner = ask.owner,
  })
  if ask.send and record.first_sent == 0 then held.first_sent = now end
  held.outcome = nil
  return held, told
end

local function fresh(ask, fence, generation)
  return {
    state = 'claimed', fingerprint = ask.fingerprint, fence = fence, generation = generation, attempt = 0,
    lease_until = 0, not_before = 0, deadline = ask.deadline, first_sent = 0, window = ask.window,
    replays = ask.replays, effect = 'none', doubted = false, some = false, doubt_since = 0,
    credentials = ask.credentials, owner = ask.owner, callback = ask.callback,
  }
end

local function next_generation(record, ask, now, same)
  local unsent = same and record.first_sent == 0
  local generation = unsent and record.generation or record.generation + 1
  return grant(fresh(ask, record.fence + 1, generation), ask, now, 'granted')
end

local function resume(record, ask, now, same)
  if not same then return record, 'mismatch' end
  if now < record.not_before and not ask.early then return record, 'later' end
  local promised = record.callback == 'owed' or ask.callback == 'none'
  record = with(record, {fence = record.fence + 1, callback = promised and record.callback or ask.callback})
  if record.state == 'accepted' or record.state == 'partial' then
    return with(record, {lease_until = now + ask.lease, not_before = 0, owner = ask.owner}), 'resumed'
  end
  return grant(record, ask, now, 'resumed')
end

local function claim(record, ask, now)
  if not record then return grant(fresh(ask, 1, 1), ask, now, 'granted') end
  record = lapse(record, now)
  local same = record.fingerprint == ask.fingerprint
  local state, none = record.state, record.effect == 'none'
  if HELD[state] and record.lease_until > now then
    local mine = ask.owner ~= '' and record.owner == ask.owner
    if same and mine and (state == 'claimed' or state == 'sending') then return record, 'resumed' end
    return record, (same or none) and 'busy' or 'mismatch'
  end
  if state == 'waiting' and not same and none and not ask.alone then
    return next_generation(record, ask, now, same)
  end
  if state == 'waiting' or state == 'accepted' or state == 'partial' then return resume(record, ask, now, same) end
  if state == 'in-doubt' then
    if same and ask.settle and now < record.not_before then return record, 'later' end
    local late = ask.alone and record.deadline ~= 0 and now >= record.deadline
    if same and now < repeat_until(record) and not late then
      return resume(with(record, {not_before = 0}), ask, now, same)
    end
    if same and ask.settle then return with(record, {not_before = now + ask.lease}), 'resumed' end
    return record, same and 'doubtful' or 'mismatch'
  end
  local definite = (state == 'rejected' or state == 'failed') and record.replays == 'definite'
  if state == 'succeeded' or definite or not none or ask.alone then
    return record, same and 'recorded' or 'mismatch'
  end
  return next_generation(record, ask, now, same)
end

local function change(record, fence, wish, now)
  if not record or record.fence ~= fence then return record, false end
  local unknown = wish.effect == 'unknown' or (record.doubted and wish.effect == 'none' and not wish.settles)
  local doubtful = (record.state == 'waiting' or record.state == 'in-doubt') and record.effect == 'unknown'
  local settles = doubtful and TERMINAL[wish.state] and not unknown
  local cleared = record.state == 'in-doubt' and wish.state == 'waiting'
  local amended = wish.anew and HELD[record.state] and wish.state == 'claimed'
  local anew = (cleared or amended) and not unknown and not record.some
  local again = record.state == 'in-doubt' and wish.state == 'in-doubt'
  if not HELD[record.state] and not settles and not anew and not again then return record, false end
  if wish.anew and not anew then return record, false end
  local sending = wish.state == 'sending'
  local unsafe = record.lease_until <= now or (unknown and now >= repeat_until(record))
  if sending and unsafe then return record, false end
  local lease_until = 0
  if HELD[wish.state] then
    if wish.keep ~= 0 then
      lease_until = now + wish.keep
    elseif wish.state == 'claimed' or sending then
      lease_until = record.lease_until
    end
  end
  local kept = with(record, {
    state = wish.state,
    effect = (sending or unknown) and 'unknown' or wish.effect,
    doubted = unknown,
    some = record.some or wish.effect == 'some',
    not_before = wish.not_before,
    lease_until = lease_until,
    deadline = wish.deadline or record.deadline,
    attempt = record.attempt + (sending and 1 or 0),
    generation = record.generation + (anew and 1 or 0),
    credentials = wish.credentials or record.credentials,
  })
  if sending and record.first_sent == 0 then kept.first_sent = now end
  if anew then kept.first_sent = 0 end
  if wish.state == 'in-doubt' and not again then kept.doubt_since = now end
  kept.outcome = wish.outcome
  if unknown and TERMINAL[wish.state] then kept = doubt(kept, now, now + LEASE) end
  if not TERMINAL[kept.state] and kept.lease_until == 0 then kept.callback = let_go(record) end
  return bounded(kept, now), true
end

local function renew(record, fence, lease, now)
  if not record or record.fence ~= fence or not HELD[record.state] then return record, false end
  return with(record, {lease_until = now + lease}), true
end

local function resolve(record, applied, now)
  record = record and lapse(record, now)
  if not record or record.state ~= 'in-doubt' then return record, false end
  local state, outcome, effect = 'new', nil, 'none'
  if applied then
    state, outcome, effect = 'succeeded', 'success', 'all'
  elseif record.some then
    state, outcome, effect = 'partial', 'partial', 'some'
  end
  local kept = with(record, {
    state = state, effect = effect, doubted = false, not_before = 0, fence = record.fence + 1,
  })
  kept.outcome = outcome
  return kept, true
end

local function cancel(record, now)
  record = record and lapse(record, now)
  if not record or (record.state ~= 'waiting' and record.state ~= 'new') then return record, false end
  local kept = with(record, {state = 'cancelled', not_before = 0, fence = record.fence + 1})
  if record.effect == 'unknown' then kept = bounded(with(doubt(kept, now, 0), {window = 0}), now) end
  return kept, true
end

local function hasten(record, now)
  record = record and lapse(record, now)
  if not record then return record, false end
  local state = record.state
  local sought = state == 'in-doubt' and not record.some
  if state == 'waiting' or state == 'accepted' or state == 'partial' or sought then
    return with(record, {not_before = now}), true
  end
  if state == 'exhausted' and record.effect == 'none' then
    local gone = record.credentials == 'kept' and 'caller' or record.credentials
    return with(record, {state = 'waiting', not_before = now, deadline = 0, credentials = gone}), true
  end
  return record, false
end

local function occur(count, marker)
  if not count then
    count = {occurrence = 1, delivered = false, markers = {}}
  else
    if marker ~= '' then
      for _, met in ipairs(count.markers) do
        if met[1] == marker then return count, met[2] end
      end
    end
    if count.delivered then count.occurrence, count.delivered = count.occurrence + 1, false end
  end
  if marker ~= '' then
    count.markers[#count.markers + 1] = {marker, count.occurrence}
    if #count.markers > MARKERS then table.remove(count.markers, 1) end
  end
  return count, count.occurrence
end
"""

KEEP = """
local call, shard, id

local function at(key)
  call = key
  shard, id = string.match(key, '^(gimbal:{%w+}:)call:(.*)$')
end

at(KEYS[1])

-- An injected time is for tests; production always passes the empty string.
local function time(injected)
  if injected ~= '' then return tonumber(injected) end
  local clock = redis.call('TIME')
  return tonumber(clock[1]) + tonumber(clock[2]) / 1e6
end

local lines = '' -- of the transcript, where they were loaded too

-- A record that says more than these rules know is refused where it would be acted on; who looks through a
-- shard passes it over.
local function load(with_lines, passing)
  local record
  if with_lines then
    local stored = redis.call('HMGET', call, 'record', 'lines')
    record, lines = stored[1], stored[2] or ''
  else
    record, lines = redis.call('HGET', call, 'record'), ''
  end
  record = record and cmsgpack.unpack(record) or nil
  if record and (record.format or 1) > FORMAT then
    if passing then return nil end
    error(string.format('a record is of format %d; this version reads %d: upgrade', record.format, FORMAT), 0)
  end
  return record
end

-- What is written of a call leaves in one command: its record, and what was `put` beside it.
local staged = {'record', ''}
local written, packing

local function put(name, value)
  if value and value ~= '' then
    staged[#staged + 1] = name
    staged[#staged + 1] = value
  end
end

local function write(record)
  written, packing = record, cmsgpack.pack(record)
  staged[2] = packing
  redis.call('HSET', call, unpack(staged))
  staged = {'record', ''}
end

-- States people look for that no timer moves; what time moves is found in `due`.
local SOUGHT = {['in-doubt'] = true, exhausted = true, new = true}

local function index(name, old, new, member)
  local was, is = old and name(old), new and name(new)
  if was == is then return end
  if was then redis.call('ZREM', shard .. was, member) end
  if is then redis.call('ZADD', shard .. is, new.created, member) end
end

local function sought(record)
  if SOUGHT[record.state] and (record.workflow or not TERMINAL[record.state]) then return record.state end
end

-- A step of its own expires by itself; a workflow's steps expire with it.
local function expire(old, new)
  if new.workflow then return end
  if TERMINAL[new.state] then
    redis.call('PEXPIRE', call, math.ceil(new.kept * 1000))
  elseif old and TERMINAL[old.state] then
    redis.call('PERSIST', call)
  end
end

local function reopen(workflow)
  redis.call('HSET', shard .. 'workflow:' .. workflow, 'ended', 0)
  redis.call('ZREM', shard .. 'ended', workflow)
  redis.call('PERSIST', shard .. 'workflow:' .. workflow)
  for _, kind in ipairs({'steps:', 'notes:'}) do
    redis.call('PERSIST', shard .. kind .. workflow)
    for _, member in ipairs(redis.call('ZRANGE', shard .. kind .. workflow, 0, -1)) do
      redis.call('PERSIST', shard .. 'call:' .. member)
    end
  end
end

-- Enter a new call into its workflow, which it opens, or opens again.
local function enter(new, kind, now)
  redis.call('ZADD', shard .. 'recent', now, id)
  redis.call('ZREMRANGEBYRANK', shard .. 'recent', 0, -RECENT - 1)
  redis.call('EXPIRE', shard .. 'recent', IDLE)
  if new.workflow then redis.call('ZADD', shard .. kind .. new.workflow, now, id) end
end

local function touch(workflow, now)
  if redis.call('ZADD', shard .. 'open', now, workflow) == 0 then return end
  if redis.call('HSETNX', shard .. 'workflow:' .. workflow, 'started', now) == 0 then reopen(workflow) end
end

local function count(old, new)
  local key = shard .. 'workflow:' .. new.workflow
  if not old then
    redis.call('HINCRBY', key, new.state, 1)
  elseif old.state ~= new.state then
    redis.call('HINCRBY', key, old.state, -1)
    redis.call('HINCRBY', key, new.state, 1)
  end
end

-- Write `new` in place of `old` with every index that depends on it.
local function keep(old, new, now)
  if old == new then return end
  new.created, new.updated = old and old.created or now, now
  if old then new.workflow, new.kept = old.workflow, old.kept end
  write(new)
  local had = old and old.credentials == 'kept' or new.credentials == 'kept'
  if had and (new.credentials ~= 'kept' or TERMINAL[new.state]) then redis.call('HDEL', call, 'credentials') end
  local was, is = old and due(old) or ALWAYS, due(new)
  if is < ALWAYS then
    if was ~= is then redis.call('ZADD', shard .. 'due', is, id) end
  elseif was < ALWAYS then
    redis.call('ZREM', shard .. 'due', id)
  end
  local told, tell = old and news(old), news(new)
  if tell and tell ~= told then redis.call('ZADD', shard .. 'due', now, id .. '.' .. tell) end
  index(sought, old, new, id)
  if not old then enter(new, 'steps:', now) end
  if new.workflow and (not old or old.state ~= new.state) then
    touch(new.workflow, now)
    count(old, new)
  end
  expire(old, new)
end

-- Write `old` again as it is: it may have been written over a connection that broke since, and what confirms a
-- write does so for the connection's own.
local function again(old)
  write(old)
end

-- Put sealed lines behind those that were loaded, each behind its length; too many: the oldest are dropped.
local function append(more)
  if more == '' then return end
  local all = lines .. struct.pack('>I4', #more) .. more
  local first = 1
  while #all - first + 1 > LINES do
    local next = first + 4 + struct.unpack('>I4', all, first)
    if next > #all then break end
    first = next
  end
  put('lines', first > 1 and string.sub(all, first) or all)
end

local function packed(record)
  if record and record == written then return packing end
  return record and cmsgpack.pack(record) or false
end
"""


def script(body: str) -> str:
    """Return a whole script: the shared text before `body`."""
    numbers = {
        "FORMAT": FORMAT,
        "RECENT": RECENT,
        "NOTES": NOTES,
        "IDLE": IDLE,
        "LINES": LINES,
        "MARKERS": MARKERS,
        "LEASE": LEASE,
        "LONGEST_KEPT": LONGEST_KEPT,
    }
    return "".join(f"local {name} = {value}\n" for name, value in numbers.items()) + RULES + KEEP + body

/**
 * Lua: one tenant's keys in one namespace. Changes to entries are collected in tables and written once at the end, so that an atomic
 * call that fails writes nothing of them; the collections' own keys are changed in place and put back from a copy.
 *
 * KEYS: 1 entries (hash), 2 names (sorted set, for listing), 3 order of use (sorted set), 4 expiry (sorted set), 5 tags' versions (hash),
 * 6 tags' holders (hash), 7 counters (hash), 8 orphaned collections (set), 9 record of the request_id if there is one, then one
 * key for the collection of each cache key in the call.
 */
export const SPACE = `
local META, NAMES, ORDER, EXPIRY, TAGS, HOLDERS, INFO, TRASH =
  KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5], KEYS[6], KEYS[7], KEYS[8]
local INF = math.huge
local ENTRY_BYTES, ITEM_BYTES, MEMBER_BYTES, ANSWER_BYTES = 200, 64, 160, 4000000
local read_at = 0
local function take()
  read_at = read_at + 1
  return ARGV[read_at]
end
local function take_number()
  local word = take()
  if word == "" then return INF end
  return tonumber(word)
end
-- A range of indexes, negative ones from the end, in a list of so many.
local function within(start, stop, size)
  if start < 0 then start = start + size end
  if stop < 0 then stop = stop + size end
  return math.max(start, 0), math.min(stop, size - 1)
end
local function whole(number) return string.format("%.0f", number) end
local function when(moment) return moment == INF and "" or whole(moment) end

local now, micros = take(), nil
if now == "" then
  local time = redis.call("TIME")
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  micros = time[1] * 1000000 + time[2]
else
  now = tonumber(now)
  micros = math.floor(now) * 1000
end
local body_hash = take()
local kept_ms = take()
local max_length, capacity_entries, capacity_bytes = take_number(), take_number(), take_number()
local refresh_on_read, refresh_on_write = take() == "1", take() == "1"
local max_key_bytes = math.min(take_number(), capacity_bytes)
local bounded = capacity_entries < INF or capacity_bytes < INF
local RECORD = body_hash ~= "" and KEYS[9] or nil
local names, data_of = {}, {}
for index = 1, take_number() do
  names[index] = take()
  data_of[names[index]] = KEYS[(RECORD and 9 or 8) + index]
end

local function fail(reason, ...) error({ reason = reason, ... }, 0) end

-- Counters: r the last revision, b the bytes of all entries, u the last use.
local info, info_changed
local function counters()
  if not info then
    local found = redis.call("HMGET", INFO, "r", "b", "u")
    info = { r = tonumber(found[1] or 0), b = tonumber(found[2] or 0), u = tonumber(found[3] or 0) }
  end
  return info
end
local function next_revision()
  local all = counters()
  all.r = math.max(all.r + 1, micros)
  info_changed = true
  return all.r
end

-- Tags: a version that was never used before, and how many entries carry the tag in any version.
local tags = {}
local function tag_state(tag)
  local state = tags[tag]
  if not state then
    state = { version = redis.call("HGET", TAGS, tag) or nil, holders = tonumber(redis.call("HGET", HOLDERS, tag) or 0) }
    tags[tag] = state
  end
  return state
end
local function stamp(tag)
  local state = tag_state(tag)
  if not state.version then
    state.version = whole(next_revision())
    state.changed = true
  end
  return state.version
end
local function hold(entry, by)
  for index = 1, #entry.tags do
    local state = tag_state(entry.tags[index])
    state.holders = state.holders + by
    state.changed = true
  end
end

local function unpacked(key, raw)
  local parts = cmsgpack.unpack(raw)
  local entry = { key = key, kind = parts[1], revision = parts[2], expires = parts[3], ttl = parts[4], bytes = parts[5],
    value = parts[6], places = parts[7], tags = {}, stamps = {} }
  if entry.expires < 0 then entry.expires = INF end
  if entry.ttl < 0 then entry.ttl = INF end
  for index = 8, #parts, 2 do
    entry.tags[#entry.tags + 1] = parts[index]
    entry.stamps[#entry.stamps + 1] = parts[index + 1]
  end
  return entry
end
local function packed(entry)
  local parts = { entry.kind, entry.revision, entry.expires == INF and -1 or entry.expires, entry.ttl == INF and -1 or entry.ttl,
    entry.bytes, entry.value, entry.places }
  for index = 1, #entry.tags do
    parts[#parts + 1] = entry.tags[index]
    parts[#parts + 1] = entry.stamps[index]
  end
  return cmsgpack.pack(parts)
end
local function is_live(entry)
  if entry.expires <= now then return false end
  for index = 1, #entry.tags do
    if tag_state(entry.tags[index]).version ~= entry.stamps[index] then return false end
  end
  return true
end

-- The collections' keys: before the first change in an atomic call a copy is made.
local atomic, copies = false, {}
local function touch_data(data)
  if atomic and copies[data] == nil then copies[data] = redis.call("DUMP", data) or false end
end
local function unlink_data(key)
  touch_data(data_of[key])
  redis.call("UNLINK", data_of[key])
end
local function roll_back_data()
  for data, copy in pairs(copies) do
    redis.call("UNLINK", data)
    if copy then redis.call("RESTORE", data, "0", copy) end
  end
end

-- Entries of the call: what is stored, what it became.
local slots, uses = {}, 0
local function slot_of(key)
  local slot = slots[key]
  if not slot then
    local raw = redis.call("HGET", META, key)
    slot = { old = raw and unpacked(key, raw) or nil }
    -- Entries are changed in place, so what was counted is noted here.
    if slot.old then slot.bytes, slot.expires = slot.old.bytes, slot.old.expires end
    slot.entry = slot.old
    slots[key] = slot
  end
  return slot
end
local function drop(slot)
  local entry = slot.entry
  if entry.kind ~= "value" then unlink_data(entry.key) end
  slot.entry = nil
  slot.changed = true
end
local function find(key)
  local slot = slot_of(key)
  if slot.entry and not is_live(slot.entry) then drop(slot) end
  if slot.entry then
    uses = uses + 1
    slot.used = uses
  end
  return slot.entry
end
local function find_kind(key, kind)
  local entry = find(key)
  if entry and entry.kind ~= kind then fail("type", key, entry.kind, kind) end
  return entry
end
local function changed(entry) slot_of(entry.key).changed = true end
local function put(entry)
  local slot = slot_of(entry.key)
  if slot.entry and slot.entry ~= entry and slot.entry.kind ~= "value" then unlink_data(entry.key) end
  uses = uses + 1
  slot.entry, slot.changed, slot.used = entry, true, uses
end
local function new_entry(key, kind, value, tags_of)
  local entry = { key = key, kind = kind, value = value, revision = 0, expires = INF, ttl = INF, places = 0, tags = {}, stamps = {},
    bytes = ENTRY_BYTES + #key + #value }
  local seen = {}
  for _, tag in ipairs(tags_of or {}) do
    if not seen[tag] then
      seen[tag] = true
      entry.tags[#entry.tags + 1] = tag
      entry.stamps[#entry.stamps + 1] = stamp(tag)
    end
  end
  return entry
end

local function expires_at(moment)
  if moment.mode == "a" then return moment.value end
  if moment.mode == "n" or moment.value == INF then return INF end
  return now + moment.value
end
local function lives_for(moment)
  if moment.mode == "d" or moment.mode == "t" then return moment.value end
  return INF
end
local function set_expiry(entry, moment) entry.expires, entry.ttl = expires_at(moment), lives_for(moment) end
local function renew(entry, moment, refresh)
  if not refresh and not refresh_on_write then return end
  if moment.mode ~= "d" then set_expiry(entry, moment)
  elseif entry.ttl < INF then entry.expires = now + entry.ttl end
end
local function touch(entry)
  if not refresh_on_read or entry.ttl == INF then return end
  entry.expires = now + entry.ttl
  slot_of(entry.key).touched = true
end
local function check_revision(key, expected, entry)
  if expected == "" then return end
  local actual = entry and whole(entry.revision) or "0"
  if actual ~= expected then fail("revision", key, expected, actual) end
end
local function check_fits(bytes)
  if bytes > max_key_bytes then fail("limit", "key.bytes", whole(bytes), whole(max_key_bytes)) end
end
local answered = 0
local function answer(bytes)
  answered = answered + bytes
  if answered > ANSWER_BYTES then fail("limit", "answer.bytes", whole(answered), whole(ANSWER_BYTES)) end
end
local function revision_of(entry) return entry and whole(entry.revision) or "0" end
local function expiry_of(entry) return entry and when(entry.expires) or "" end

-- What writes to collections share.
local function make(key, kind, moment)
  local entry = new_entry(key, kind, "")
  set_expiry(entry, moment)
  return entry
end
local function begin(entry, is_new)
  if not is_new then return touch_data(data_of[entry.key]) end
  -- One that was evicted or replaced may have left its content behind. A full server refuses what grows only until a script's first write.
  local slot, data = slot_of(entry.key), data_of[entry.key]
  if slot.entry then drop(slot) else touch_data(data) end
  if redis.call("EXISTS", data) == 1 then redis.call("UNLINK", data) end
end
local function commit(entry, is_new, bytes, moment, refresh)
  entry.bytes = bytes
  if not is_new then renew(entry, moment, refresh) end
  entry.revision = next_revision()
  if is_new then put(entry) else changed(entry) end
end
local function shrink(entry, bytes, left)
  if left == 0 then return drop(slot_of(entry.key)) end
  entry.bytes = bytes
  entry.revision = next_revision()
  changed(entry)
end

local function write_tags()
  for tag, state in pairs(tags) do
    if state.changed then
      if state.holders > 0 and state.version then
        redis.call("HSET", HOLDERS, tag, whole(state.holders))
        redis.call("HSET", TAGS, tag, state.version)
      else
        redis.call("HDEL", HOLDERS, tag)
        redis.call("HDEL", TAGS, tag)
      end
    end
  end
end
local function forget(key, entry)
  redis.call("HDEL", META, key)
  redis.call("ZREM", NAMES, key)
  redis.call("ZREM", ORDER, key)
  redis.call("ZREM", EXPIRY, key)
  hold(entry, -1)
end
local function write_slot(key, slot)
  local old, entry = slot.old, slot.entry
  if not old and not entry then return end
  counters().b = counters().b - (slot.bytes or 0) + (entry and entry.bytes or 0)
  info_changed = true
  if not entry then return forget(key, old) end
  redis.call("HSET", META, key, packed(entry))
  if not old then redis.call("ZADD", NAMES, "0", key) end
  if entry.expires == INF then
    if slot.expires and slot.expires < INF then redis.call("ZREM", EXPIRY, key) end
  elseif entry.expires ~= slot.expires then redis.call("ZADD", EXPIRY, whole(entry.expires), key) end
  if old ~= entry then
    hold(entry, 1)
    if old then hold(old, -1) end
  end
end
-- A read must work on a full server, so that the new end of a life is only a wish, as is the place in the order of use.
local function write_touched(key, slot)
  local reply = redis.pcall("HSET", META, key, packed(slot.entry))
  if type(reply) == "number" then redis.pcall("ZADD", EXPIRY, whole(slot.entry.expires), key) end
end
local function evict()
  if not bounded then return end
  local all = counters()
  local count = redis.call("HLEN", META)
  while count > capacity_entries or all.b > capacity_bytes do
    local key = redis.call("ZPOPMIN", ORDER)[1] or redis.call("ZRANGE", NAMES, "0", "0")[1]
    if not key then return end
    local raw = redis.call("HGET", META, key)
    if raw then
      local entry = unpacked(key, raw)
      forget(key, entry)
      if entry.kind ~= "value" then redis.call("SADD", TRASH, key) end
      all.b = all.b - entry.bytes
      count = count - 1
      info_changed = true
    end
  end
end
local function flush()
  local wrote = info_changed
  for key, slot in pairs(slots) do
    if slot.changed then
      write_slot(key, slot)
      wrote = true
    elseif slot.touched then write_touched(key, slot) end
  end
  if bounded and uses > 0 then
    local all = counters()
    local base = math.max(all.u, micros)
    local store = wrote and redis.call or redis.pcall
    for key, slot in pairs(slots) do
      if slot.used and slot.entry then store("ZADD", ORDER, whole(base + slot.used), key) end
    end
    all.u = base + uses
    store("HSET", INFO, "u", whole(all.u))
  end
  if wrote then evict() end
  write_tags()
  if info_changed then redis.call("HSET", INFO, "r", whole(info.r), "b", whole(info.b)) end
end
`

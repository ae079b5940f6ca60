/**
 * Lua: the commonest writes where they concern nothing but the key itself: no capacity, no tags, no condition. The store's full scripts
 * make their functions anew for each call, which is most of what they cost; these have none. Each says `slow` where it meets more than
 * it can do, and has then changed nothing.
 *
 * KEYS: 1 entries, 2 names, 3 expiry, 4 counters, 5 the key's content, then the record of the request_id if there is one. ARGV: the time
 * or nothing, cache key, moment (two words, see ./space), most bytes of a key, how long to keep the record, whether to restart the time to
 * live, hash of the body or nothing, then what the operation needs.
 */
const begin = (kind: string): string => `
local key, mode, moment, most_bytes, body_hash = ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5]), ARGV[8]
local record = body_hash ~= "" and KEYS[6]
if record then
  local known = redis.call("GET", record)
  if known then
    known = cmsgpack.unpack(known)
    if known[1] ~= body_hash then return { "reused" } end
    return known[2]
  end
end
local raw, old = redis.call("HGET", KEYS[1], key), nil
if raw then
  old = cmsgpack.unpack(raw)
  if old[1] ~= "${kind}" or old[8] then return { "slow" } end
end
local now, micros = ARGV[1], nil
if now == "" then
  local time = redis.call("TIME")
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  micros = time[1] * 1000000 + time[2]
else
  now = tonumber(now)
  micros = math.floor(now) * 1000
end
local expires, ttl = -1, -1
if moment and mode == "a" then expires = moment
elseif moment and mode ~= "n" then expires, ttl = now + moment, moment end
`

/** A write to what is there leaves its expiry, or restarts its time to live. */
const KEEP_EXPIRY = `
if old then
  if old[3] >= 0 and old[3] <= now then return { "slow" } end
  if ARGV[7] ~= "1" then expires, ttl = old[3], old[4]
  elseif mode == "d" then
    expires, ttl = old[3], old[4]
    if ttl >= 0 then expires = now + ttl end
  end
end
`

/** Before anything is removed, so that a full server refuses it. */
const NAME = `
if not old then redis.call("ZADD", KEYS[2], "0", key) end
`

/**
 * `first` and `last` are what the answer has before and after revision and expiry. It is one text with spaces, which costs both sides
 * much less than a list; a record has it as the full scripts do.
 */
const end = (kind: string, first: readonly string[], last: readonly string[]): string => `
local counters = redis.call("HMGET", KEYS[4], "r", "b")
local revision = math.max(tonumber(counters[1] or 0) + 1, micros)
redis.call("HSET", KEYS[1], key, cmsgpack.pack({ "${kind}", revision, expires, ttl, bytes, value, places }))
local until_text = ""
if expires >= 0 then
  until_text = string.format("%.0f", expires)
  if not old or old[3] ~= expires then redis.call("ZADD", KEYS[3], until_text, key) end
elseif old and old[3] >= 0 then redis.call("ZREM", KEYS[3], key) end
local text = string.format("%.0f", revision)
redis.call("HSET", KEYS[4], "r", text, "b", string.format("%.0f", tonumber(counters[2] or 0) + bytes - (old and old[5] or 0)))
if record then
  local outcome = { "ok", ${[...first, "text", "until_text", ...last].join(", ")} }
  redis.call("SET", record, cmsgpack.pack({ body_hash, { "ok", outcome } }), "PX", ARGV[6])
end
return ${[...first, "text", "until_text", ...last].join(' .. " " .. ')}
`

/** Writes a value. ARGV: 9 the value. */
export const SET_VALUE_SCRIPT = `${begin("value")}
local value, places = ARGV[9], 0
local bytes = 200 + #key + #value
if bytes > most_bytes then return { "slow" } end
${NAME}${end("value", ['"1"'], [])}`

/** Adds to a whole number of fewer than 15 digits. ARGV: 9 what to add, 10 what to begin with. */
export const ADD_WHOLE_SCRIPT = `${begin("value")}${KEEP_EXPIRY}
local from = ARGV[10]
if old then from = string.match(old[6], "^i0:(%-?%d+)$") end
if not from or #from >= 15 or #ARGV[9] >= 15 then return { "slow" } end
local sum = tonumber(from) + tonumber(ARGV[9])
local digits = sum == 0 and "0" or string.format("%.0f", sum)
local value, places = "i0:" .. digits, 0
local bytes = 200 + #key + #value
${NAME}${end("value", ['"1"', '"i"', "digits"], [])}`

/** Writes different fields of a hash. ARGV: 9 most fields, then names and values. */
export const SET_FIELDS_SCRIPT = `${begin("hash")}${KEEP_EXPIRY}
local data, value = KEYS[5], ""
local places, bytes = old and old[7] or 0, old and old[5] or 200 + #key
local created, writes = 0, {}
for index = 10, #ARGV, 2 do
  local name, content = ARGV[index], ARGV[index + 1]
  local stored, place = old and redis.call("HGET", data, name), nil
  if stored then
    place = string.match(stored, "^(%d+) ")
    bytes = bytes + #content - (#stored - #place - 1)
  else
    created = created + 1
    places = places + 1
    place = string.format("%.0f", places)
    bytes = bytes + 64 + #name + #content
  end
  writes[#writes + 1] = name
  writes[#writes + 1] = place .. " " .. content
end
local length = (old and redis.call("HLEN", data) or 0) + created
if bytes > most_bytes or (created > 0 and length > (tonumber(ARGV[9]) or math.huge)) then return { "slow" } end
${NAME}
-- One that was evicted may have left its content behind.
if not old then redis.call("UNLINK", data) end
for index = 1, #writes, 2 do redis.call("HSET", data, writes[index], writes[index + 1]) end
local created_text, length_text = string.format("%.0f", created), string.format("%.0f", length)
${end("hash", [], ["created_text", "length_text"])}`

/**
 * Reads fields of a hash. KEYS: 1 entries, 2 expiry, 3 the key's content. ARGV: the time or nothing, cache key, whether to restart the time to
 * live, names or nothing for all.
 */
export const READ_FIELDS_SCRIPT = `
local key, data = ARGV[2], KEYS[3]
local raw = redis.call("HGET", KEYS[1], key)
if not raw then return { "ok", { "ok" } } end
local entry = cmsgpack.unpack(raw)
if entry[1] ~= "hash" or entry[8] then return { "slow" } end
local now = tonumber(ARGV[1])
if not now then
  local time = redis.call("TIME")
  now = time[1] * 1000 + math.floor(time[2] / 1000)
end
if entry[3] >= 0 and entry[3] <= now then return { "slow" } end
local restart = ARGV[3] == "1" and entry[4] >= 0
if restart then entry[3] = now + entry[4] end
local until_text = entry[3] >= 0 and string.format("%.0f", entry[3]) or ""
local found, answered = {}, 0
if #ARGV == 3 then found = redis.call("HGETALL", data)
else
  for index = 4, #ARGV do
    local stored = redis.call("HGET", data, ARGV[index])
    if stored then
      found[#found + 1] = ARGV[index]
      found[#found + 1] = stored
    end
  end
end
local fields = { "ok", string.format("%.0f", entry[2]), until_text, string.format("%.0f", redis.call("HLEN", data)) }
for index = 1, #found, 2 do
  local place, from = string.match(found[index + 1], "^(%d+) ()")
  answered = answered + 64 + #found[index] + #found[index + 1] - from + 1
  fields[#fields + 1] = found[index]
  fields[#fields + 1] = place
  fields[#fields + 1] = string.sub(found[index + 1], from)
end
if answered > 4000000 then return { "slow" } end
if restart then
  -- A read must work on a full server, so that this is only a wish.
  local reply = redis.pcall("HSET", KEYS[1], key, cmsgpack.pack(entry))
  if type(reply) == "number" then redis.pcall("ZADD", KEYS[2], until_text, key) end
end
return { "ok", fields }
`

/**
 * Lua: writes a value where that concerns nothing but the entry itself: no capacity, no tags, no condition. The store's full scripts make
 * their functions anew for each call; this one has none. Says `slow` where the key holds a collection or has tags, and has then changed nothing.
 * KEYS: 1 entries, 2 names, 3 expiry, 4 counters, 5 record of the request_id if there is one. ARGV: the time or nothing, cache key, value,
 * moment (see ./space), most bytes of a key, hash of the body, how long to keep the record.
 */
export const SET_VALUE_SCRIPT = `
local key, value, mode, moment, record = ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5]), KEYS[5]
if record then
  local known = redis.call("GET", record)
  if known then
    known = cmsgpack.unpack(known)
    if known[1] ~= ARGV[7] then return { "reused" } end
    return known[2]
  end
end
local raw, old = redis.call("HGET", KEYS[1], key), nil
if raw then
  old = cmsgpack.unpack(raw)
  if old[1] ~= "value" or old[8] then return { "slow" } end
end
local bytes = 200 + #key + #value
if bytes > tonumber(ARGV[6]) then return { "slow" } end
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
local counters = redis.call("HMGET", KEYS[4], "r", "b")
local revision = math.max(tonumber(counters[1] or 0) + 1, micros)
redis.call("HSET", KEYS[1], key, cmsgpack.pack({ "value", revision, expires, ttl, bytes, value, 0 }))
if not old then redis.call("ZADD", KEYS[2], "0", key) end
local until_text = ""
if expires >= 0 then
  until_text = string.format("%.0f", expires)
  if not old or old[3] ~= expires then redis.call("ZADD", KEYS[3], until_text, key) end
elseif old and old[3] >= 0 then redis.call("ZREM", KEYS[3], key) end
local text = string.format("%.0f", revision)
redis.call("HSET", KEYS[4], "r", text, "b", string.format("%.0f", tonumber(counters[2] or 0) + bytes - (old and old[5] or 0)))
local reply = { "ok", { "ok", "1", text, until_text } }
if record then redis.call("SET", record, cmsgpack.pack({ ARGV[7], reply }), "PX", ARGV[8]) end
return reply
`

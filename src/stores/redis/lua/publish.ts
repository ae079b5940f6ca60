/**
 * Lua: numbers a message and publishes it. KEYS: 1 the topic's counter, 2 record of the request_id if there is one. ARGV: time or
 * nothing, hash of the body, how long to keep the record, channel, how long to keep the counter, payload.
 */
export const PUBLISH_SCRIPT = `
local now, body_hash, kept_ms, channel, counter_ms, payload = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5], ARGV[6]
local micros
if now == "" then
  local time = redis.call("TIME")
  now = time[1] * 1000 + math.floor(time[2] / 1000)
  micros = time[1] * 1000000 + time[2]
else
  now = tonumber(now)
  micros = now * 1000
end
local RECORD = body_hash ~= "" and KEYS[2] or nil
if RECORD then
  local known = redis.call("GET", RECORD)
  if known then
    local hash, sequence, receivers = string.match(known, "^(%x*) (%d+) (%d+)$")
    if hash ~= body_hash then return { "reused" } end
    return { "known", sequence, receivers }
  end
end
local before = redis.call("GET", KEYS[1])
local sequence = string.format("%.0f", before and tonumber(before) + 1 or micros)
redis.call("SET", KEYS[1], sequence, "PX", counter_ms)
local receivers = redis.call("PUBLISH", channel, sequence .. " " .. string.format("%.0f", now) .. " " .. payload)
local count = string.format("%.0f", receivers)
if RECORD then redis.call("SET", RECORD, body_hash .. " " .. sequence .. " " .. count, "PX", kept_ms) end
return { "ok", sequence, count }
`

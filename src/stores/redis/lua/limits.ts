/**
 * Lua: sliding windows. KEYS: 1 record of the request_id if there is one; then per rule its state (hash: used, now, and for weighted
 * windows index, current, previous) and its log (list of "time cost"). All rules are looked at before any is charged.
 */
export const LIMITS_SCRIPT = `
local read_at = 0
local function take()
  read_at = read_at + 1
  return ARGV[read_at]
end
local function whole(number) return string.format("%.0f", number) end
local now = take()
if now == "" then
  local time = redis.call("TIME")
  now = time[1] * 1000 + math.floor(time[2] / 1000)
else now = tonumber(now) end
local body_hash, kept_ms = take(), take()
local RECORD = body_hash ~= "" and KEYS[1] or nil
if RECORD then
  local known = redis.call("GET", RECORD)
  if known then
    local parts = cmsgpack.unpack(known)
    if parts[1] ~= body_hash then return { "reused" } end
    return parts[2]
  end
end
local KEPT_LONGER_MS = 60000

local exact = {}
function exact.forget(c)
  while true do
    local oldest = redis.call("LINDEX", c.log, "0")
    if not oldest then break end
    local at, cost = string.match(oldest, "^(%d+) (%d+)$")
    if tonumber(at) > c.now - c.window then break end
    c.used = c.used - tonumber(cost)
    redis.call("LPOP", c.log)
    c.changed = true
  end
end
function exact.look(c, cost)
  local last = redis.call("LINDEX", c.log, "-1")
  local empty_at = c.now
  if last then empty_at = tonumber(string.match(last, "^%d+")) + c.window end
  local wait, excess, from = 0, c.used + cost - c.limit, 0
  while excess > 0 do
    local hits = redis.call("LRANGE", c.log, whole(from), whole(from + 99))
    if #hits == 0 then break end
    for _, hit in ipairs(hits) do
      local at, spent = string.match(hit, "^(%d+) (%d+)$")
      excess = excess - tonumber(spent)
      if excess <= 0 then
        wait = tonumber(at) + c.window - c.now
        break
      end
    end
    from = from + 100
  end
  return c.used, wait, empty_at
end
function exact.spend(c, cost)
  c.used = c.used + cost
  local last = redis.call("LINDEX", c.log, "-1")
  local at, spent = string.match(last or "", "^(%d+) (%d+)$")
  if at and tonumber(at) == c.now then redis.call("LSET", c.log, "-1", whole(c.now) .. " " .. whole(spent + cost))
  else redis.call("RPUSH", c.log, whole(c.now) .. " " .. whole(cost)) end
end

local function weigh(previous, current, elapsed, window)
  return current + math.ceil(previous * ((window - elapsed) / window))
end
local function first_fit(previous, current, window, room, from)
  local low, high = from, window
  while low < high do
    local middle = math.floor((low + high) / 2)
    if weigh(previous, current, middle, window) <= room then high = middle else low = middle + 1 end
  end
  return low
end
local weighted = {}
function weighted.forget(c)
  local index = math.floor(c.now / c.window)
  if index <= c.index then return end
  c.previous = index == c.index + 1 and c.current or 0
  c.current, c.index = 0, index
end
function weighted.look(c, cost)
  local start = c.index * c.window
  local elapsed, room = c.now - start, c.limit - cost
  local used = weigh(c.previous, c.current, elapsed, c.window)
  local empty_at, wait = c.now, 0
  if c.current > 0 then empty_at = start + 2 * c.window
  elseif c.previous > 0 then empty_at = start + c.window end
  if used > room then
    if c.current <= room then wait = first_fit(c.previous, c.current, c.window, room, elapsed) - elapsed
    else wait = c.window - elapsed + first_fit(c.current, 0, c.window, room, 0) end
  end
  return used, wait, empty_at
end
function weighted.spend(c, cost) c.current = c.current + cost end

local function counter(at)
  local c = { state = KEYS[at], log = KEYS[at + 1] }
  c.way = take() == "exactLog" and exact or weighted
  c.limit, c.window, c.cost = tonumber(take()), tonumber(take()), tonumber(take())
  local found = redis.call("HMGET", c.state, "used", "now", "index", "current", "previous")
  c.used, c.now = tonumber(found[1] or 0), math.max(now, tonumber(found[2] or 0))
  c.index, c.current, c.previous = tonumber(found[3] or 0), tonumber(found[4] or 0), tonumber(found[5] or 0)
  c.way.forget(c)
  return c
end
local function write(c, cost)
  if cost > 0 then c.way.spend(c, cost) elseif not c.changed then return end
  redis.call("HSET", c.state, "used", whole(c.used), "now", whole(c.now), "index", whole(c.index),
    "current", whole(c.current), "previous", whole(c.previous))
  local life = whole(2 * c.window + KEPT_LONGER_MS)
  redis.call("PEXPIRE", c.state, life)
  redis.call("PEXPIRE", c.log, life)
end

local counters, allowed = {}, true
for index = 1, tonumber(take()) do
  local c = counter((RECORD and 0 or -1) + 2 * index)
  counters[index] = c
  local _, wait = c.way.look(c, math.max(c.cost, 1))
  if wait > 0 then allowed = false end
end
local reply = { allowed and "1" or "0" }
for _, c in ipairs(counters) do
  write(c, allowed and c.cost or 0)
  local used, wait, empty_at = c.way.look(c, math.max(c.cost, 1))
  local passes = allowed or wait == 0
  reply[#reply + 1] = passes and "1" or "0"
  reply[#reply + 1] = whole(math.max(0, c.limit - used))
  reply[#reply + 1] = passes and "0" or whole(wait)
  reply[#reply + 1] = whole(now + empty_at - c.now)
end
if RECORD then redis.call("SET", RECORD, cmsgpack.pack({ body_hash, reply }), "PX", kept_ms) end
return reply
`

/** Lua: reading operations from ARGV, and running them one by one or all or none. Those on any key and on values come first. */
export const READING = `
local function take_flag() return take() == "1" end
local function take_moment() return { mode = take(), value = take_number() } end
local function take_addition()
  return { form = take(), delta = take(), initial = take(), minimum = take(), maximum = take() }
end
local function take_list()
  local list = {}
  for index = 1, take_number() do list[index] = take() end
  return list
end
local function take_pairs(second)
  local list = {}
  for index = 1, take_number() do list[index] = { take(), second(take()) } end
  return list
end
local function same(value) return value end

-- Tables are filled in the order in which their fields are written here, so each reads ARGV from left to right.
local reads = {}
function reads.get(p) end
function reads.check(p) end
function reads.reap(p) end
function reads.info(p) end
function reads.set(p)
  p.value, p.moment, p.keep = take(), take_moment(), take_flag()
  p.condition, p.revision, p.tags = take(), take(), take_list()
end
function reads.delete(p) p.revision = take() end
function reads.expire(p) p.moment, p.revision = take_moment(), take() end
function reads.increment(p) p.moment, p.refresh, p.addition = take_moment(), take_flag(), take_addition() end
`

/** Lua: reading the operations on each kind of collection. */
export const READ_COLLECTIONS = {
  hashes: `
function reads.hashSet(p)
  p.moment, p.refresh, p.absent = take_moment(), take_flag(), take_flag()
  p.revision, p.fields = take(), take_pairs(same)
end
function reads.hashGet(p) p.names = take_list() end
function reads.hashDelete(p) p.names = take_list() end
function reads.hashIncrement(p)
  p.moment, p.refresh, p.name, p.addition = take_moment(), take_flag(), take(), take_addition()
end
`,
  lists: `
function reads.listPush(p)
  p.moment, p.refresh, p.ending = take_moment(), take_flag(), take()
  p.maximum, p.present, p.values = take_number(), take_flag(), take_list()
end
function reads.listRange(p) p.start, p.stop, p.most = take_number(), take_number(), take_number() end
function reads.listPop(p) p.ending, p.count = take(), take_number() end
function reads.listTrim(p) p.start, p.stop = take_number(), take_number() end
`,
  sortedSets: `
function reads.sortedSetAdd(p)
  p.moment, p.refresh, p.condition, p.members = take_moment(), take_flag(), take(), take_pairs(tonumber)
end
function reads.sortedSetRange(p)
  p.by = take()
  if p.by == "rank" then p.start, p.stop = take_number(), take_number()
  else p.low, p.high, p.low_exclusive, p.high_exclusive = take(), take(), take_flag(), take_flag() end
  p.reverse, p.offset, p.limit = take_flag(), take_number(), take_number()
end
function reads.sortedSetRemove(p) p.members = take_list() end
function reads.sortedSetIncrement(p)
  p.moment, p.refresh, p.member, p.delta = take_moment(), take_flag(), take(), take_number()
end
`,
}

/** Lua: remembering answers, and failing as a table. */
export const ENDINGS = `
local function replay()
  if not RECORD then return nil end
  local known = redis.call("GET", RECORD)
  if not known then return nil end
  local parts = cmsgpack.unpack(known)
  if parts[1] ~= body_hash then return { "reused" } end
  return parts[2]
end
local function remember(reply)
  if RECORD then redis.call("SET", RECORD, cmsgpack.pack({ body_hash, reply }), "PX", kept_ms) end
  return reply
end
-- A failure of the rules as a table; one of the server ends the script.
local function attempt(work, argument)
  local ok, result = pcall(work, argument)
  if ok then return true, result end
  if type(result) == "table" and result.reason then return false, result end
  if type(result) == "table" and result.err then error(result.err, 0) end
  error(result, 0)
end
local function failed(failure)
  local reply = { "err", failure.reason }
  for index = 1, #failure do reply[#reply + 1] = failure[index] end
  return reply
end
`

/** Lua: runs the operations of the call; the body of the operations script. */
export const RUN_OPERATIONS = `
local known = replay()
if known then return known end
local all_or_none = take_flag()
-- Changes nothing, but is refused by a full server, which would not refuse what grows after something was removed.
if take_flag() then redis.call("ZADD", NAMES, "XX", "0", "") end
local operations = {}
for index = 1, take_number() do
  local p = { kind = take() }
  p.key = names[take_number()]
  reads[p.kind](p)
  operations[index] = p
end
atomic = all_or_none and #operations > 1
local replies = { "ok" }
local failures = 0
for index, p in ipairs(operations) do
  local ok, result = attempt(run[p.kind], p)
  if ok then
    local reply = { "ok" }
    for each = 1, #result do reply[each + 1] = result[each] end
    replies[index + 1] = reply
  else
    if all_or_none then
      roll_back_data()
      return { "failed", whole(index - 1), failed(result) }
    end
    failures = failures + 1
    replies[index + 1] = failed(result)
  end
end
flush()
-- A call of one operation that failed had no effect and may be repeated.
if #operations == 1 and failures == 1 then return replies end
return remember(replies)
`

/** Lua: invalidates tags by giving them a version that no entry has seen; the body of its script. */
export const INVALIDATE_TAGS = `
local known = replay()
if known then return known end
for _, tag in ipairs(take_list()) do
  local state = tag_state(tag)
  -- After something was removed, a full server lets new versions in.
  redis.call("HDEL", TAGS, tag)
  if state.holders > 0 then
    state.version = whole(next_revision())
    state.changed = true
  end
end
flush()
return remember({ "ok" })
`

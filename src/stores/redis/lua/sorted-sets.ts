/** Lua: operations on sorted sets. Scores travel as the shortest decimal text that gives the same double. */
export const SORTED_SETS = `
local function member_bytes(member) return MEMBER_BYTES + #member end
local function takes(condition, before, score)
  if condition == "always" then return true end
  if condition == "ifPresent" then return before ~= nil end
  if before == nil then return true end
  if condition == "ifGreater" then return score > before end
  if condition == "ifLess" then return score < before end
  return false
end
local function score_in(found, key, member)
  local score = found and redis.call("ZSCORE", data_of[key], member)
  return score and tonumber(score) or nil
end
local function write_members(p, found, order, scores)
  local data = data_of[p.key]
  local entry = found or make(p.key, "sortedSet", p.moment)
  local bytes, added, updated = entry.bytes, 0, 0
  for _, member in ipairs(order) do
    local before = score_in(found, p.key, member)
    if before == nil then
      added = added + 1
      bytes = bytes + member_bytes(member)
    elseif before ~= scores[member] then updated = updated + 1 end
  end
  check_fits(bytes)
  begin(entry, not found)
  for _, member in ipairs(order) do redis.call("ZADD", data, double_text(scores[member]), member) end
  local excess = redis.call("ZCARD", data) - max_length
  if excess > 0 then
    for _, member in ipairs(redis.call("ZRANGE", data, "0", whole(excess - 1))) do bytes = bytes - member_bytes(member) end
    redis.call("ZREMRANGEBYRANK", data, "0", whole(excess - 1))
  end
  if added + updated > 0 or p.refresh or refresh_on_write then commit(entry, not found, bytes, p.moment, p.refresh) end
  return entry, added, updated
end
function run.sortedSetAdd(p)
  local found = find_kind(p.key, "sortedSet")
  local order, scores = {}, {}
  for _, each in ipairs(p.members) do
    local member, score = each[1], each[2]
    if takes(p.condition, score_in(found, p.key, member), score) then
      if scores[member] == nil then order[#order + 1] = member end
      scores[member] = score
    end
  end
  local length = function(entry) return whole(entry and redis.call("ZCARD", data_of[p.key]) or 0) end
  if #order == 0 then return { revision_of(found), expiry_of(found), "0", "0", length(found) } end
  local entry, added, updated = write_members(p, found, order, scores)
  return { revision_of(entry), expiry_of(entry), whole(added), whole(updated), length(entry) }
end
function run.sortedSetIncrement(p)
  local found = find_kind(p.key, "sortedSet")
  local score = (score_in(found, p.key, p.member) or 0) + p.delta
  if score ~= score or math.abs(score) == INF then fail("overflow", p.key, "a finite double") end
  local entry = write_members(p, found, { p.member }, { [p.member] = score })
  local rank = redis.call("ZRANK", data_of[p.key], p.member) or 0
  return { revision_of(entry), expiry_of(entry), double_text(score), whole(rank) }
end
function run.sortedSetRemove(p)
  local entry = find_kind(p.key, "sortedSet")
  if not entry then return { "0", "0" } end
  local data = data_of[p.key]
  local bytes, removed, length = entry.bytes, 0, redis.call("ZCARD", data)
  begin(entry, false)
  for _, member in ipairs(p.members) do
    if redis.call("ZREM", data, member) == 1 then
      removed = removed + 1
      bytes = bytes - member_bytes(member)
    end
  end
  if removed > 0 then shrink(entry, bytes, length - removed) end
  return { whole(removed), whole(length - removed) }
end
-- Bounds are words of the server: "-inf", "(1.5", "3".
local function count_below(data, word, inclusive)
  if not inclusive and word == "-inf" then return 0 end
  return redis.call("ZCOUNT", data, "-inf", inclusive and word or "(" .. word)
end
function run.sortedSetRange(p)
  local entry = find_kind(p.key, "sortedSet")
  if not entry then return {} end
  touch(entry)
  local data = data_of[p.key]
  local size = redis.call("ZCARD", data)
  local from, to
  if p.by == "rank" then
    from, to = within(p.start, p.stop, size)
    if p.reverse then from, to = size - 1 - to, size - 1 - from end
  else
    from = count_below(data, p.low, p.low_exclusive)
    to = count_below(data, p.high, not p.high_exclusive) - 1
  end
  if p.reverse then
    to = to - p.offset
    from = math.max(from, to - p.limit + 1)
  else
    from = from + p.offset
    to = math.min(to, from + p.limit - 1)
  end
  local reply = { revision_of(entry), expiry_of(entry), whole(size) }
  if from > to then return reply end
  local rank = p.reverse and size - 1 - to or from
  local found
  if p.reverse then found = redis.call("ZREVRANGE", data, whole(rank), whole(size - 1 - from), "WITHSCORES")
  else found = redis.call("ZRANGE", data, whole(from), whole(to), "WITHSCORES") end
  for index = 1, #found, 2 do
    answer(member_bytes(found[index]))
    reply[#reply + 1] = found[index]
    reply[#reply + 1] = found[index + 1]
    reply[#reply + 1] = whole(rank + (index - 1) / 2)
  end
  return reply
end
`

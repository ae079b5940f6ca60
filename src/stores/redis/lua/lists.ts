/** Lua: operations on lists. */
export const LISTS = `
local function item_bytes(item) return ITEM_BYTES + #item end
-- Items from one end inwards; count is more than 0.
local function from_end(data, ending, count)
  if ending == "head" then return redis.call("LRANGE", data, "0", whole(count - 1)) end
  local items, turned = redis.call("LRANGE", data, whole(-count), "-1"), {}
  for index = #items, 1, -1 do turned[#turned + 1] = items[index] end
  return turned
end
local function keep(data, from, to) redis.call("LTRIM", data, whole(from), whole(to)) end
function run.listPush(p)
  local found = find_kind(p.key, "list")
  if not found and p.present then return { "0", "", "0", "0" } end
  local data = data_of[p.key]
  local entry = found or make(p.key, "list", p.moment)
  local size = found and redis.call("LLEN", data) or 0
  local most = p.maximum == 0 and max_length or math.min(p.maximum, max_length)
  local total = size + #p.values
  local dropped = math.max(0, total - most)
  local other = p.ending == "head" and "tail" or "head"
  local bytes = entry.bytes
  for _, item in ipairs(p.values) do bytes = bytes + item_bytes(item) end
  local stored = math.min(dropped, size)
  if stored > 0 then
    for _, item in ipairs(from_end(data, other, stored)) do bytes = bytes - item_bytes(item) end
  end
  for index = 1, dropped - stored do bytes = bytes - item_bytes(p.values[index]) end
  check_fits(bytes)
  begin(entry, not found)
  local push = p.ending == "head" and "LPUSH" or "RPUSH"
  for _, item in ipairs(p.values) do redis.call(push, data, item) end
  if dropped > 0 then
    if other == "head" then keep(data, dropped, -1) else keep(data, 0, -1 - dropped) end
  end
  commit(entry, not found, bytes, p.moment, p.refresh)
  return { revision_of(entry), expiry_of(entry), whole(total - dropped), whole(dropped) }
end
function run.listRange(p)
  local entry = find_kind(p.key, "list")
  if not entry then return {} end
  touch(entry)
  local data = data_of[p.key]
  local size = redis.call("LLEN", data)
  local from, to = within(p.start, p.stop, size)
  local count = to - from + 1
  if count > p.most then fail("limit", "range.length", whole(count), whole(p.most)) end
  local reply = { revision_of(entry), expiry_of(entry), whole(size) }
  if count > 0 then
    for _, item in ipairs(redis.call("LRANGE", data, whole(from), whole(to))) do
      answer(item_bytes(item))
      reply[#reply + 1] = item
    end
  end
  return reply
end
function run.listPop(p)
  local entry = find_kind(p.key, "list")
  if not entry then return { "0" } end
  local data = data_of[p.key]
  local size = redis.call("LLEN", data)
  local count = math.min(p.count, size)
  local reply, bytes = { whole(size - count) }, entry.bytes
  if count == 0 then return reply end
  for _, item in ipairs(from_end(data, p.ending, count)) do
    answer(item_bytes(item))
    bytes = bytes - item_bytes(item)
    reply[#reply + 1] = item
  end
  begin(entry, false)
  if count < size then
    if p.ending == "head" then keep(data, count, -1) else keep(data, 0, -1 - count) end
  end
  shrink(entry, bytes, size - count)
  return reply
end
function run.listTrim(p)
  local entry = find_kind(p.key, "list")
  if not entry then return { "0", "0" } end
  local data = data_of[p.key]
  local size = redis.call("LLEN", data)
  local from, to = within(p.start, p.stop, size)
  local kept = math.max(0, to - from + 1)
  if kept == size then return { whole(kept), "0" } end
  local bytes = entry.bytes
  begin(entry, false)
  if kept > 0 then
    local after = size - 1 - to
    if from > 0 then
      for _, item in ipairs(from_end(data, "head", from)) do bytes = bytes - item_bytes(item) end
    end
    if after > 0 then
      for _, item in ipairs(from_end(data, "tail", after)) do bytes = bytes - item_bytes(item) end
    end
    keep(data, from, to)
  end
  shrink(entry, bytes, kept)
  return { whole(kept), whole(size - kept) }
end
`

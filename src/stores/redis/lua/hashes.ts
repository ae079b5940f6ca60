/** Lua: operations on hashes. A field holds its place in the order of creation, a space, and its value. */
export const HASHES = `
local function field_of(raw)
  local place, from = string.match(raw, "^(%d+) ()")
  return tonumber(place), string.sub(raw, from)
end
local function field_bytes(name, value) return ITEM_BYTES + #name + #value end
local function write_fields(p, found, order, values)
  local data = data_of[p.key]
  local entry = found or make(p.key, "hash", p.moment)
  local bytes, created, writes = entry.bytes, 0, {}
  local places = entry.places
  for _, name in ipairs(order) do
    local raw = found and redis.call("HGET", data, name)
    local place
    if raw then
      local value
      place, value = field_of(raw)
      bytes = bytes - field_bytes(name, value)
    else
      created = created + 1
      places = places + 1
      place = places
    end
    bytes = bytes + field_bytes(name, values[name])
    writes[#writes + 1] = { name, whole(place) .. " " .. values[name] }
  end
  local length = (found and redis.call("HLEN", data) or 0) + created
  if created > 0 and length > max_length then fail("limit", "hash.length", whole(length), whole(max_length)) end
  check_fits(bytes)
  begin(entry, not found)
  for _, write in ipairs(writes) do redis.call("HSET", data, write[1], write[2]) end
  entry.places = places
  commit(entry, not found, bytes, p.moment, p.refresh)
  return entry, created, length
end
function run.hashSet(p)
  local found = find_kind(p.key, "hash")
  check_revision(p.key, p.revision, found)
  local order, values = {}, {}
  for _, field in ipairs(p.fields) do
    local name = field[1]
    local present = p.absent and (values[name] or (found and redis.call("HEXISTS", data_of[p.key], name) == 1))
    if not present then
      if not values[name] then order[#order + 1] = name end
      values[name] = field[2]
    end
  end
  if found and #order == 0 then
    return { revision_of(found), expiry_of(found), "0", whole(redis.call("HLEN", data_of[p.key])) }
  end
  local entry, created, length = write_fields(p, found, order, values)
  return { revision_of(entry), expiry_of(entry), whole(created), whole(length) }
end
function run.hashGet(p)
  local entry = find_kind(p.key, "hash")
  if not entry then return {} end
  touch(entry)
  local data = data_of[p.key]
  local reply = { revision_of(entry), expiry_of(entry), whole(redis.call("HLEN", data)) }
  local function add_field(name, raw)
    local place, value = field_of(raw)
    answer(field_bytes(name, value))
    reply[#reply + 1] = name
    reply[#reply + 1] = whole(place)
    reply[#reply + 1] = value
  end
  if #p.names == 0 then
    local all = redis.call("HGETALL", data)
    for index = 1, #all, 2 do add_field(all[index], all[index + 1]) end
  else
    for _, name in ipairs(p.names) do
      local raw = redis.call("HGET", data, name)
      if raw then add_field(name, raw) end
    end
  end
  return reply
end
function run.hashDelete(p)
  local entry = find_kind(p.key, "hash")
  if not entry then return { "0", "0" } end
  local data = data_of[p.key]
  local bytes, deleted, length = entry.bytes, 0, redis.call("HLEN", data)
  begin(entry, false)
  for _, name in ipairs(p.names) do
    local raw = redis.call("HGET", data, name)
    if raw then
      local _, value = field_of(raw)
      bytes = bytes - field_bytes(name, value)
      deleted = deleted + 1
      redis.call("HDEL", data, name)
    end
  end
  if deleted > 0 then shrink(entry, bytes, length - deleted) end
  return { whole(deleted), whole(length - deleted) }
end
function run.hashIncrement(p)
  local found = find_kind(p.key, "hash")
  local raw = found and redis.call("HGET", data_of[p.key], p.name)
  local before = raw and select(2, field_of(raw)) or nil
  local form, sum, applied = add(p.key, before, p.addition)
  if not applied then return { "0", form, sum, revision_of(found), expiry_of(found) } end
  local entry = write_fields(p, found, { p.name }, { [p.name] = valued(form, sum) })
  return { "1", form, sum, revision_of(entry), expiry_of(entry) }
end
`

/** Lua: operations on values, and those that take any kind of key. Each checks everything before it changes anything. */
export const VALUES = `
local run = {}
function run.get(p)
  local entry = find_kind(p.key, "value")
  if not entry then return {} end
  touch(entry)
  answer(entry.bytes)
  local reply = { entry.value, revision_of(entry), expiry_of(entry) }
  for _, tag in ipairs(entry.tags) do reply[#reply + 1] = tag end
  return reply
end
function run.set(p)
  local before = find(p.key)
  check_revision(p.key, p.revision, before)
  if p.condition ~= "always" and (p.condition == "ifPresent") ~= (before ~= nil) then
    return { "0", revision_of(before), expiry_of(before) }
  end
  check_fits(ENTRY_BYTES + #p.key + #p.value)
  local entry = new_entry(p.key, "value", p.value, p.tags)
  if before and p.keep then entry.expires, entry.ttl = before.expires, before.ttl
  else set_expiry(entry, p.moment) end
  entry.revision = next_revision()
  put(entry)
  return { "1", revision_of(entry), expiry_of(entry) }
end
function run.delete(p)
  local entry = find(p.key)
  check_revision(p.key, p.revision, entry)
  if not entry then return { "0" } end
  drop(slot_of(p.key))
  return { "1" }
end
function run.expire(p)
  local entry = find(p.key)
  check_revision(p.key, p.revision, entry)
  if not entry then return { "0", "0", "" } end
  set_expiry(entry, p.moment)
  entry.revision = next_revision()
  changed(entry)
  return { "1", revision_of(entry), expiry_of(entry) }
end
function run.increment(p)
  local before = find_kind(p.key, "value")
  local form, sum, applied = add(p.key, before and before.value, p.addition)
  if not applied then return { "0", form, sum, revision_of(before), expiry_of(before) } end
  local value = valued(form, sum)
  check_fits(ENTRY_BYTES + #p.key + #value)
  local entry = new_entry(p.key, "value", value, before and before.tags)
  if before then
    entry.expires, entry.ttl = before.expires, before.ttl
    renew(entry, p.moment, p.refresh)
  else set_expiry(entry, p.moment) end
  entry.revision = next_revision()
  put(entry)
  return { "1", form, sum, revision_of(entry), expiry_of(entry) }
end
-- Frees the key if it is dead, without counting as a use; answers whether it did.
function run.check(p)
  local slot = slot_of(p.key)
  if not slot.entry or is_live(slot.entry) then return { "0" } end
  drop(slot)
  return { "1" }
end
-- Frees the content of a key that was evicted.
function run.reap(p)
  local slot = slot_of(p.key)
  if not slot.entry or slot.entry.kind == "value" then redis.call("UNLINK", data_of[p.key]) end
  redis.call("SREM", TRASH, p.key)
  return {}
end
function run.info(p)
  local entry = slot_of(p.key).entry
  if not entry or not is_live(entry) then return {} end
  return { entry.kind, revision_of(entry), expiry_of(entry), whole(entry.bytes) }
end
`

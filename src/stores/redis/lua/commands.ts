/** Lua: the commands that registered scripts may call, on the cache's own keys, by way of the same operations. */
export const COMMANDS = `
local default_moment = { mode = "d", value = take_number() }
local allowed_kind = take()
local function argument(expected) fail("argument", "an argument is not " .. expected) end
local function integer(word)
  if word and #word <= 17 and string.find(word, "^%-?%d+$") then
    local value = tonumber(word)
    if math.abs(value) <= 9007199254740991 then return value end
  end
  argument("a whole number")
end
local function number(word)
  local value = word and not string.find(word, "[xX]") and tonumber(word)
  if value and value == value and math.abs(value) < INF then return value end
  argument("a number")
end
local function as_text(value) return (select(2, parts_of(value))) end
local function text_value(word) return valued("t", word) end
local OK = { ok = "OK" }
local function operate(kind, p)
  if not p.moment then p.moment = default_moment end
  if not p.revision then p.revision = "" end
  return run[kind](p)
end
local function texts(words, from)
  local list = {}
  for index = from, #words do list[#list + 1] = words[index] end
  return list
end
-- A script has a sum as a double: one that no double holds is refused, and nothing changes.
local MOST = "9007199254740991"
local function added(kind, p, delta)
  p.addition = { form = "i", delta = delta, initial = "0", minimum = "-" .. MOST, maximum = MOST }
  local reply = operate(kind, p)
  if reply[1] == "0" then fail("overflow", p.key, "the numbers of scripts") end
  return tonumber(reply[3])
end
local function added_double(kind, p, delta)
  p.addition = { form = "n", delta = delta, initial = "0", minimum = "", maximum = "" }
  return operate(kind, p)[3]
end
local function expire_with(key, mode, value)
  return tonumber(operate("expire", { key = key, moment = { mode = mode, value = value } })[1])
end
local function ttl_in(key, unit)
  local entry = find(key)
  if not entry then return -2 end
  if entry.expires == INF then return -1 end
  return math.ceil((entry.expires - now) / unit)
end
local function first_text(reply, at)
  if reply[at] then return as_text(reply[at]) end
  return false
end
local function named_fields(key, names)
  local reply, found = operate("hashGet", { key = key, names = names }), {}
  for index = 4, #reply, 3 do found[reply[index]] = as_text(reply[index + 2]) end
  return found, reply
end
local function pushed(ending)
  return function(w)
    local values = {}
    for index = 2, #w do values[#values + 1] = text_value(w[index]) end
    return tonumber(operate("listPush", { key = w[1], ending = ending, values = values, maximum = 0 })[3])
  end
end
local function popped(ending)
  return function(w)
    local count = w[2] and math.max(0, integer(w[2])) or 1
    local reply = operate("listPop", { key = w[1], ending = ending, count = count })
    if not w[2] then return first_text(reply, 2) end
    local list = {}
    for index = 2, #reply do list[#list + 1] = as_text(reply[index]) end
    return list
  end
end
local function ranged(key, start, stop) return operate("listRange", { key = key, start = start, stop = stop, most = INF }) end
local function members_of(w, p)
  p.key, p.reverse, p.offset, p.limit = w[1], false, 0, 9007199254740991
  local with_scores, index = false, 4
  while index <= #w do
    local option = string.upper(w[index])
    if option == "REV" then p.reverse = true
    elseif option == "WITHSCORES" then with_scores = true
    elseif option == "LIMIT" then
      p.offset, p.limit = math.max(0, integer(w[index + 1])), math.max(0, integer(w[index + 2]))
      index = index + 2
    else argument("an option of this command") end
    index = index + 1
  end
  local reply, list = operate("sortedSetRange", p), {}
  for at = 4, #reply, 3 do
    list[#list + 1] = reply[at]
    if with_scores then list[#list + 1] = reply[at + 1] end
  end
  return list
end
local function bound(word)
  if word == "-inf" or word == "+inf" or word == "inf" then return word, false end
  if string.sub(word, 1, 1) == "(" then return double_text(number(string.sub(word, 2))), true end
  return double_text(number(word)), false
end
local function by_score(w)
  local low, low_exclusive = bound(w[2])
  local high, high_exclusive = bound(w[3])
  return { by = "score", low = low, high = high, low_exclusive = low_exclusive, high_exclusive = high_exclusive }
end
local CONDITIONS = { NX = "ifAbsent", XX = "ifPresent", GT = "ifGreater", LT = "ifLess" }
local TYPES = { value = "string", hash = "hash", list = "list", sortedSet = "zset" }

-- Each: the kind it needs, which arguments are keys, the least number of arguments, what it does.
local commands = {}
function commands.GET(w) return first_text(operate("get", { key = w[1] }), 1) end
function commands.SET(w)
  local p = { key = w[1], value = text_value(w[2]), condition = "always", tags = {} }
  local index = 3
  while index <= #w do
    local option = string.upper(w[index])
    if option == "NX" then p.condition = "ifAbsent"
    elseif option == "XX" then p.condition = "ifPresent"
    elseif option == "KEEPTTL" then p.keep = true
    elseif option == "EX" or option == "PX" then
      index = index + 1
      p.moment = { mode = "t", value = integer(w[index]) * (option == "EX" and 1000 or 1) }
    else argument("an option of SET") end
    index = index + 1
  end
  if operate("set", p)[1] == "1" then return OK end
  return false
end
function commands.DEL(w)
  local deleted = 0
  for _, key in ipairs(w) do deleted = deleted + tonumber(operate("delete", { key = key })[1]) end
  return deleted
end
function commands.EXISTS(w)
  local count = 0
  for _, key in ipairs(w) do if find(key) then count = count + 1 end end
  return count
end
function commands.TYPE(w)
  local entry = find(w[1])
  return { ok = entry and TYPES[entry.kind] or "none" }
end
function commands.INCR(w) return added("increment", { key = w[1] }, "1") end
function commands.DECR(w) return added("increment", { key = w[1] }, "-1") end
function commands.INCRBY(w) return added("increment", { key = w[1] }, whole(integer(w[2]))) end
function commands.DECRBY(w) return added("increment", { key = w[1] }, canonical(whole(-integer(w[2])))) end
function commands.INCRBYFLOAT(w) return added_double("increment", { key = w[1] }, double_text(number(w[2]))) end
function commands.EXPIRE(w) return expire_with(w[1], "t", integer(w[2]) * 1000) end
function commands.PEXPIRE(w) return expire_with(w[1], "t", integer(w[2])) end
function commands.PERSIST(w) return expire_with(w[1], "n", INF) end
function commands.TTL(w) return ttl_in(w[1], 1000) end
function commands.PTTL(w) return ttl_in(w[1], 1) end
function commands.TIME() return { whole(math.floor(now / 1000)), whole((now % 1000) * 1000) } end
function commands.HSET(w)
  if #w % 2 == 0 then argument("a pair of field and value") end
  local fields = {}
  for index = 2, #w, 2 do fields[#fields + 1] = { w[index], text_value(w[index + 1]) } end
  return tonumber(operate("hashSet", { key = w[1], fields = fields })[3])
end
function commands.HGET(w) return named_fields(w[1], { w[2] })[w[2]] or false end
function commands.HMGET(w)
  local found, list = named_fields(w[1], texts(w, 2)), {}
  for index = 2, #w do list[#list + 1] = found[w[index]] or false end
  return list
end
function commands.HGETALL(w)
  local _, reply = named_fields(w[1], {})
  local fields, list = {}, {}
  for index = 4, #reply, 3 do fields[#fields + 1] = { reply[index], tonumber(reply[index + 1]), reply[index + 2] } end
  table.sort(fields, function(left, right) return left[2] < right[2] end)
  for _, field in ipairs(fields) do
    list[#list + 1] = field[1]
    list[#list + 1] = as_text(field[3])
  end
  return list
end
function commands.HEXISTS(w) return named_fields(w[1], { w[2] })[w[2]] and 1 or 0 end
function commands.HLEN(w) return tonumber(operate("hashGet", { key = w[1], names = { "" } })[3] or 0) end
function commands.HDEL(w) return tonumber(operate("hashDelete", { key = w[1], names = texts(w, 2) })[1]) end
function commands.HINCRBY(w) return added("hashIncrement", { key = w[1], name = w[2] }, whole(integer(w[3]))) end
function commands.HINCRBYFLOAT(w) return added_double("hashIncrement", { key = w[1], name = w[2] }, double_text(number(w[3]))) end
commands.LPUSH, commands.RPUSH = pushed("head"), pushed("tail")
commands.LPOP, commands.RPOP = popped("head"), popped("tail")
function commands.LLEN(w) return tonumber(ranged(w[1], 0, 0)[3] or 0) end
function commands.LINDEX(w) return first_text(ranged(w[1], integer(w[2]), integer(w[2])), 4) end
function commands.LRANGE(w)
  local reply, list = ranged(w[1], integer(w[2]), integer(w[3])), {}
  for index = 4, #reply do list[#list + 1] = as_text(reply[index]) end
  return list
end
function commands.LTRIM(w)
  operate("listTrim", { key = w[1], start = integer(w[2]), stop = integer(w[3]) })
  return OK
end
function commands.ZADD(w)
  local condition = CONDITIONS[string.upper(w[2])]
  local from = condition and 3 or 2
  local count = #w - from + 1
  if count == 0 or count % 2 ~= 0 then argument("a pair of score and member") end
  local members = {}
  for index = from, #w, 2 do members[#members + 1] = { w[index + 1], number(w[index]) } end
  return tonumber(operate("sortedSetAdd", { key = w[1], members = members, condition = condition or "always" })[3])
end
function commands.ZREM(w) return tonumber(operate("sortedSetRemove", { key = w[1], members = texts(w, 2) })[1]) end
function commands.ZSCORE(w)
  local score = score_in(find_kind(w[1], "sortedSet"), w[1], w[2])
  return score and double_text(score) or false
end
function commands.ZRANK(w)
  return find_kind(w[1], "sortedSet") and redis.call("ZRANK", data_of[w[1]], w[2]) or false
end
function commands.ZCARD(w)
  return find_kind(w[1], "sortedSet") and redis.call("ZCARD", data_of[w[1]]) or 0
end
function commands.ZCOUNT(w)
  local p = by_score(w)
  if not find_kind(w[1], "sortedSet") then return 0 end
  local data = data_of[w[1]]
  return math.max(0, count_below(data, p.high, not p.high_exclusive) - count_below(data, p.low, p.low_exclusive))
end
function commands.ZINCRBY(w)
  return operate("sortedSetIncrement", { key = w[1], member = w[3], delta = number(w[2]) })[3]
end
function commands.ZRANGE(w) return members_of(w, { by = "rank", start = integer(w[2]), stop = integer(w[3]) }) end
function commands.ZRANGEBYSCORE(w) return members_of(w, by_score(w)) end

local RULES = {}
local function rules(kind, least, keys, list)
  for name in string.gmatch(list, "%u+") do RULES[name] = { kind, least, keys } end
end
rules("value", 1, "first", "GET INCR DECR")
rules("value", 2, "first", "SET INCRBY DECRBY INCRBYFLOAT")
rules("any", 1, "all", "DEL EXISTS")
rules("any", 1, "first", "TYPE PERSIST TTL PTTL")
rules("any", 2, "first", "EXPIRE PEXPIRE")
rules("any", 0, "none", "TIME")
rules("hash", 1, "first", "HGETALL HLEN")
rules("hash", 2, "first", "HGET HMGET HEXISTS HDEL")
rules("hash", 3, "first", "HSET HINCRBY HINCRBYFLOAT")
rules("list", 1, "first", "LPOP RPOP LLEN")
rules("list", 2, "first", "LPUSH RPUSH LINDEX")
rules("list", 3, "first", "LRANGE LTRIM")
rules("sortedSet", 1, "first", "ZCARD")
rules("sortedSet", 2, "first", "ZREM ZSCORE ZRANK")
rules("sortedSet", 3, "first", "ZADD ZCOUNT ZINCRBY ZRANGE ZRANGEBYSCORE")

local REASONS = { type = "WRONG_TYPE", limit = "LIMIT_EXCEEDED", overflow = "FAILED_PRECONDITION", argument = "INVALID_FIELD" }
local declared = {}
for _, key in ipairs(names) do declared[key] = true end
local function refusal(name, w)
  local rule = RULES[name]
  if not rule then return name .. " is not a command that scripts may call" end
  if #w < rule[2] then return name .. " needs more arguments" end
  for index, word in ipairs(w) do
    if #word > 1048576 then return "an argument is larger than 1 MiB" end
    if (rule[3] == "all" or (rule[3] == "first" and index == 1)) and not declared[word] then
      return 'key "' .. word .. '" is not declared in KEYS'
    end
  end
  if rule[1] ~= "any" and allowed_kind ~= "any" and allowed_kind ~= rule[1] then
    return "WRONG_TYPE: the namespace does not take this kind"
  end
end
local function words_of(...)
  local words = {}
  for index = 1, select("#", ...) do
    local word = select(index, ...)
    if type(word) == "number" then
      word = word == math.floor(word) and math.abs(word) < 9007199254740992 and whole(word) or string.format("%.17g", word)
    elseif type(word) ~= "string" then error("redis.call: arguments must be strings or numbers", 0) end
    words[index] = word
  end
  return words
end
local function call_command(...)
  local words = words_of(...)
  local name = string.upper(table.remove(words, 1) or "")
  local refused = refusal(name, words)
  if refused then return { err = refused } end
  local ok, result = pcall(commands[name], words)
  if ok then return result end
  if type(result) == "table" and not result.reason then result = result.err end
  -- What the server refuses, by its word, is not the script's fault, and ends it.
  if type(result) ~= "table" then error(string.find(result, "^%u+ ") and { server = result } or result, 0) end
  local told = result.reason == "argument" and result[1] or table.concat(result, " ")
  if result.reason == "overflow" then told = 'the sum under "' .. result[1] .. '" does not fit ' .. result[2] end
  return { err = (REASONS[result.reason] or "FAILED_PRECONDITION") .. ": " .. told }
end
local script_redis = {
  call = function(...)
    local result = call_command(...)
    if type(result) == "table" and result.err then error(result.err, 0) end
    return result
  end,
  pcall = call_command,
  error_reply = function(text) return { err = text } end,
  status_reply = function(text) return { ok = text } end,
}
`

/**
 * What runs before every script: it takes away what a script could hang, grow or escape with, and lends it `redis`.
 *
 * The hook counts instructions, and once it has said no it says so for good: `pcall` passes that failure on instead of catching it.
 * What the hook cannot see is gone: C functions whose time does not depend on how much memory there is (patterns, table.move,
 * rep of nothing), coroutines (they have hooks of their own), metatables (finalisers run without hooks), and everything that
 * reaches outside or loads code.
 */
export const LUA_PRELUDE = `
local host_call, host_time_up, max_instructions = ...
local raw_pcall, raw_rep, raw_type, raw_tostring = pcall, string.rep, type, tostring
local raw_error, raw_pairs, raw_select, raw_format = error, pairs, select, string.format
local raw_gsub, raw_find, raw_byte = string.gsub, string.find, string.byte
local raw_concat, raw_math_type = table.concat, math.type
local spent, stopped = 0, nil

debug.sethook(function()
  spent = spent + 1000
  if not stopped then
    if spent > max_instructions then stopped = "it ran more than " .. max_instructions .. " instructions"
    elseif host_time_up() then stopped = "it ran too long" end
  end
  if stopped then raw_error(stopped, 0) end
end, "", 1000)

local function passed_on(ok, ...)
  if stopped then raw_error(stopped, 0) end
  return ok, ...
end
function pcall(f, ...) return passed_on(raw_pcall(f, ...)) end

function string.rep(text, count, separator)
  if count > 1048576 then raw_error("string.rep: more than 1048576 times", 2) end
  return raw_rep(text, count, separator)
end
for _, name in raw_pairs({ "dump", "find", "match", "gmatch", "gsub", "pack", "packsize", "unpack" }) do
  string[name] = nil
end
table.move = nil
unpack = table.unpack
for _, name in raw_pairs({ "collectgarbage", "coroutine", "debug", "dofile", "getmetatable", "io", "load", "loadfile",
    "os", "package", "print", "rawequal", "rawget", "rawlen", "rawset", "require", "setmetatable", "warn", "xpcall",
    "_VERSION" }) do
  _G[name] = nil
end

local function answer(kind, value)
  if kind == "error" then return { err = value } end
  if kind == "status" then return { ok = value } end
  if kind == "nothing" then return false end
  return value
end
local function call(...)
  local arguments = {}
  for index = 1, raw_select("#", ...) do
    local argument = raw_select(index, ...)
    local kind = raw_type(argument)
    if kind == "number" then
      argument = raw_math_type(argument) == "integer" and raw_format("%d", argument) or raw_format("%.17g", argument)
    elseif kind ~= "string" then raw_error("redis.call: arguments must be strings or numbers", 3) end
    if raw_find(argument, "\\0", 1, true) then raw_error("redis.call: an argument contains a NUL", 3) end
    arguments[index] = argument
  end
  return answer(host_call(arguments))
end
redis = {
  call = function(...)
    local result = call(...)
    if raw_type(result) == "table" and result.err then raw_error(result.err, 2) end
    return result
  end,
  pcall = call,
  error_reply = function(text) return { err = text } end,
  status_reply = function(text) return { ok = text } end,
}

local escapes = { ['"'] = '\\\\"', ["\\\\"] = "\\\\\\\\" }
local function quote(text)
  return '"' .. raw_gsub(text, '[%c"\\\\]', function(character)
    return escapes[character] or raw_format("\\\\u%04x", raw_byte(character))
  end) .. '"'
end
local encode
local function encode_table(value, depth)
  if depth > 32 then raw_error("the result is nested more than 32 levels deep", 0) end
  if value.err then raw_error(raw_tostring(value.err), 0) end
  local parts, count = {}, 0
  for _ in raw_pairs(value) do count = count + 1 end
  if count == #value then
    for index = 1, count do parts[index] = encode(value[index], depth) end
    return "[" .. raw_concat(parts, ",") .. "]"
  end
  for key, item in raw_pairs(value) do
    parts[#parts + 1] = quote(raw_tostring(key)) .. ":" .. encode(item, depth)
  end
  return "{" .. raw_concat(parts, ",") .. "}"
end
function encode(value, depth)
  local kind = raw_type(value)
  if kind == "nil" then return "null" end
  if kind == "boolean" then return raw_tostring(value) end
  if kind == "string" then return quote(value) end
  if kind == "table" then return encode_table(value, depth + 1) end
  if kind ~= "number" then raw_error("the result contains a " .. kind, 0) end
  if raw_math_type(value) == "integer" then return raw_format("%d", value) end
  if value ~= value or value == math.huge or value == -math.huge then raw_error("the result contains a number that is not finite", 0) end
  return raw_format("%.17g", value)
end

return function(script)
  local ok, result = raw_pcall(script)
  if stopped then return false, stopped end
  if not ok then return false, raw_type(result) == "string" and result or "it raised an error that is not a text" end
  local encoded, text = raw_pcall(encode, result, 0)
  return encoded and not stopped, stopped or text
end
`

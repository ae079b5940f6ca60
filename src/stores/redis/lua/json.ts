/** Lua: a script's result as JSON, and running the script all or nothing. The script itself stands before everything, as user_script. */
export const RUN_SCRIPT = String.raw`
local ESCAPES = { ['"'] = '\\"', ["\\"] = "\\\\" }
local function quote(text)
  return '"' .. string.gsub(text, '[%c"\\]', function(character)
    return ESCAPES[character] or string.format("\\u%04x", string.byte(character))
  end) .. '"'
end
local encode
local function encode_table(value, depth)
  if depth > 32 then error("the result is nested more than 32 levels deep", 0) end
  if value.err then error(tostring(value.err), 0) end
  local parts, count = {}, 0
  for _ in pairs(value) do count = count + 1 end
  if count == #value then
    for index = 1, count do parts[index] = encode(value[index], depth) end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for key, item in pairs(value) do parts[#parts + 1] = quote(tostring(key)) .. ":" .. encode(item, depth) end
  return "{" .. table.concat(parts, ",") .. "}"
end
function encode(value, depth)
  local kind = type(value)
  if kind == "nil" then return "null" end
  if kind == "boolean" then return tostring(value) end
  if kind == "string" then return quote(value) end
  if kind == "table" then return encode_table(value, depth + 1) end
  if kind ~= "number" then error("the result contains a " .. kind, 0) end
  if value ~= value or math.abs(value) == INF then error("the result contains a number that is not finite", 0) end
  return double_text(value)
end

local known = replay()
if known then return known end
local arguments = take_list()
local keys = {}
for index, key in ipairs(names) do keys[index] = key end
atomic = true
local ok, result = pcall(function() return encode(user_script(keys, arguments, script_redis), 0) end)
if not ok then
  roll_back_data()
  if type(result) == "table" and result.server then error(result.server, 0) end
  if type(result) == "table" and type(result.err) == "string" then result = result.err end
  return { "script", type(result) == "string" and result or "it raised an error that is not a text" }
end
flush()
return remember({ "ok", result })
`

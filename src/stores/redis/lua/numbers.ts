/** Lua: values as they are stored, and exact sums. A stored value is its form, the length of its media type, `:`, both. */
export const NUMBERS = `
local INT64_MAX, INT64_MIN = "9223372036854775807", "-9223372036854775808"
local function parts_of(value)
  local form, length, rest = string.match(value, "^(%a)(%d+):()")
  local from = rest + tonumber(length)
  return form, string.sub(value, from)
end
local function valued(form, content) return form .. "0:" .. content end
local function double_text(number)
  for _, format in ipairs({ "%.15g", "%.16g", "%.17g" }) do
    local text = string.format(format, number)
    if tonumber(text) == number then return text end
  end
end

-- Whole numbers beyond 2^53 as decimal texts, since Lua's numbers are doubles.
local function canonical(text)
  local sign, digits = string.match(text, "^(%-?)0*(%d+)$")
  return digits == "0" and "0" or sign .. digits
end
local function is_less(left, right)
  local left_negative, right_negative = string.sub(left, 1, 1) == "-", string.sub(right, 1, 1) == "-"
  if left_negative ~= right_negative then return left_negative end
  local smaller
  if #left ~= #right then smaller = #left < #right else smaller = left < right end
  if left == right then return false end
  if left_negative then return not smaller end
  return smaller
end
local function in_int64(text) return not is_less(text, INT64_MIN) and not is_less(INT64_MAX, text) end
local function sum_of(left, right)
  if #left < 15 and #right < 15 then return canonical(whole(tonumber(left) + tonumber(right))) end
  redis.call("HSET", INFO, "x", left)
  local done = redis.pcall("HINCRBY", INFO, "x", right)
  local sum = redis.call("HGET", INFO, "x")
  redis.call("HDEL", INFO, "x")
  if type(done) == "table" and done.err then return nil end
  return sum
end
local function whole_in(name, value)
  local form, content = parts_of(value)
  if form == "i" then return content end
  if form == "t" and #content <= 20 and string.find(content, "^%-?%d+$") and #string.gsub(content, "%-", "") <= 19 then
    local number = canonical(content)
    if in_int64(number) then return number end
  end
  fail("type", name, form, "integer")
end
local DECIMALS = { "^[+-]?%d+%.?%d*$", "^[+-]?%.%d+$", "^[+-]?%d+%.?%d*[eE][+-]?%d+$", "^[+-]?%.%d+[eE][+-]?%d+$" }
local function double_in(name, value)
  local form, content = parts_of(value)
  if form == "n" or form == "i" then return tonumber(content) end
  if form == "t" then
    for _, pattern in ipairs(DECIMALS) do
      local number = string.find(content, pattern) and tonumber((string.gsub(content, "^%+", "")))
      if number and math.abs(number) < INF then return number end
    end
  end
  fail("type", name, form, "number")
end
local function add_whole(name, before, addition)
  local from = before and whole_in(name, before) or addition.initial
  local sum = sum_of(from, addition.delta)
  local low, high = addition.minimum, addition.maximum
  local negative = string.sub(addition.delta, 1, 1) == "-"
  if not sum then
    if (negative and low ~= "") or (not negative and high ~= "") then return "i", from, false end
    fail("overflow", name, "int64")
  end
  if (low ~= "" and is_less(sum, low)) or (high ~= "" and is_less(high, sum)) then return "i", from, false end
  return "i", sum, true
end
local function add_double(name, before, addition)
  local from = before and double_in(name, before) or tonumber(addition.initial)
  local sum = from + tonumber(addition.delta)
  local low, high = addition.minimum, addition.maximum
  if (low ~= "" and sum < tonumber(low)) or (high ~= "" and sum > tonumber(high)) then return "n", double_text(from), false end
  if sum ~= sum or math.abs(sum) == INF then fail("overflow", name, "a finite double") end
  return "n", double_text(sum), true
end
local function add(name, before, addition)
  if addition.form == "i" then return add_whole(name, before, addition) end
  return add_double(name, before, addition)
end
`

-- Single values given as text: what is wrong with them, in words, or nil. Shared by the body and the query parameters.

local byte, char, find, gmatch, gsub, lower, match, sub =
  string.byte, string.char, string.find, string.gmatch, string.gsub, string.lower, string.match, string.sub
local min = math.min

local values = {}

-- A name further away from what was written than this is no suggestion.
local MAX_DISTANCE = 2
-- Longer names are not compared: the cost grows with the square.
local MAX_COMPARED_LENGTH = 48

values.INT64 = { digits = 19, highest = "9223372036854775807", lowest = "9223372036854775808" }
values.INT32 = { digits = 10, highest = "2147483647", lowest = "2147483648" }

-- Whether the digits, without sign and leading zeros, stay within the bounds.
function values.is_in_range(digits, is_negative, bounds)
  if #digits ~= bounds.digits then return #digits < bounds.digits end
  -- Digits of the same number compare like text.
  return digits <= (is_negative and bounds.lowest or bounds.highest)
end

function values.out_of_range(bounds)
  return "must be from -" .. bounds.lowest .. " to " .. bounds.highest
end

function values.integer_problem(text, bounds)
  local sign, digits = match(text, "^(%-?)(%d+)$")
  if not digits or (byte(digits) == 48 and #digits > 1) then
    return "must be an integer, without point, exponent, leading zeros or spaces"
  end
  if not values.is_in_range(digits, sign == "-", bounds) then return values.out_of_range(bounds) end
  return nil
end

local DAYS_IN_MONTH = { 31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31 }

local function is_timestamp(text)
  local year, month, day, hour, minute, second, rest =
    match(text, "^(%d%d%d%d)%-(%d%d)%-(%d%d)T(%d%d):(%d%d):(%d%d)(.*)$")
  if not year then return false end
  year, month, day = tonumber(year), tonumber(month), tonumber(day)
  if year < 1 or month < 1 or month > 12 then return false end
  local is_leap_year = year % 4 == 0 and (year % 100 ~= 0 or year % 400 == 0)
  local days = (month == 2 and is_leap_year) and 29 or DAYS_IN_MONTH[month]
  if day < 1 or day > days then return false end
  if tonumber(hour) > 23 or tonumber(minute) > 59 or tonumber(second) > 59 then return false end

  local fraction, zone = match(rest, "^(%.?%d*)(.*)$")
  if fraction ~= "" and (byte(fraction) ~= 46 or #fraction < 2 or #fraction > 10) then return false end
  if zone == "Z" then return true end
  local offset_hour, offset_minute = match(zone, "^[+-](%d%d):(%d%d)$")
  return offset_hour ~= nil and tonumber(offset_hour) <= 23 and tonumber(offset_minute) <= 59
end

function values.timestamp_problem(text)
  if is_timestamp(text) then return nil end
  return "must be a time as in RFC 3339, such as 2026-01-31T12:00:00Z, with at most 9 decimals"
end

-- Of two names in any order: insertions, deletions, replacements and swaps of neighbours between them.
local function distance(a, b)
  local before, row = nil, {}
  for j = 0, #b do row[j] = j end
  for i = 1, #a do
    local above = row
    row = { [0] = i }
    for j = 1, #b do
      local is_same = byte(a, i) == byte(b, j)
      local cost = min(above[j] + 1, row[j - 1] + 1, above[j - 1] + (is_same and 0 or 1))
      if i > 1 and j > 1 and byte(a, i) == byte(b, j - 1) and byte(a, i - 1) == byte(b, j) then
        cost = min(cost, before[j - 2] + 1)
      end
      row[j] = cost
    end
    before = above
  end
  return row[#b]
end

-- `; did you mean …?` as an addition to a description, or an empty text. What was written is compared with each name and
-- with the beginnings of each name: `amout` is near to the beginning of amount_minor_units.
function values.suggestion(written, names)
  if #written > MAX_COMPARED_LENGTH then return "" end
  written = lower(written)
  local nearest, least = nil, MAX_DISTANCE + 1
  local function compare(candidate, name)
    -- A short name is near to everything: more than a third of it may not differ.
    if math.abs(#candidate - #written) > MAX_DISTANCE or #candidate < 3 then return end
    local steps = distance(written, lower(candidate))
    if steps < least and steps * 3 <= #candidate then nearest, least = name, steps end
  end
  -- A whole name goes before the beginning of one.
  for _, name in ipairs(names) do compare(name, name) end
  if not nearest then
    for _, name in ipairs(names) do
      for last in gmatch(name, "()_") do compare(sub(name, 1, last - 1), name) end
    end
  end
  return nearest and ("; did you mean " .. nearest .. "?") or ""
end

-- Cut to a length that a message can hold, never inside a UTF-8 sequence.
function values.excerpt(text, max_bytes)
  if #text <= max_bytes then return text end
  local last = max_bytes
  while last > 0 and byte(text, last + 1) >= 128 and byte(text, last + 1) < 192 do last = last - 1 end
  return sub(text, 1, last) .. "…"
end

-- The position of the first byte that is not UTF-8 (RFC 3629), or nil.
function values.find_invalid_utf8(text)
  local position, last = 1, #text
  while position <= last do
    local lead = byte(text, position)
    if lead < 128 then
      position = position + 1
    else
      -- How many bytes follow the first, and the bounds of the second: they rule out overlong forms and surrogates.
      local following, lowest, highest = 1, 128, 191
      if lead < 194 or lead > 244 then return position end
      if lead >= 240 then
        following = 3
        if lead == 240 then lowest = 144 elseif lead == 244 then highest = 143 end
      elseif lead >= 224 then
        following = 2
        if lead == 224 then lowest = 160 elseif lead == 237 then highest = 159 end
      end
      if position + following > last then return position end
      local second = byte(text, position + 1)
      if second < lowest or second > highest then return position end
      for offset = 2, following do
        local c = byte(text, position + offset)
        if c < 128 or c > 191 then return position end
      end
      position = position + following + 1
    end
  end
  return nil
end

-- What a piece of a URL means; nil when a `%` is not followed by two hexadecimal digits, or the bytes are not UTF-8.
function values.url_decoded(raw)
  local text = raw
  if find(raw, "%", 1, true) then
    if find(gsub(raw, "%%%x%x", ""), "%", 1, true) then return nil end
    text = gsub(raw, "%%(%x%x)", function(digits) return char(tonumber(digits, 16)) end)
  end
  if values.find_invalid_utf8(text) then return nil end
  return text
end

return values

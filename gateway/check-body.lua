-- Checks a JSON body against the request message of its RPC, before Envoy's transcoder sees it. The transcoder drops a
-- field that it does not know, and names no field when a value is wrong; here both are refused, with path and reason.
--
-- How it works: when Envoy starts, the shape of each request becomes a tree of checking functions. A checking function
-- takes the position where its value begins and returns the position after the value, or nil when it refused. The body
-- is read once, from front to back, and nothing is built from it. A refusal is noted in `problem`; on the way out each
-- level puts its own name before `problem.field`, so the path costs nothing while all is well.
--
-- It takes JSON as in RFC 8259 and, of Protobuf's JSON mapping, what one would write by hand: field names in snake_case
-- or lowerCamelCase; null for a field means "not given"; int64 and int32 as a number or a text of digits; enums by name;
-- times as text. Refused beyond that: a name twice in one object, two members of one oneof, 1.0 and 1e3 for integers.
--
-- Bounds: Envoy's buffer filter bounds the body; the contract bounds the depth (no message contains itself, and unknown
-- fields are refused, not skipped); every loop moves forward in the body. Pairs of a map: MAX_MAP_PAIRS.
--
-- Speed: LuaJIT compiles loops over `byte` (1 ns a byte) and `find` of a fixed text, but not `find` of a pattern (10 ns a
-- byte): patterns serve only short values and errors. In a body with neither backslash nor control character, the usual
-- one, a string ends at the next quote.

local bit = require("bit")
local band, bor = bit.band, bit.bor
local byte, char, find, match, sub = string.byte, string.char, string.find, string.match, string.sub

-- More pairs in one map than any contract allows: the services have their own, lower limits.
local MAX_MAP_PAIRS = 1000
-- Longer than any field name with each letter as an escape: such a name is unknown without decoding it.
local MAX_ESCAPED_NAME_BYTES = 512
-- Of a name that a message repeats.
local MAX_EXCERPT_BYTES = 64

local QUOTE, BACKSLASH, COMMA, COLON, MINUS = 34, 92, 44, 58, 45
local OPEN_BRACE, CLOSE_BRACE, OPEN_BRACKET, CLOSE_BRACKET = 123, 125, 91, 93
local ZERO, NINE, POINT, LOWER_E, UPPER_E, LOWER_N = 48, 57, 46, 101, 69, 110

-- The body under check. One worker runs one check at a time, and a check never yields.
local text = ""
-- No backslash and no control character in the body.
local is_plain = true
local problem

local function refuse(reason, description)
  problem = { reason = reason, field = "", description = description }
  return nil
end

-- Puts a name, or an index in brackets, before the path of the problem.
local function within(segment)
  local path = problem.field
  if path == "" then problem.field = segment
  elseif byte(path) == OPEN_BRACKET then problem.field = segment .. path
  else problem.field = segment .. "." .. path end
  return nil
end

local function broken(position, expected)
  if position > #text then return refuse("MALFORMED_JSON", "the JSON ends too early: expected " .. expected) end
  return refuse("MALFORMED_JSON", "not JSON at byte " .. position .. ": expected " .. expected)
end

-- Whether a body has neither backslash nor control character, and whether it is ASCII.
local function survey(body)
  local is_without_escapes, is_ascii = true, true
  for position = 1, #body do
    local c = byte(body, position)
    if c < 32 or c == BACKSLASH then is_without_escapes = false
    elseif c > 127 then is_ascii = false end
  end
  return is_without_escapes, is_ascii
end

local function skip_space(position)
  local c = byte(text, position)
  while c == 32 or c == 10 or c == 13 or c == 9 do
    position = position + 1
    c = byte(text, position)
  end
  return position, c
end

-- The value at the position is of another type than the field.
local function mistyped(position, expected)
  local c = byte(text, position)
  local found
  if c == QUOTE then found = "a string"
  elseif c == OPEN_BRACE then found = "an object"
  elseif c == OPEN_BRACKET then found = "an array"
  elseif c == MINUS or (c and c >= ZERO and c <= NINE) then found = "a number"
  elseif find(text, "^true", position) or find(text, "^false", position) then found = "true or false"
  elseif find(text, "^null", position) then found = "null"
  else return broken(position, expected) end
  return refuse("MALFORMED_REQUEST", "must be " .. expected .. ", not " .. found)
end

local ESCAPES = { [34] = '"', [92] = "\\", [47] = "/", [98] = "\b", [102] = "\f", [110] = "\n", [114] = "\r", [116] = "\t" }

-- The position of the quote that ends the text whose content begins at the position.
local function find_closing_quote(position)
  if is_plain then return find(text, '"', position, true) or broken(#text + 1, "a closing quote") end
  while true do
    local c = byte(text, position)
    while c and c >= 32 and c ~= QUOTE and c ~= BACKSLASH do
      position = position + 1
      c = byte(text, position)
    end
    if c == QUOTE then return position end
    if not c then return broken(position, "a closing quote") end
    if c ~= BACKSLASH then return broken(position, "no bare control character in a string") end
    local escape = byte(text, position + 1)
    if ESCAPES[escape] then
      position = position + 2
    else
      local unit = match(text, "^u(%x%x%x%x)", position + 1)
      if not unit then return broken(position, "an escape of JSON") end
      position = position + 6
      -- A character beyond 16 bits is two units, high then low; neither may stand alone.
      if find(unit, "^[dD][89abAB]") then
        if not find(text, "^\\u[dD][c-fC-F]%x%x", position) then return broken(position, "a low surrogate") end
        position = position + 6
      elseif find(unit, "^[dD]") and find(unit, "^.[c-fC-F]") then
        return broken(position - 6, "a high surrogate before a low one")
      end
    end
  end
end

local function utf8(code)
  if code < 0x80 then return char(code) end
  if code < 0x800 then return char(0xC0 + math.floor(code / 0x40), 0x80 + code % 0x40) end
  if code < 0x10000 then
    return char(0xE0 + math.floor(code / 0x1000), 0x80 + math.floor(code / 0x40) % 0x40, 0x80 + code % 0x40)
  end
  return char(
    0xF0 + math.floor(code / 0x40000),
    0x80 + math.floor(code / 0x1000) % 0x40,
    0x80 + math.floor(code / 0x40) % 0x40,
    0x80 + code % 0x40
  )
end

-- The text between two quotes, escapes resolved; find_closing_quote has found it well-formed.
local function decoded(first, last)
  local raw = sub(text, first, last)
  if is_plain or not find(raw, "\\", 1, true) then return raw end
  local function pair(high, low)
    return utf8(0x10000 + (tonumber(high, 16) - 0xD800) * 0x400 + (tonumber(low, 16) - 0xDC00))
  end
  local parts, position = {}, 1
  while position <= #raw do
    local escape = find(raw, "\\", position, true)
    if not escape then break end
    parts[#parts + 1] = sub(raw, position, escape - 1)
    local simple = ESCAPES[byte(raw, escape + 1)]
    local high, low = match(raw, "^\\u([dD][89abAB]%x%x)\\u(%x%x%x%x)", escape)
    if simple then
      parts[#parts + 1] = simple
      position = escape + 2
    elseif high then
      parts[#parts + 1] = pair(high, low)
      position = escape + 12
    else
      parts[#parts + 1] = utf8(tonumber(sub(raw, escape + 2, escape + 5), 16))
      position = escape + 6
    end
  end
  parts[#parts + 1] = sub(raw, position)
  return table.concat(parts)
end

return function(values, contract)
  local shape_check

  local function check_string(position)
    if byte(text, position) ~= QUOTE then return mistyped(position, "a string") end
    local closing = find_closing_quote(position + 1)
    return closing and closing + 1
  end

  local function check_bool(position)
    if sub(text, position, position + 3) == "true" then return position + 4 end
    if sub(text, position, position + 4) == "false" then return position + 5 end
    return mistyped(position, "true or false")
  end

  -- A text of which `problem_of` says what is wrong.
  local function text_check(expected, problem_of)
    return function(position)
      if byte(text, position) ~= QUOTE then return mistyped(position, expected) end
      local closing = find_closing_quote(position + 1)
      if not closing then return nil end
      local description = problem_of(decoded(position + 1, closing - 1))
      if description then return refuse("MALFORMED_REQUEST", description) end
      return closing + 1
    end
  end

  local function integer_check(bounds)
    local check_digits = text_check("an integer", function(digits) return values.integer_problem(digits, bounds) end)

    return function(position)
      local c = byte(text, position)
      if c == QUOTE then return check_digits(position) end
      local is_negative = c == MINUS
      local first = is_negative and position + 1 or position
      local after = first
      c = byte(text, after)
      while c and c >= ZERO and c <= NINE do
        after = after + 1
        c = byte(text, after)
      end
      if after == first then
        if is_negative then return broken(first, "a digit") end
        return mistyped(position, "an integer")
      end
      if after - first > 1 and byte(text, first) == ZERO then return broken(first, "no leading zero") end
      if c == POINT or c == LOWER_E or c == UPPER_E then
        return refuse("MALFORMED_REQUEST", "must be an integer, without point or exponent")
      end
      -- Short enough to fit whatever the digits are.
      if after - first >= bounds.digits and not values.is_in_range(sub(text, first, after - 1), is_negative, bounds) then
        return refuse("MALFORMED_REQUEST", values.out_of_range(bounds))
      end
      return after
    end
  end

  local function enum_check(names)
    local is_known, offered = {}, {}
    for _, name in ipairs(names) do
      is_known[name] = true
      -- The zero value stands for "not given": it is JSON's to write, but no choice to offer.
      if not find(name, "_UNSPECIFIED$") then offered[#offered + 1] = name end
    end
    local choices = "one of " .. table.concat(offered, ", ")
    return text_check(choices, function(name)
      if is_known[name] then return nil end
      return "must be " .. choices .. values.suggestion(name, offered)
    end)
  end

  local function list_check(check_element)
    return function(position)
      if byte(text, position) ~= OPEN_BRACKET then return mistyped(position, "an array") end
      local c
      position, c = skip_space(position + 1)
      if c == CLOSE_BRACKET then return position + 1 end
      local index = 0
      while true do
        local after = check_element(position)
        if not after then return within("[" .. index .. "]") end
        position, c = skip_space(after)
        if c == CLOSE_BRACKET then return position + 1 end
        if c ~= COMMA then return broken(position, "a comma or the end of the array") end
        position = skip_space(position + 1)
        index = index + 1
      end
    end
  end

  local function check_string_map(position)
    if byte(text, position) ~= OPEN_BRACE then return mistyped(position, "an object") end
    local c
    position, c = skip_space(position + 1)
    if c == CLOSE_BRACE then return position + 1 end
    local seen = {}
    for _ = 1, MAX_MAP_PAIRS do
      if c ~= QUOTE then return broken(position, "a name in quotes") end
      local closing = find_closing_quote(position + 1)
      if not closing then return nil end
      local key = decoded(position + 1, closing - 1)
      if seen[key] then
        refuse("DUPLICATE_FIELD", "is given twice")
        return within(values.excerpt(key, MAX_EXCERPT_BYTES))
      end
      seen[key] = true
      -- The services' objects have no room for it: it would vanish.
      if key == "__proto__" then
        refuse("MALFORMED_REQUEST", "is no name that a pair may have")
        return within(key)
      end
      position, c = skip_space(closing + 1)
      if c ~= COLON then return broken(position, "a colon") end
      local after = check_string((skip_space(position + 1)))
      if not after then return within(values.excerpt(key, MAX_EXCERPT_BYTES)) end
      position, c = skip_space(after)
      if c == CLOSE_BRACE then return position + 1 end
      if c ~= COMMA then return broken(position, "a comma or the end of the object") end
      position, c = skip_space(position + 1)
    end
    return refuse("MALFORMED_REQUEST", "has more than " .. MAX_MAP_PAIRS .. " pairs")
  end

  local function message_check(fields)
    local by_name, names = {}, {}
    for _, field in ipairs(fields) do
      local entry = {
        name = field.name,
        bit = field.bit,
        oneof_bits = field.oneof_bits,
        check = shape_check(field.shape),
      }
      by_name[field.name] = entry
      by_name[field.json_name] = entry
      names[#names + 1] = field.name
    end

    local function refuse_field(name, reason, description)
      refuse(reason, description)
      return within(name)
    end

    return function(position)
      if byte(text, position) ~= OPEN_BRACE then return mistyped(position, "an object") end
      local c
      position, c = skip_space(position + 1)
      if c == CLOSE_BRACE then return position + 1 end
      -- Bits of the fields so far, and of those among them that were not null.
      local seen, given = 0, 0
      while true do
        if c ~= QUOTE then return broken(position, "a field name in quotes") end
        local closing = find_closing_quote(position + 1)
        if not closing then return nil end
        local field = by_name[sub(text, position + 1, closing - 1)]
        if not field then
          local is_too_long = closing - position > MAX_ESCAPED_NAME_BYTES
          local name = is_too_long and sub(text, position + 1, closing - 1) or decoded(position + 1, closing - 1)
          field = by_name[name]
          if not field then
            local written = values.excerpt(name, MAX_EXCERPT_BYTES)
            return refuse_field(written, "UNKNOWN_FIELD", "there is no such field" .. values.suggestion(name, names))
          end
        end
        if band(seen, field.bit) ~= 0 then return refuse_field(field.name, "DUPLICATE_FIELD", "is given twice") end
        seen = bor(seen, field.bit)

        position, c = skip_space(closing + 1)
        if c ~= COLON then return broken(position, "a colon") end
        position, c = skip_space(position + 1)
        if c == LOWER_N and sub(text, position, position + 3) == "null" then
          position, c = skip_space(position + 4)
        else
          if band(given, field.oneof_bits) ~= 0 then
            return refuse_field(field.name, "MALFORMED_REQUEST", "excludes another field that is given as well")
          end
          given = bor(given, field.bit)
          local after = field.check(position)
          if not after then return within(field.name) end
          position, c = skip_space(after)
        end

        if c == CLOSE_BRACE then return position + 1 end
        if c ~= COMMA then return broken(position, "a comma or the end of the object") end
        position, c = skip_space(position + 1)
      end
    end
  end

  local checks_by_kind = {
    string = function() return check_string end,
    bool = function() return check_bool end,
    int32 = function() return integer_check(values.INT32) end,
    int64 = function() return integer_check(values.INT64) end,
    timestamp = function() return text_check("a time as a string", values.timestamp_problem) end,
    string_map = function() return check_string_map end,
    enum = function(shape) return enum_check(contract.enums[shape.type]) end,
    list = function(shape) return list_check(shape_check(shape.element)) end,
    message = function(shape) return message_check(contract.messages[shape.type]) end,
  }

  function shape_check(shape)
    return checks_by_kind[shape.kind](shape)
  end

  local checks_by_rpc = {}
  for rpc, fields in pairs(contract.bodies) do checks_by_rpc[rpc] = message_check(fields) end

  -- What is wrong with a body: { reason, field, description }, the field empty when the body as a whole is meant; or
  -- nil. The problem is the first from the front.
  return function(rpc, body)
    text, problem = body, nil
    local is_ascii
    is_plain, is_ascii = survey(body)
    local invalid = not is_ascii and values.find_invalid_utf8(body)
    if invalid then
      broken(invalid, "UTF-8")
    else
      local position = skip_space(1)
      local after = checks_by_rpc[rpc](position)
      if after then
        position = skip_space(after)
        if position <= #body then broken(position, "nothing after the object") end
      end
    end
    text = ""
    return problem
  end
end

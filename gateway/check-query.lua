-- Checks the query parameters of a request without a body, in the way of check-body.lua: unknown, repeated and malformed
-- parameters are refused by name. A parameter is a field of the request, in snake_case or lowerCamelCase; `+` is a space.

local find, gsub, sub = string.find, string.gsub, string.sub

-- More parameters than any query has.
local MAX_PARAMETERS = 100
local MAX_EXCERPT_BYTES = 64

local function problem(reason, field, description)
  return { reason = reason, field = field, description = description }
end

return function(values, contract)
  local function decoded(raw)
    return values.url_decoded((gsub(raw, "+", " ")))
  end

  local function enum_problem_of(names)
    local is_known = {}
    for _, name in ipairs(names) do is_known[name] = true end
    return function(text)
      if is_known[text] then return nil end
      return "must be one of " .. table.concat(names, ", ") .. values.suggestion(text, names)
    end
  end

  local problems_by_kind = {
    string = function() return function() return nil end end,
    bool = function()
      return function(text)
        if text == "true" or text == "false" then return nil end
        return "must be true or false"
      end
    end,
    int32 = function() return function(text) return values.integer_problem(text, values.INT32) end end,
    int64 = function() return function(text) return values.integer_problem(text, values.INT64) end end,
    timestamp = function() return values.timestamp_problem end,
    enum = function(shape) return enum_problem_of(contract.enums[shape.type]) end,
  }

  local parameters_by_rpc = {}
  for rpc, fields in pairs(contract.queries) do
    local by_name, names = {}, {}
    for _, field in ipairs(fields) do
      local entry = { name = field.name, problem_of = problems_by_kind[field.shape.kind](field.shape) }
      by_name[field.name] = entry
      by_name[field.json_name] = entry
      names[#names + 1] = field.name
    end
    parameters_by_rpc[rpc] = { by_name = by_name, names = names }
  end

  -- What is wrong with a query (the text after `?`): { reason, field, description }, or nil.
  return function(rpc, query)
    local parameters = parameters_by_rpc[rpc]
    local by_name = parameters and parameters.by_name or {}
    local names = parameters and parameters.names or {}
    local seen = {}
    local position = 1
    for _ = 1, MAX_PARAMETERS do
      if position > #query then return nil end
      local separator = find(query, "&", position, true) or (#query + 1)
      local equals = find(query, "=", position, true)
      if not equals or equals > separator then equals = separator end
      local name = decoded(sub(query, position, equals - 1))
      if not name then return problem("MALFORMED_REQUEST", "", "the query has a name that is not URL-encoded UTF-8") end

      -- Nothing between two `&` is nothing.
      if separator > position then
        local parameter = by_name[name]
        if not parameter then
          local written = values.excerpt(name, MAX_EXCERPT_BYTES)
          local description = "there is no such query parameter" .. values.suggestion(name, names)
          return problem("UNKNOWN_FIELD", written, description)
        end
        if seen[parameter] then return problem("DUPLICATE_FIELD", parameter.name, "is given twice") end
        seen[parameter] = true
        local value = decoded(sub(query, equals + 1, separator - 1))
        if not value then return problem("MALFORMED_REQUEST", parameter.name, "must be URL-encoded UTF-8") end
        local description = parameter.problem_of(value)
        if description then return problem("MALFORMED_REQUEST", parameter.name, description) end
      end
      position = separator + 1
    end
    return problem("MALFORMED_REQUEST", "", "the query has more than " .. MAX_PARAMETERS .. " parameters")
  end
end

-- What Envoy calls for every request and answer of a listed RPC. The route's metadata says which RPC it is.

local byte, find, format, gsub, lower, match, sub =
  string.byte, string.find, string.format, string.gsub, string.lower, string.match, string.sub

local INVALID_ARGUMENT = 3

local ESCAPED = { ['"'] = '\\"', ["\\"] = "\\\\" }

local function quoted(text)
  return '"' .. gsub(text, '[%z\1-\31"\\]', function(c) return ESCAPED[c] or format("\\u%04x", byte(c)) end) .. '"'
end

local function error_body(code, reason, message, field, description)
  local details = '{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":' .. quoted(reason)
    .. ',"domain":"ledgermesh","metadata":{}}'
  if field and field ~= "" then
    details = details .. ',{"@type":"type.googleapis.com/google.rpc.BadRequest","field_violations":[{"field":'
      .. quoted(field) .. ',"description":' .. quoted(description) .. ',"reason":' .. quoted(reason) .. "}]}"
  end
  return '{"code":' .. code .. ',"message":' .. quoted(message) .. ',"details":[' .. details .. "]}"
end

local function answer(handle, http_status, reason, message, field, description)
  handle:respond(
    { [":status"] = http_status, ["content-type"] = "application/json" },
    error_body(INVALID_ARGUMENT, reason, message, field, description)
  )
end

local function answer_problem(handle, problem)
  local message = problem.description
  if problem.field ~= "" then message = problem.field .. ": " .. message end
  answer(handle, "400", problem.reason, message, problem.field, problem.description)
end

local function is_json(content_type)
  if content_type == "application/json" then return true end
  local media_type, parameters = match(lower(content_type), "^%s*([^;%s]+)%s*(.*)$")
  return media_type == "application/json" and (parameters == "" or find(parameters, '^;%s*charset="?utf%-8"?%s*$') ~= nil)
end

return function(check_body, check_query)
  local function on_request(handle)
    local metadata = handle:metadata()
    local rpc, has_body = metadata:get("rpc"), metadata:get("has_body")
    -- No listed RPC: the route answers by itself.
    if not rpc then return end
    local headers = handle:headers()

    local path = headers:get(":path")
    local question_mark = find(path, "?", 1, true)
    if question_mark and question_mark < #path then
      local problem = check_query(rpc, sub(path, question_mark + 1))
      if problem then return answer_problem(handle, problem) end
    end
    if not has_body then return end

    -- Waiting for the body ends the life of all handles but `handle`, so everything is read before.
    local content_type = headers:get("content-type")
    local content_encoding = headers:get("content-encoding")
    local body = handle:body()
    if not body or body:length() == 0 then
      return answer(handle, "400", "MALFORMED_JSON", "a JSON object is required as the body")
    end
    if not content_type or not is_json(content_type) then
      return answer(handle, "415", "UNSUPPORTED_MEDIA_TYPE", "the body must have the content type application/json")
    end
    if content_encoding then
      return answer(handle, "415", "UNSUPPORTED_MEDIA_TYPE", "the body must not be compressed")
    end
    local problem = check_body(rpc, body:getBytes(0, body:length()))
    if problem then return answer_problem(handle, problem) end
  end

  return on_request
end

-- What Envoy calls for each request and each answer. The metadata of the route say which RPC it leads to.

local byte, find, format, gsub, lower, match, sub =
  string.byte, string.find, string.format, string.gsub, string.lower, string.match, string.sub

-- What each google.rpc.Code is as a reason, for answers that come without one.
local REASONS = {
  [1] = "CANCELLED",
  [2] = "UNKNOWN",
  [3] = "INVALID_ARGUMENT",
  [4] = "DEADLINE_EXCEEDED",
  [5] = "NOT_FOUND",
  [6] = "ALREADY_EXISTS",
  [7] = "PERMISSION_DENIED",
  [8] = "RESOURCE_EXHAUSTED",
  [9] = "FAILED_PRECONDITION",
  [10] = "ABORTED",
  [11] = "OUT_OF_RANGE",
  [12] = "UNIMPLEMENTED",
  [13] = "INTERNAL",
  [14] = "UNAVAILABLE",
  [15] = "DATA_LOSS",
  [16] = "UNAUTHENTICATED",
}
local INVALID_ARGUMENT, NOT_FOUND, INTERNAL = 3, 5, 13

-- The first byte of 4xx.
local FOUR = 52

-- Sent with 429 and 503 when the service does not say how long to wait.
local DEFAULT_RETRY_AFTER_SECONDS = 1

local ESCAPED = { ['"'] = '\\"', ["\\"] = "\\\\" }

local function quoted(text)
  return '"' .. gsub(text, '[%z\1-\31"\\]', function(c) return ESCAPED[c] or format("\\u%04x", byte(c)) end) .. '"'
end

local function error_info(reason)
  return '{"@type":"type.googleapis.com/google.rpc.ErrorInfo","reason":"' .. reason
    .. '","domain":"ledgermesh","metadata":{}}'
end

local function bad_request(problem)
  return '{"@type":"type.googleapis.com/google.rpc.BadRequest","field_violations":[{"field":' .. quoted(problem.field)
    .. ',"description":' .. quoted(problem.description) .. ',"reason":"' .. problem.reason .. '"}]}'
end

-- google.rpc.Status as JSON, as the services answer. `problem`: { reason, description }, perhaps with a field.
local function error_body(code, problem)
  local has_field = problem.field ~= nil and problem.field ~= ""
  local message = has_field and (problem.field .. ": " .. problem.description) or problem.description
  local details = error_info(problem.reason) .. (has_field and ("," .. bad_request(problem)) or "")
  return '{"code":' .. code .. ',"message":' .. quoted(message) .. ',"details":[' .. details .. "]}"
end

local function refuse(handle, http_status, code, problem)
  -- Marks the answer as written here: local-replies.ts must not wrap it once more.
  handle:streamInfo():dynamicMetadata():set("ledgermesh.gateway", "is_refusal", true)
  handle:respond({ [":status"] = http_status, ["content-type"] = "application/json" }, error_body(code, problem))
end

local function malformed(handle, description)
  refuse(handle, "400", INVALID_ARGUMENT, { reason = "MALFORMED_REQUEST", description = description })
end

local function unsupported(handle, description)
  refuse(handle, "415", INVALID_ARGUMENT, { reason = "UNSUPPORTED_MEDIA_TYPE", description = description })
end

local NO_GRPC = { reason = "ROUTE_NOT_FOUND", description = "gRPC is not offered here, only JSON" }

local NOT_PRINTABLE_KEY = {
  reason = "IDEMPOTENCY_KEY_MALFORMED",
  description = "must be 1 to 128 printable ASCII characters without spaces",
  field = "idempotency_key",
}

-- Headers that decide something: given twice, each reader might take another one.
local SINGLE_HEADERS = { "idempotency-key", "x-read-after", "content-encoding" }
-- Spellings of them that would be passed over silently.
local MISSPELT_HEADERS = { ["idempotency_key"] = "Idempotency-Key", ["x_read_after"] = "x-read-after" }

-- What is wrong with the headers of a request, in words, or nil.
local function header_problem(headers)
  for i = 1, #SINGLE_HEADERS do
    local name = SINGLE_HEADERS[i]
    if headers:getNumValues(name) > 1 then return "the header " .. name .. " is given twice" end
  end
  for misspelt, name in pairs(MISSPELT_HEADERS) do
    if headers:get(misspelt) then return "there is no header " .. misspelt .. "; did you mean " .. name .. "?" end
  end
  -- Envoy joins several Host headers.
  if find(headers:get(":authority") or "", ",", 1, true) then return "the header Host is given twice" end
  return nil
end

local function is_grpc(content_type)
  return content_type ~= "application/json" and find(lower(content_type), "application/grpc", 1, true) ~= nil
end

local function is_json(content_type)
  if content_type == "application/json" then return true end
  local media_type, parameters = match(lower(content_type), "^%s*([^;%s]+)%s*(.-)%s*$")
  return media_type == "application/json" and (parameters == "" or find(parameters, '^;%s*charset="?utf%-8"?$') ~= nil)
end

return function(values, check_body, check_query)
  -- An error in a check must not let the request through, as Envoy would: it is refused, and logged.
  local function run(handle, check, rpc, text)
    local is_done, problem = pcall(check, rpc, text)
    if is_done and not problem then return true end
    if is_done then
      refuse(handle, "400", INVALID_ARGUMENT, problem)
    else
      handle:logErr("a check failed on a request of " .. rpc .. ": " .. tostring(problem))
      refuse(handle, "500", INTERNAL, { reason = "INTERNAL", description = "something failed in the gateway" })
    end
    return false
  end

  function envoy_on_request(handle)
    local headers = handle:headers()
    local content_type = headers:get("content-type")
    -- The transcoder lets gRPC through as it is; from outside there is none.
    if content_type and is_grpc(content_type) then return refuse(handle, "404", NOT_FOUND, NO_GRPC) end

    local metadata = handle:metadata()
    local rpc, has_body = metadata:get("rpc"), metadata:get("has_body")
    -- No RPC: the route answers by itself.
    if not rpc then return end

    local description = header_problem(headers)
    if description then return malformed(handle, description) end

    -- gRPC would drop what is not printable ASCII, as if the header were not there.
    local key, read_after = headers:get("idempotency-key"), headers:get("x-read-after")
    if key and find(key, "[^ -~]") then
      return refuse(handle, "400", INVALID_ARGUMENT, NOT_PRINTABLE_KEY)
    end
    if read_after and find(read_after, "[^ -~]") then
      return malformed(handle, "the header x-read-after is not the x-ledger-position of an answer of the ledger")
    end

    local path = headers:get(":path")
    local content_encoding = headers:get("content-encoding")
    local question_mark = find(path, "?", 1, true)
    local before_query = question_mark and sub(path, 1, question_mark - 1) or path
    if find(before_query, "%", 1, true) and not values.url_decoded(before_query) then
      return malformed(handle, "the path must be URL-encoded UTF-8")
    end
    if question_mark and not run(handle, check_query, rpc, sub(path, question_mark + 1)) then return end

    -- Waits for the body; what was got from `handle` before is not valid after it.
    local body = handle:body()
    local length = body and body:length() or 0
    if not has_body then
      if length > 0 then malformed(handle, "this request takes no body") end
      return
    end
    if length == 0 then return malformed(handle, "a JSON object is required as the body") end
    if not content_type or not is_json(content_type) then
      return unsupported(handle, "the body must have the content type application/json")
    end
    if content_encoding then return unsupported(handle, "the body must come without content encoding") end
    run(handle, check_body, rpc, body:getBytes(0, length))
  end

  -- Completes errors: each has a reason, and what may be tried again says when.
  function envoy_on_response(handle)
    local headers = handle:headers()
    local status = headers:get(":status")
    if byte(status) < FOUR then
      -- To a request that claims to be gRPC, Envoy's own answers are too, whatever envoy_on_request said.
      local content_type = headers:get("content-type")
      if content_type and is_grpc(content_type) then
        headers:replace(":status", "404")
        headers:replace("content-type", "application/json")
        local length = handle:body(true):setBytes(error_body(NOT_FOUND, NO_GRPC))
        handle:headers():replace("content-length", tostring(length))
      end
      return
    end
    -- RFC 9110: a 401 says what would be accepted. Envoy's own have it already.
    if status == "401" and not headers:get("www-authenticate") then
      headers:add("www-authenticate", 'Bearer realm="ledgermesh"')
    end
    local body = handle:body()
    if not body then return end
    local text = body:getBytes(0, body:length())

    if (status == "503" or status == "429") and not handle:headers():get("retry-after") then
      local delay = match(text, '"retry_delay":"([%d.]+)s"')
      local seconds = delay and math.max(1, math.ceil(tonumber(delay))) or DEFAULT_RETRY_AFTER_SECONDS
      handle:headers():replace("retry-after", tostring(seconds))
    end

    local code = match(text, '^{"code":(%d+),')
    local first, last = find(text, ',"details":[]}', 1, true)
    if code and last == #text then
      local reason = REASONS[tonumber(code)] or "UNKNOWN"
      local length = handle:body():setBytes(sub(text, 1, first - 1) .. ',"details":[' .. error_info(reason) .. "]}")
      handle:headers():replace("content-length", tostring(length))
    end
  end
end

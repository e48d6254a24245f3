-- What the plugins change in each request: one copy of this filter is before them, and one after them.
-- FIRST, which is set above, says which one this is. The access log has the fields of LOGGED.
local SEEN, LOGGED = "scaffold.seen", "scaffold"
local MOST_LINES, LONGEST_NAME, LONGEST_LINE = 40, 100, 200
-- In the names of headers whose values nobody should find in a log.
local SECRETS = {
  "authorization", "authentication", "x%-auth", "cookie", "session", "token", "jwt", "secret", "passw",
  "credential", "signature", "csrf", "xsrf", "api[-_]?key", "access[-_]?key", "[-_]key$",
}

local function escaped(text)
  return (text:gsub("[^\32-\36\38-\126]", function(byte) return string.format("%%%02X", byte:byte()) end))
end

-- Headers as text, a "name: value" each.
local function snapshot(headers)
  local lines = {}
  for name, value in pairs(headers) do
    lines[#lines + 1] = name .. ": " .. value:gsub("\n", " ")
  end
  return table.concat(lines, "\n")
end

-- A line as it may be logged: short, in ASCII, and without a secret.
local function shown(line)
  local name, value = line:match("^(.-): (.*)$")
  if not name then
    name, value = line, ""
  end
  local is_secret = value:find("^[Bb]earer ") or value:find("^[Bb]asic ")
  for _, secret in ipairs(SECRETS) do
    is_secret = is_secret or name:lower():find(secret)
  end
  if is_secret then
    value = "(" .. #value .. " bytes)"
  end
  name = name:sub(1, LONGEST_NAME)
  if #value > LONGEST_LINE then
    value = value:sub(1, LONGEST_LINE) .. "... (" .. #value - LONGEST_LINE .. " bytes more)"
  end
  return escaped(name .. ": " .. value)
end

-- What differs between two snapshots: lines that begin with "-" or "+".
local function difference(before, after)
  if before == after then
    return ""
  end
  local counts, lines, left_out = {}, {}, 0
  for line in before:gmatch("[^\n]+") do
    counts[line] = (counts[line] or 0) + 1
  end
  local function add(sign, line)
    if #lines < MOST_LINES then
      lines[#lines + 1] = sign .. shown(line)
    else
      left_out = left_out + 1
    end
  end
  for line in after:gmatch("[^\n]+") do
    local count = counts[line] or 0
    if count > 0 then
      counts[line] = count - 1
    else
      add("+", line)
    end
  end
  for line in before:gmatch("[^\n]+") do
    if counts[line] > 0 then
      counts[line] = counts[line] - 1
      add("-", line)
    end
  end
  if left_out > 0 then
    lines[#lines + 1] = "?" .. left_out
  end
  return table.concat(lines, "\n")
end

-- Headers of a message before the plugins, or after them; after them, also what they changed.
local function headers_seen(handle, name, is_before)
  local metadata = handle:streamInfo():dynamicMetadata()
  local now = snapshot(handle:headers())
  if is_before then
    metadata:set(SEEN, name, now)
    return
  end
  local seen = metadata:get(SEEN)
  if seen and seen[name] then
    metadata:set(LOGGED, name, difference(seen[name], now))
  end
end

-- The size of a body at the side of the upstream; Envoy itself knows it at the side of the client.
local function count_body(handle, name)
  local size = 0
  for chunk in handle:bodyChunks() do
    size = size + chunk:length()
  end
  handle:streamInfo():dynamicMetadata():set(LOGGED, name, size)
end

function envoy_on_request(handle)
  if not FIRST then
    handle:streamInfo():dynamicMetadata():set(LOGGED, "passed", true)
  end
  headers_seen(handle, "request", FIRST)
  if not FIRST then
    count_body(handle, "request_body")
  end
end

function envoy_on_response(handle)
  headers_seen(handle, "response", not FIRST)
  if not FIRST then
    count_body(handle, "response_body")
  end
end

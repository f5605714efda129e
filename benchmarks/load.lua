-- wrk, one thread: POST the same body for some seconds, each time with a fresh Idempotency-Key; then send no more, so
-- that every request is answered before wrk stops. Arguments: seconds, a file with the body, the API key, a word that
-- no other run has.
local ffi = require("ffi")
ffi.cdef([[
  typedef struct { long s; long ns; } moment;
  int clock_gettime(int clock, moment *at);
]])
local MONOTONIC = ffi.os == "OSX" and 6 or 1
local NEVER = 3600000 -- ms
local at = ffi.new("moment[1]")
local threads, headers = {}, { ["Content-Type"] = "application/json" }
local seconds, word
local sent = 0

local function now()
  ffi.C.clock_gettime(MONOTONIC, at)
  return tonumber(at[0].s) + tonumber(at[0].ns) / 1e9
end

function setup(thread)
  threads[#threads + 1] = thread
end

function init(args)
  seconds, word = tonumber(args[1]), args[4]
  local file = assert(io.open(args[2], "rb"))
  wrk.body = file:read("*a")
  file:close()
  headers["Authorization"] = "Bearer " .. args[3]
end

-- Called before each request, so after each answer: `first` and `last` are the moments of the first and the last one.
function delay()
  last = now()
  first = first or last
  return last - first < seconds and 0 or NEVER
end

function request()
  sent = sent + 1
  headers["Idempotency-Key"] = word .. "-" .. sent
  return wrk.format("POST", nil, headers)
end

function done(summary, latency)
  local errors = summary.errors
  io.write(string.format(
    '{"answered": %d, "seconds": %.6f, "refused": %d, "broken": %d, "p50_ms": %.3f, "p99_ms": %.3f, "max_ms": %.3f}\n',
    summary.requests, threads[1]:get("last") - threads[1]:get("first"), errors.status,
    errors.connect + errors.read + errors.write + errors.timeout,
    latency:percentile(50) / 1e3, latency:percentile(99) / 1e3, latency.max / 1e3))
end

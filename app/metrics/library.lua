-- A library: measures (app/metrics/measures.py) in hashes whose fields are FUNCTION<tab>QUEUE. Those without a function are
-- of the whole queue.
local INTERVAL = 10 -- seconds, the shortest
local OTHER_FUNCTIONS = 'other'
local UNMERGED_SECONDS = 259200 -- lifetime of an interval that no scheduler has merged

local function merge_times(one, other)
  if not one or not other then return one or other end
  local first = math.min(one[3], other[3])
  local merged = { one[1] + other[1], math.max(one[2], other[2]), first }
  for bucket = first, math.max(one[3] + #one, other[3] + #other) - 4 do
    local n, m = bucket - one[3] + 4, bucket - other[3] + 4
    merged[bucket - first + 4] = (n > 3 and one[n] or 0) + (m > 3 and other[m] or 0)
  end
  return merged
end

local function merge_measures(one, other)
  local counts = one.c or {}
  for name, number in pairs(other.c or {}) do counts[name] = (counts[name] or 0) + number end
  return { c = next(counts) and counts or nil, r = merge_times(one.r, other.r), w = merge_times(one.w, other.w) }
end

local function add(key, field, added)
  local stored = redis.call('HGET', key, field)
  redis.call('HSET', key, field, cjson.encode(stored and merge_measures(cjson.decode(stored), added) or added))
end

-- Add to the current interval; `added` maps fields to measures.
local function add_to_now(added)
  local now = tonumber(redis.call('TIME')[1])
  local start = now - now % INTERVAL
  local key = metrics_key(INTERVAL, start)
  for field, measures in pairs(added) do add(key, field, measures) end
  redis.call('SADD', METRICS_UNMERGED, start)
  redis.call('EXPIRE', key, UNMERGED_SECONDS)
end

-- The name under which a function is counted: the first MAX_FUNCTIONS have their own.
local function counted_as(name)
  if name == '' or redis.call('SISMEMBER', METRICS_FUNCTIONS, name) == 1 then return name end
  if redis.call('SCARD', METRICS_FUNCTIONS) >= MAX_FUNCTIONS then return OTHER_FUNCTIONS end
  redis.call('SADD', METRICS_FUNCTIONS, name)
  return name
end

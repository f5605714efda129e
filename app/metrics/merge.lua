-- Merge an interval that is over into the longer ones and the totals. `start`: seconds since 1970.
-- args: start
-- uses: metrics/library
local KEPT_SECONDS = { [10] = 960, [60] = 28980, [600] = 260400, [3600] = 266400 } -- 15 minutes, 8 hours and 72 hours, and a little
if redis.call('SREM', METRICS_UNMERGED, start) == 0 then return end
local key, targets = metrics_key(INTERVAL, start), { METRICS_TOTALS }
for seconds in pairs(KEPT_SECONDS) do
  if seconds ~= INTERVAL then targets[#targets + 1] = metrics_key(seconds, start - start % seconds) end
end
local entries = redis.call('HGETALL', key)
for n = 1, #entries, 2 do
  for _, target in ipairs(targets) do add(target, entries[n], cjson.decode(entries[n + 1])) end
end
for seconds, kept_for in pairs(KEPT_SECONDS) do redis.call('EXPIRE', metrics_key(seconds, start - start % seconds), kept_for) end

-- Add the counts of scripts (counted.lua) to the current interval.
-- args:
-- uses: metrics/library
local counted, added = redis.call('HGETALL', METRICS_COUNTED), {}
for n = 1, #counted, 2 do
  local name, func, queue = string.match(counted[n], '^(.-)\t(.-)\t(.*)$')
  for _, field in ipairs({ counted_as(func) .. '\t' .. queue, '\t' .. queue }) do
    added[field] = added[field] or { c = {} }
    added[field].c[name] = (added[field].c[name] or 0) + tonumber(counted[n + 1])
  end
end
if #counted > 0 then add_to_now(added) end
redis.call('DEL', METRICS_COUNTED)

-- Count a failed attempt: `most` failures within `window` seconds open the breaker of the function for `cool_down` seconds.
-- Idempotent: `token` identifies this failure.
-- args: function_name most window cool_down token
-- uses:
local function time_of(entry) return entry and tonumber(string.match(entry, '^[%d.]+')) end
local time, failures = redis.call('TIME'), breaker_key(function_name, 'failures')
local now, newest = tonumber(time[1]) + tonumber(time[2]) / 1000000, tonumber(most) - 1
local mark = ' ' .. token
for _, entry in ipairs(redis.call('LRANGE', failures, 0, newest)) do
  if string.sub(entry, -#mark) == mark then return end
end
redis.call('LPUSH', failures, string.format('%.6f', now) .. mark)
redis.call('LTRIM', failures, 0, newest)
redis.call('EXPIRE', failures, math.ceil(window + cool_down))
local first = time_of(redis.call('LINDEX', failures, newest))
if first and first > now - window and first <= now then
  redis.call('SET', breaker_key(function_name, 'open'), 1, 'PX', math.ceil(1000 * cool_down))
end

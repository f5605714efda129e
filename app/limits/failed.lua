-- An attempt has failed: the breaker opens when there were too many of late. A failure that is sent again counts once.
-- KEYS: the last failures, each its time and its token, the newest first; what says that it is open. ARGV: how many,
-- within how many seconds, for how many it opens, and the token of this failure.
local function time_of(entry) return entry and tonumber(string.match(entry, '^[%d.]+')) end
local time = redis.call('TIME')
local now, most, token = tonumber(time[1]) + tonumber(time[2]) / 1000000, tonumber(ARGV[1]), ' ' .. ARGV[4]
for _, entry in ipairs(redis.call('LRANGE', KEYS[1], 0, most - 1)) do
  if string.sub(entry, -#token) == token then return end
end
redis.call('LPUSH', KEYS[1], string.format('%.6f', now) .. token)
redis.call('LTRIM', KEYS[1], 0, most - 1)
redis.call('EXPIRE', KEYS[1], math.ceil(ARGV[2] + ARGV[3]))
local first = time_of(redis.call('LINDEX', KEYS[1], most - 1))
if first and first > now - ARGV[2] and first <= now then redis.call('SET', KEYS[2], 1, 'PX', math.ceil(1000 * ARGV[3])) end

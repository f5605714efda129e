-- An attempt has failed: the breaker opens when there were too many of late.
-- KEYS: times of the last failures, the newest first; what says that it is open. ARGV: how many, within how many
-- seconds, and for how many it opens.
local time = redis.call('TIME')
local now, most = tonumber(time[1]) + tonumber(time[2]) / 1000000, tonumber(ARGV[1])
redis.call('LPUSH', KEYS[1], string.format('%.6f', now))
redis.call('LTRIM', KEYS[1], 0, most - 1)
redis.call('EXPIRE', KEYS[1], math.ceil(ARGV[2] + ARGV[3]))
local first = tonumber(redis.call('LINDEX', KEYS[1], most - 1) or nil)
if first and first > now - ARGV[2] then redis.call('SET', KEYS[2], 1, 'PX', math.ceil(1000 * ARGV[3])) end

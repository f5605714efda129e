-- For an end that is no script of ours, in its transaction. It changes nothing when sent a second time. Begins with
-- outbox.lua. KEYS: job hash. ARGV: a token of this end, job's id, then fields and values that the hash has not yet.
local known = redis.pcall('HMGET', KEYS[1], 'follow', 'noted')
if known.err or not known[1] or known[2] == ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'noted', ARGV[1])
ended(KEYS[1], ARGV[2], unpack(ARGV, 3))
return 1

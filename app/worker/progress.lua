-- Keep the progress of a running job in its meta, and tell those who listen (app/events.py).
-- KEYS: job hash, started registry. ARGV: job's id, execution's id, number of the attempt, the meta that is there, the
-- meta that is to be ('': leave it), progress (JSON).
-- Returns 1; 0 if the job was deleted, or another attempt has begun; or else the meta that is there, if it is another
-- one: then nothing is changed.
local is = redis.call('HMGET', KEYS[1], 'attempts', 'meta')
if redis.call('EXISTS', KEYS[1]) == 0 then return 0 end
if is[1] ~= ARGV[3] and not redis.call('ZSCORE', KEYS[2], ARGV[1] .. ':' .. ARGV[2]) then return 0 end
if (is[2] or '') ~= ARGV[4] then return is[2] or '' end
if ARGV[5] ~= '' then redis.call('HSET', KEYS[1], 'meta', ARGV[5]) end
redis.call('XADD', 'jobline:events', 'NOMKSTREAM', 'MAXLEN', '~', 100000, '*', 'ids', ARGV[1],
  'queue', string.sub(KEYS[2], 8), 'status', 'progress', 'progress', ARGV[6]) -- without 'rq:wip:'
return 1

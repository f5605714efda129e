-- A claimed job begins. It changes nothing when sent a second time, or when the job was taken from the worker.
-- KEYS: worker hash, job hash, started registry. ARGV: worker's name, job's id, execution's id, now (RQ's format).
if not redis.call('ZSCORE', KEYS[3], ARGV[2] .. ':' .. ARGV[3]) then return 0 end
local known = redis.call('HMGET', KEYS[2], 'status', 'worker_name', 'attempts')
if not known[1] and redis.call('EXISTS', KEYS[2]) == 0 then return 0 end -- deleted meanwhile
if known[1] == 'started' and known[2] == ARGV[1] then return 1 end
redis.call('HSET', KEYS[2], 'status', 'started', 'started_at', ARGV[4], 'last_heartbeat', ARGV[4], 'worker_name', ARGV[1],
  'attempts', (tonumber(known[3] or '') or 0) + 1)
tell(ARGV[2], string.sub(KEYS[3], 8), 'started') -- without 'rq:wip:'
redis.call('HSET', KEYS[1], 'current_job', ARGV[2], 'current_job_working_time', 0)
return 1

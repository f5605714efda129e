-- A claimed job begins. It changes nothing when sent a second time, or when the job was taken from the worker.
-- KEYS: worker hash, job hash, started registry. ARGV: worker's name, job's id, execution's id, now (RQ's format).
if not redis.call('ZSCORE', KEYS[3], ARGV[2] .. ':' .. ARGV[3]) then return 0 end
local known = redis.call('HMGET', KEYS[2], 'status', 'attempts')
if known[1] ~= 'queued' then return 0 end
redis.call('HSET', KEYS[2], 'status', 'started', 'started_at', ARGV[4], 'last_heartbeat', ARGV[4], 'worker_name', ARGV[1],
  'attempts', (tonumber(known[2] or '') or 0) + 1)
redis.call('HSET', KEYS[1], 'current_job', ARGV[2], 'current_job_working_time', 0)
return 1

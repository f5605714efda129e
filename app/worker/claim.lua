-- Claim the next job of the queues, in their order, and begin it: at no instant is its id in no list.
-- KEYS: worker hash, leases, then each queue. ARGV: worker's name, execution's id, now (RQ's format), now (seconds),
-- seconds that the execution is kept without a heartbeat.
-- Returns 'suspended', 'unleased' (this worker has been given up), nil if the queues are empty, or
-- { number of the queue, job's id, fields... }; fields are missing where the job cannot be read.
local worker, leases = KEYS[1], KEYS[2]
local name, execution, now, seconds, keep = ARGV[1], ARGV[2], ARGV[3], tonumber(ARGV[4]), tonumber(ARGV[5])
if redis.call('EXISTS', 'rq:suspended') == 1 then
  redis.call('HSET', worker, 'state', 'suspended')
  return 'suspended'
end
if not redis.call('ZSCORE', leases, name) then return 'unleased' end

for n = 3, #KEYS do
  local id = redis.call('LPOP', KEYS[n])
  while id do
    local job = 'rq:job:' .. id
    local fields = redis.pcall('HMGET', job, 'data', 'created_at', 'timeout', 'result_ttl', 'success_callback_name',
      'failure_callback_name', 'stopped_callback_name', 'webhooks', 'group_id', 'repeats_left', 'attempts')
    if fields.err or fields[1] or redis.call('EXISTS', job) == 1 then -- else it was deleted, or its ttl ran out
      local queue = string.sub(KEYS[n], 10) -- without 'rq:queue:'
      local record = 'rq:execution:' .. id .. ':' .. execution
      redis.call('ZADD', 'rq:wip:' .. queue, seconds + keep, id .. ':' .. execution)
      redis.call('HSET', record, 'id', execution, 'created_at', ARGV[4], 'last_heartbeat', ARGV[4], 'worker_name', name)
      redis.call('EXPIRE', record, keep)
      redis.call('ZADD', 'rq:executions:' .. id, seconds + keep + 60, execution)
      redis.call('EXPIRE', 'rq:executions:' .. id, keep + 60)
      redis.call('HSET', worker, 'state', 'busy', 'current_job', id, 'current_job_working_time', 0)
      if fields.err then return { n - 2, id } end
      redis.call('HSET', job, 'status', 'started', 'started_at', now, 'last_heartbeat', now, 'worker_name', name)
      redis.call('HINCRBY', job, 'attempts', 1)
      redis.call('PERSIST', job)
      return { n - 2, id, unpack(fields) }
    end
    id = redis.call('LPOP', KEYS[n])
  end
end
redis.call('HSET', worker, 'state', 'idle')
return nil

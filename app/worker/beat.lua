-- A sign of life of a worker, and of the jobs that it runs, of which RQ's records are made if they have run for a second: short
-- jobs never have one. Returns 1 if the worker's hash was still there, and for each job 1 if the execution is still the
-- worker's: else the job was taken from it. `worker_kept`, `execution_kept`, `cpu`: seconds; `rss`: bytes; `host_cpu`,
-- `host_memory`: per cent; `horse_moves`: 1 or 0.
-- args: worker now worker_kept horse_moves now_seconds execution_kept rss? cpu? host_cpu? host_memory?
-- rest: jobs (the oldest first, of each: queue, id, execution, for how many seconds it has run)
-- uses:
local RECORD_AFTER = 1 -- seconds
local key, seconds = worker_key(worker), tonumber(now_seconds)
redis.call('EXPIRE', key, worker_kept) -- a write that is allowed while memory is full, and with it those that follow
local answer = { redis.call('HEXISTS', key, 'birth') }
redis.call('ZINCRBY', LEASES, 1, worker)
redis.call('HSET', key, 'last_heartbeat', now, 'rss_bytes', rss, 'cpu_seconds', cpu, 'host_cpu', host_cpu,
  'host_memory', host_memory)
if horse_moves == '1' then redis.call('HSET', key, 'horse_moved_at', now) end
redis.call('EXPIRE', key, worker_kept)

local function beat(queue, id, execution, spent)
  local started, member = registry_key('wip', queue), id .. ':' .. execution
  if not redis.call('ZSCORE', started, member) then return 0 end
  redis.call('ZADD', started, seconds + execution_kept, member)
  if tonumber(spent) > RECORD_AFTER then
    local record, executions, longer = execution_key(id, execution), executions_key(id), execution_kept + 60
    redis.call('HSETNX', record, 'created_at', seconds - tonumber(spent))
    redis.call('HSET', record, 'id', execution, 'worker_name', worker, 'last_heartbeat', now_seconds)
    redis.call('EXPIRE', record, execution_kept)
    redis.call('ZADD', executions, seconds + longer, execution)
    redis.call('EXPIRE', executions, longer)
  end
  if redis.call('EXISTS', job_key(id)) == 1 then redis.call('HSET', job_key(id), 'last_heartbeat', now) end
  return 1
end

for n = JOBS, #ARGV, 4 do answer[#answer + 1] = beat(ARGV[n], ARGV[n + 1], ARGV[n + 2], ARGV[n + 3]) end
if answer[2] == 1 then redis.call('HSET', key, 'current_job', ARGV[JOBS + 1], 'current_job_working_time', ARGV[JOBS + 3]) end
return answer

-- A sign of life of a worker, and of the job that it runs, of which RQ's record is made if it has run for a second: short
-- jobs never have one. Returns 1 if the worker's hash was still there, and 1 if the execution is still the worker's: else the
-- job was taken from it. `worker_kept`, `execution_kept`: seconds; `horse_moves`: 1 or 0; `spent`: seconds that the job ran.
-- args: worker now worker_kept horse_moves queue? id? execution? now_seconds? execution_kept? spent?
-- uses:
local RECORD_AFTER = 1 -- seconds
local key = worker_key(worker)
redis.call('EXPIRE', key, worker_kept) -- a write that is allowed while memory is full, and with it those that follow
local known, held = redis.call('HEXISTS', key, 'birth'), 1
redis.call('ZINCRBY', LEASES, 1, worker)
redis.call('HSET', key, 'last_heartbeat', now)
if horse_moves == '1' then redis.call('HSET', key, 'horse_moved_at', now) end
redis.call('EXPIRE', key, worker_kept)
if id ~= '' then
  local started, member, seconds = registry_key('wip', queue), id .. ':' .. execution, tonumber(now_seconds)
  if redis.call('ZSCORE', started, member) then
    redis.call('ZADD', started, seconds + execution_kept, member)
    if tonumber(spent) > RECORD_AFTER then
      local record, executions, longer = execution_key(id, execution), executions_key(id), execution_kept + 60
      redis.call('HSETNX', record, 'created_at', seconds - tonumber(spent))
      redis.call('HSET', record, 'id', execution, 'worker_name', worker, 'last_heartbeat', now_seconds)
      redis.call('EXPIRE', record, execution_kept)
      redis.call('ZADD', executions, seconds + longer, execution)
      redis.call('EXPIRE', executions, longer)
    end
    redis.call('HSET', key, 'current_job_working_time', spent)
    if redis.call('EXISTS', job_key(id)) == 1 then redis.call('HSET', job_key(id), 'last_heartbeat', now) end
  else
    held = 0
  end
end
return { known, held }

-- A sign of life of a worker, and of the job that it runs, of which RQ's record is made if it has run for a second:
-- short jobs never have one. Returns 1 if the worker's hash was still there, and 1 if
-- the execution is still the worker's: else the job was taken from it.
-- KEYS: worker hash, leases. ARGV: worker's name, now (RQ's format), seconds that the worker's hash is kept, 1 if its
-- horse moves, and if a job runs: queue, job's id, execution's id, now (seconds), seconds that the execution is kept,
-- seconds that it ran.
local worker, leases = KEYS[1], KEYS[2]
redis.call('EXPIRE', worker, ARGV[3]) -- a write that is allowed while memory is full, and with it those that follow
local known, held = redis.call('HEXISTS', worker, 'birth'), 1
redis.call('ZINCRBY', leases, 1, ARGV[1])
redis.call('HSET', worker, 'last_heartbeat', ARGV[2])
if ARGV[4] == '1' then redis.call('HSET', worker, 'horse_moved_at', ARGV[2]) end
redis.call('EXPIRE', worker, ARGV[3])
if ARGV[5] then
  local id, execution, seconds, keep = ARGV[6], ARGV[7], tonumber(ARGV[8]), tonumber(ARGV[9])
  local started, member = 'rq:wip:' .. ARGV[5], id .. ':' .. execution
  if redis.call('ZSCORE', started, member) then
    local record = 'rq:execution:' .. member
    redis.call('ZADD', started, seconds + keep, member)
    if tonumber(ARGV[10]) > 1 then
      redis.call('HSETNX', record, 'created_at', seconds - tonumber(ARGV[10]))
      redis.call('HSET', record, 'id', execution, 'worker_name', ARGV[1], 'last_heartbeat', ARGV[8])
      redis.call('EXPIRE', record, keep)
      redis.call('ZADD', 'rq:executions:' .. id, seconds + keep + 60, execution)
      redis.call('EXPIRE', 'rq:executions:' .. id, keep + 60)
    end
    redis.call('HSET', worker, 'current_job_working_time', ARGV[10])
    if redis.call('EXISTS', 'rq:job:' .. id) == 1 then redis.call('HSET', 'rq:job:' .. id, 'last_heartbeat', ARGV[2]) end
  else
    held = 0
  end
end
return { known, held }

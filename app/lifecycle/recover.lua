-- End an execution whose worker is lost, and settle its job in the same step. Returns 0 if it had ended already.
-- `outcome`: app/recovery.py; `reason`: the failure (Base64); `failure_ttl` and `wait` (for the retry) in seconds; `began_at`:
-- when the attempt began, in seconds since 1970.
-- args: queue id execution outcome now now_seconds reason failure_ttl wait began_at?
-- uses: limits/library lifecycle/outbox
local FAILED, RETRIED = 2, 4 -- rq.results.Result.Type (RQ 2.12)
local job, seconds = job_key(id), tonumber(now_seconds)
failure_ttl, wait = tonumber(failure_ttl), tonumber(wait)
redis.call('ZADD', registry_key('wip', queue), 'XX', 0, '') -- changes nothing, and is refused while memory is full, as ZREM is not
if not end_execution(id, queue, execution, true) then return 0 end
if redis.call('TYPE', job).ok ~= 'hash' then return 1 end
local status, limits, worker = unpack(redis.call('HMGET', job, 'status', 'limits', 'worker_name'))
if limits then release(limits, queue, id, execution) end

-- What became of the attempt, as RQ keeps it; nothing of a job that was not begun.
local fails = outcome == 'failed' or outcome == 'stopped'
if fails or status == 'started' then
  local entry = { 'type', fails and FAILED or RETRIED, 'worker_name', worker or '', 'exc_string', reason,
    'execution_id', execution, 'execution_ended_at', now_seconds }
  if began_at ~= '' then
    entry[#entry + 1], entry[#entry + 2] = 'execution_started_at', began_at
  end
  redis.pcall('XADD', results_key(id), 'MAXLEN', '~', 10, '*', unpack(entry))
  if failure_ttl >= 0 then
    redis.call('EXPIRE', results_key(id), failure_ttl)
  else
    redis.call('PERSIST', results_key(id))
  end
end

if fails then
  end_job(id, queue, outcome, now, math.floor(seconds), failure_ttl, true, true, 'type', FAILED, 'exc_string', reason)
else
  redis.call('HSET', job, 'worker_name', '', 'started_at', '')
  if outcome == 'retried' then
    redis.call('HINCRBY', job, 'retries_left', -1)
    if wait > 0 then
      schedule_job(id, queue, due_after(wait))
    else
      queue_jobs(queue, { id }, end_of(redis.call('HGET', job, 'enqueue_at_front_on_retry')), now)
    end
  else
    if outcome == 'again' then redis.call('HINCRBY', job, 'losses', 1) end
    queue_jobs(queue, { id }, HEAD)
  end
end
return 1

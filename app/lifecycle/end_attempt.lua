-- End an execution that did not succeed, and settle its job in the same step. Returns 0 if it had ended already. `outcome`:
-- see lifecycle/recovery.py; 'raised' means 'retried' if the job has retries left, else 'failed'. `reason`: Base64; `began_at`:
-- when the attempt began, in seconds since 1970; `wait`: seconds before the retry, those of the job if left out.
-- `worker`, `spent`: the worker that counts this as a failed job, and for how many seconds it ran. `counted_as`: the
-- outcome in the metrics, or 'outcome': what it turns out to be; `counted_function`: of a work horse that knows it; `recovered`: the
-- reason in the metrics, where no work horse ends it.
-- args: queue id execution outcome now now_seconds reason failure_ttl began_at? wait? worker? spent? counted_as? counted_function? recovered?
-- uses: limits/library lifecycle/outbox
local FAILED, RETRIED = 2, 4 -- rq.results.Result.Type (RQ 2.12)
local job, seconds = job_key(id), tonumber(now_seconds)

-- As rq.job.Job.get_retry_interval (RQ 2.12).
local function own_wait(intervals, retries_left)
  local is_json, waits = pcall(cjson.decode, intervals or '')
  if not is_json or type(waits) ~= 'table' then return 0 end
  return math.ceil(tonumber(waits[math.max(#waits - retries_left, 0) + 1]) or 0)
end

redis.call('ZADD', registry_key('wip', queue), 'XX', 0, '') -- changes nothing, and is refused while memory is full, as ZREM is not
if not end_execution(id, queue, execution, true) then return 0 end
if recovered ~= '' then redis.call('HINCRBY', METRICS_RECOVERED, recovered, 1) end
if worker ~= '' then
  redis.call('HINCRBY', worker_key(worker), 'failed_job_count', 1)
  redis.call('HINCRBYFLOAT', worker_key(worker), 'total_working_time', spent)
end
if redis.call('TYPE', job).ok ~= 'hash' then return 1 end
local status, limits, known_worker, retries, intervals, ttl, front = unpack(redis.call('HMGET', job, 'status', 'limits',
  'worker_name', 'retries_left', 'retry_intervals', 'failure_ttl', 'enqueue_at_front_on_retry'))
local retries_left = tonumber(retries or '') or 0
local kept_for = tonumber(ttl or '') or tonumber(failure_ttl)
if outcome == 'raised' then outcome = retries_left > 0 and 'retried' or 'failed' end
if counted_as ~= '' then measure_end(id, queue, counted_as == 'outcome' and outcome or counted_as, counted_function) end
if limits then release(limits, queue, id, execution) end

-- What became of the attempt, as RQ keeps it; nothing of a job that was not begun.
local fails = outcome == 'failed' or outcome == 'stopped'
if fails or status == 'started' then
  local entry = { 'type', fails and FAILED or RETRIED, 'worker_name', known_worker or '', 'exc_string', reason,
    'execution_id', execution, 'execution_ended_at', now_seconds }
  if began_at ~= '' then
    entry[#entry + 1], entry[#entry + 2] = 'execution_started_at', began_at
  end
  redis.pcall('XADD', results_key(id), 'MAXLEN', '~', 10, '*', unpack(entry))
  if kept_for >= 0 then redis.call('EXPIRE', results_key(id), kept_for) else redis.call('PERSIST', results_key(id)) end
end

if fails then
  end_job(id, queue, outcome, now, math.floor(seconds), kept_for, true, true, false, 'type', FAILED, 'exc_string', reason)
  return 1
end
if worker ~= '' then
  redis.call('HSET', job, 'ended_at', now) -- as RQ leaves a job that is retried
else
  redis.call('HSET', job, 'worker_name', '', 'started_at', '')
end
if outcome == 'retried' then
  redis.call('HINCRBY', job, 'retries_left', -1)
  local seconds_to_wait = tonumber(wait) or own_wait(intervals, retries_left)
  if seconds_to_wait > 0 then
    schedule_job(id, queue, due_after(seconds_to_wait))
  else
    queue_jobs(queue, { id }, end_of(front), now)
  end
else
  if outcome == 'again' then redis.call('HINCRBY', job, 'losses', 1) end
  queue_jobs(queue, { id }, HEAD)
end
return 1

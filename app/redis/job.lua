-- The life of a job. Only this library writes a job's status, moves its id between the queue and the registries, clears
-- what a state leaves behind, and tells the event stream. docs/architecture.md has the diagram and each transition's rule.
--
--   status      where the id is
--   queued      the list of its queue; from the claim to the start, the started registry (rq:wip)
--   started     the started registry, as JOB:EXECUTION
--   scheduled, deferred, finished, canceled     the registry of that name
--   failed, stopped                             the failed registry
--
-- The field `waits_for` names the limit in whose waiting list the id stands (limits/library.lua): from the moment the
-- job is put off until the limit lets it go, or it is canceled, deleted, changed or requeued. That its time has come
-- does not end it: the job keeps its turn.
-- uses: redis/events
local REGISTRY_OF = {
  scheduled = 'scheduled', deferred = 'deferred', finished = 'finished', canceled = 'canceled', failed = 'failed',
  stopped = 'failed',
}
local PUSH_SIZE = 1000 -- ids in one command: Lua unpacks some thousands at most
local NOTE_SECONDS = 60 -- for which the note of an end without a result is kept

-- Where a job enters its queue, and whether `enqueued_at` is set:
--   TAIL   new, due, requeued, retried at once, its dependencies met (now); put back after a loss from the list (kept)
--   FRONT  the same with at_front, each before the one that came first
--   HEAD   it had its turn already: given back by a worker, or let go by a limit (kept); several keep their order
local TAIL, FRONT, HEAD = 'tail', 'front', 'head'

local function end_of(at_front) return at_front == '1' and FRONT or TAIL end

-- The one place that puts jobs on a queue. `behind`: a job in the queue that they follow, with HEAD.
local function push(queue, ids, place, behind)
  local key = queue_key(queue)
  redis.call('SADD', QUEUES, key)
  if place == HEAD then
    for n = #ids, 1, -1 do
      if behind then redis.call('LINSERT', key, 'AFTER', behind, ids[n]) else redis.call('LPUSH', key, ids[n]) end
    end
  else
    local command = place == FRONT and 'LPUSH' or 'RPUSH'
    for first = 1, #ids, PUSH_SIZE do
      redis.call(command, key, unpack(ids, first, math.min(first + PUSH_SIZE - 1, #ids)))
    end
  end
  tell(table.concat(ids, ' '), queue, 'queued')
end

-- Write the hash of a new job, as rq.job.Job.to_dict (RQ 2.12); its other words are ARGV[first] to ARGV[last]. One that is
-- `ready` is to be pushed, another to be scheduled or deferred: it has `time_field` and `status` until then.
local function create_job(id, created_at, ready, ttl, first, last)
  local job, time_field, status = job_key(id), 'created_at', 'created'
  if ready then time_field, status = 'enqueued_at', 'queued' end
  redis.call('HSET', job, 'created_at', created_at, time_field, created_at, 'status', status, 'success_callback_name', '',
    'failure_callback_name', '', 'stopped_callback_name', '', 'started_at', '', 'ended_at', '', 'last_heartbeat', '',
    'worker_name', '', 'group_id', '', unpack(ARGV, first, last))
  if ttl ~= '' then redis.call('EXPIRE', job, ttl) end
end

-- Queue jobs that are there, and in no place now. `enqueued_at`: RQ's format; nil: it stays as it is.
local function queue_jobs(queue, ids, place, enqueued_at, behind)
  for _, id in ipairs(ids) do
    local job = job_key(id)
    local ttl = tonumber(redis.call('HGET', job, 'ttl') or '')
    if enqueued_at then
      redis.call('HSET', job, 'status', 'queued', 'enqueued_at', enqueued_at)
    else
      redis.call('HSET', job, 'status', 'queued')
    end
    if ttl and ttl > 0 then redis.call('EXPIRE', job, ttl) end
  end
  push(queue, ids, place, behind)
end

-- Seconds since 1970, by the clock of Redis.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- When a delay is over, in whole seconds, never early. If the clock was put back and the scheduler has not seen it yet, it
-- will take from all due times as much as the clock is behind the time that was noted: until then a delay counts from there.
local function due_after(seconds)
  local now, noted = clock(), tonumber(redis.call('GET', CLOCK) or '')
  if noted and noted > now + CLOCK_JUMP_SECONDS then now = noted + CLOCK_JUMP_SECONDS end
  return math.ceil(now + seconds)
end

-- Of a queue's key.
local function queue_of(key) return string.sub(key, #queue_key('') + 1) end

local function reschedule(id, queue, at) redis.call('ZADD', registry_key('scheduled', queue), at, id) end

-- `at`: seconds since 1970.
local function schedule_job(id, queue, at)
  redis.call('HSET', job_key(id), 'status', 'scheduled')
  redis.call('SADD', QUEUES, queue_key(queue))
  redis.call('ZADD', registry_key('scheduled', queue), at, id)
  tell(id, queue, 'scheduled')
end

local function defer_job(id, queue, since)
  redis.call('HSET', job_key(id), 'status', 'deferred')
  redis.call('SADD', QUEUES, queue_key(queue))
  redis.call('ZADD', registry_key('deferred', queue), since, id)
  tell(id, queue, 'deferred')
end

local function start_job(id, queue, worker, started_at, attempt)
  redis.call('HSET', job_key(id), 'status', 'started', 'started_at', started_at, 'last_heartbeat', started_at,
    'worker_name', worker, 'attempts', attempt)
  tell(id, queue, 'started')
end

-- Take a job out of the waiting list of its limit.
local function stop_waiting(id)
  local job = job_key(id)
  local limit = redis.call('HGET', job, 'waits_for')
  if not limit then return end
  redis.call('LREM', limit_key(limit, 'waiting'), 1, id)
  redis.call('HDEL', job, 'waits_for')
end

-- Take a job out of the place that its status names; false: a worker has it.
local function leave(id, queue, status)
  if status == 'started' then return false end
  if status == 'queued' then
    if redis.call('LREM', queue_key(queue), -1, id) == 0 then return false end -- many are canceled newest first
  elseif REGISTRY_OF[status] then
    redis.call('ZREM', registry_key(REGISTRY_OF[status], queue), id)
  end
  stop_waiting(id)
  return true
end

-- End an execution; false: it has ended. A beat has made a record of one that ran for longer than a second.
local function end_execution(id, queue, execution, has_record)
  if redis.call('ZREM', registry_key('wip', queue), id .. ':' .. execution) == 0 then return false end
  if has_record then
    redis.call('DEL', execution_key(id, execution))
    redis.call('ZREM', executions_key(id), execution)
  end
  return true
end

-- A job claimed by a worker: its execution is kept until then (seconds since 1970) without a heartbeat.
local function hold(id, queue, execution, until_) redis.call('ZADD', registry_key('wip', queue), until_, id .. ':' .. execution) end

-- Keep a job and what belongs to it for so many seconds; less than 0: for ever.
local function keep(id, seconds, has_relatives)
  local keys = { job_key(id), results_key(id) }
  if has_relatives then keys[3], keys[4] = dependents_key(id), dependencies_key(id) end
  for _, key in ipairs(keys) do
    if seconds < 0 then redis.call('PERSIST', key) else redis.call('EXPIRE', key, seconds) end
  end
end

-- Wake those who wait for a job that ends without a result. A new stream has room for 4 KB, a copy of it none to spare.
local function note_end(id, status)
  redis.call('XADD', ENDED, '*', 'status', status)
  redis.call('COPY', ENDED, ended_key(id), 'REPLACE')
  redis.call('DEL', ENDED)
  redis.call('EXPIRE', ended_key(id), NOTE_SECONDS)
end

-- Queue the deferred jobs that wait for this one and for nothing else, as rq.Queue.enqueue_dependents (RQ 2.12): a parent
-- counts if it has finished, is gone, or has failed and the child allows that.
local function queue_dependents(id, enqueued_at)
  for _, child in ipairs(redis.call('SMEMBERS', dependents_key(id))) do
    local status, queue, at_front, allows_failure = unpack(
      redis.call('HMGET', job_key(child), 'status', 'origin', 'enqueue_at_front', 'allow_dependency_failures')
    )
    local met = status == 'deferred'
    if met then
      for _, parent in ipairs(redis.call('SMEMBERS', dependencies_key(child))) do
        local state = redis.call('HGET', job_key(parent), 'status')
        met = met and (not state or state == 'finished' or (state == 'failed' and allows_failure == '1'))
      end
    end
    if met then
      leave(child, queue, status)
      redis.call('SREM', dependents_key(id), child)
      queue_jobs(queue, { child }, end_of(at_front), enqueued_at)
    end
  end
end

-- What hangs on the end of a job: its workflow and its webhook. Set by lifecycle/outbox.lua.
local on_end

-- End a job; false: it was deleted meanwhile. `ended_at`: RQ's format; `seconds`: the same since 1970; `kept_for`: seconds,
-- for ever if less than 0. `has_relatives`: it may have dependents or dependencies; `has_followers`: a workflow or a webhook.
-- The rest are fields of its latest result.
local function end_job(id, queue, status, ended_at, seconds, kept_for, has_relatives, has_followers, ...)
  if redis.call('HSET', job_key(id), 'status', status, 'ended_at', ended_at, 'last_heartbeat', ended_at) == 3 then
    redis.call('DEL', job_key(id)) -- this made it anew
    return false
  end
  local score = kept_for < 0 and kept_for or seconds + kept_for -- as RQ 2.12 keeps failed jobs
  if status == 'finished' and kept_for < 0 then score = '+inf' elseif status == 'canceled' then score = seconds end
  redis.call('ZADD', registry_key(REGISTRY_OF[status], queue), score, id)
  tell(id, queue, status)
  if status == 'canceled' then note_end(id, status) end
  if has_followers then on_end(id, ...) end
  if has_relatives and status ~= 'canceled' then queue_dependents(id, ended_at) end
  keep(id, kept_for, has_relatives)
  return true
end

-- A job that had ended lives again.
local function revive(id)
  local job = job_key(id)
  redis.call('HSET', job, 'started_at', '', 'ended_at', '', 'worker_name', '')
  redis.call('HDEL', job, 'exc_info', 'reason')
  for _, key in ipairs({ job, dependents_key(id), dependencies_key(id) }) do redis.call('PERSIST', key) end
  redis.call('DEL', ended_key(id))
end

-- Remove all that is kept of a job that is in no place.
local function erase(id)
  redis.call('DEL', job_key(id), dependents_key(id), dependencies_key(id), results_key(id), executions_key(id))
  note_end(id, 'deleted')
end

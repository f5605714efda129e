-- The state machine of a job. Only this library writes a job's status, moves its id between queue and registries, removes
-- fields of the previous state, and publishes events. docs/architecture.md has the diagram and the rule of each transition.
--
--   status      where the id is
--   queued      the list of its queue; from the claim to the start, the started registry (rq:wip)
--   started     the started registry, as JOB:EXECUTION
--   scheduled, deferred, finished, canceled     the registry of that name
--   failed, stopped                             the failed registry
--
-- The field `waits_for` names the limit whose waiting list contains the id (limits/library.lua): from the time the job is
-- postponed until the limit releases it, or it is canceled, deleted, changed or requeued. Becoming due does not end it: the
-- job keeps its turn.
-- uses: redis/events metrics/counted
local PUSH_SIZE = 1000 -- ids in one command, because Lua can unpack only some thousands
local NOTE_SECONDS = 60 -- lifetime of the stream entry for an end without a result

-- Where a job enters its queue, and whether `enqueued_at` is set to now or kept:
--   TAIL   new, due, requeued, retried immediately, dependencies met (now); put back after a loss from the list (kept)
--   FRONT  the same with at_front; each before the previous one
--   HEAD   it had its turn already: returned by a worker, or released by a limit (kept); several keep their order
local TAIL, FRONT, HEAD = 'tail', 'front', 'head'

local function end_of(at_front) return at_front == '1' and FRONT or TAIL end

-- Put jobs on a queue; nothing else does. `behind`: with HEAD, a job in the queue after which they are inserted.
local function push(queue, ids, position, behind)
  local key = queue_key(queue)
  redis.call('SADD', QUEUES, key)
  if position == HEAD then
    for n = #ids, 1, -1 do
      if behind then redis.call('LINSERT', key, 'AFTER', behind, ids[n]) else redis.call('LPUSH', key, ids[n]) end
    end
  else
    local command = position == FRONT and 'LPUSH' or 'RPUSH'
    for first = 1, #ids, PUSH_SIZE do
      redis.call(command, key, unpack(ids, first, math.min(first + PUSH_SIZE - 1, #ids)))
    end
  end
  tell(table.concat(ids, ' '), queue, 'queued')
end

-- Add a job to those that enter the same queue at the same position. `batches` has them by both.
local function add_to_batch(batches, queue, position, id)
  local name = position .. ' ' .. queue
  batches[name] = batches[name] or { queue = queue, position = position }
  table.insert(batches[name], id)
end

-- Write the hash of a new job, as rq.job.Job.to_dict (RQ 2.12); its other fields are ARGV[first] to ARGV[last]. One that is
-- `ready` is queued, and must be pushed; another has no `enqueued_at`, and must be scheduled or deferred.
local function create_job(id, created_at, ready, ttl, first, last)
  redis.call('HSET', job_key(id), 'created_at', created_at, ready and 'enqueued_at' or 'created_at', created_at, 'status',
    ready and 'queued' or 'created', 'success_callback_name', '', 'failure_callback_name', '', 'stopped_callback_name', '',
    'started_at', '', 'ended_at', '', 'last_heartbeat', '', 'worker_name', '', 'group_id', '', unpack(ARGV, first, last))
  if ttl ~= '' then redis.call('EXPIRE', job_key(id), ttl) end
end

-- Queue existing jobs that are in no list or registry. `enqueued_at`: RQ's format; nil: keep it.
local function queue_jobs(queue, ids, position, enqueued_at, behind)
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
  push(queue, ids, position, behind)
end

-- Seconds since 1970, by the clock of Redis.
local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

-- When a delay ends, in whole seconds, never early. If the clock was set back and the scheduler has not noticed yet, it will
-- later subtract the difference from all due times: until then a delay counts from the time that it last recorded.
local function due_after(seconds)
  local now, noted = clock(), tonumber(redis.call('GET', CLOCK) or '')
  if noted and noted > now + CLOCK_JUMP_SECONDS then now = noted + CLOCK_JUMP_SECONDS end
  return math.ceil(now + seconds)
end

-- The registry of a status; nil if it has none.
local function registry_of(status)
  if status == 'stopped' then return 'failed' end
  local has_its_own = status == 'finished' or status == 'failed' or status == 'scheduled' or status == 'deferred'
    or status == 'canceled'
  return has_its_own and status or nil
end

-- The name of a queue, from its key.
local function queue_of(key) return string.sub(key, #queue_key('') + 1) end

local function reschedule(id, queue, at) redis.call('ZADD', registry_key('scheduled', queue), at, id) end

-- Put a job that waits into the registry of its status. `score`: seconds since 1970.
local function register(id, queue, status, score)
  redis.call('HSET', job_key(id), 'status', status)
  redis.call('SADD', QUEUES, queue_key(queue))
  redis.call('ZADD', registry_key(status, queue), score, id)
  tell(id, queue, status)
end

-- Both times are in seconds since 1970.
local function schedule_job(id, queue, at) register(id, queue, 'scheduled', at) end
local function defer_job(id, queue, since) register(id, queue, 'deferred', since) end

local function start_job(id, queue, worker, started_at, attempt)
  redis.call('HSET', job_key(id), 'status', 'started', 'started_at', started_at, 'last_heartbeat', started_at,
    'worker_name', worker, 'attempts', attempt)
  tell(id, queue, 'started')
end

-- Remove a job from the waiting list of its limit.
local function stop_waiting(id)
  local job = job_key(id)
  local limit = redis.call('HGET', job, 'waits_for')
  if not limit then return end
  redis.call('LREM', limit_key(limit, 'waiting'), 1, id)
  redis.call('HDEL', job, 'waits_for')
end

-- Remove a job from the list or registry of its status; false: a worker has it.
local function leave(id, queue, status)
  if status == 'started' then return false end
  if status == 'queued' then
    if redis.call('LREM', queue_key(queue), -1, id) == 0 then return false end -- bulk cancels go newest first
  elseif registry_of(status) then
    redis.call('ZREM', registry_key(registry_of(status), queue), id)
  end
  stop_waiting(id)
  return true
end

-- End an execution; false: it has ended already. Only one that ran for more than a second has a record.
local function end_execution(id, queue, execution, has_record)
  if redis.call('ZREM', registry_key('wip', queue), id .. ':' .. execution) == 0 then return false end
  if has_record then
    redis.call('DEL', execution_key(id, execution))
    redis.call('ZREM', executions_key(id), execution)
  end
  return true
end

-- Register the execution of a claimed job, with a lease until `until_` (seconds since 1970).
local function hold(id, queue, execution, until_) redis.call('ZADD', registry_key('wip', queue), until_, id .. ':' .. execution) end

-- Set the lifetime of a job and its other keys to `seconds`; less than 0: for ever.
local function keep(id, seconds, has_relatives, has_log)
  local keys = { job_key(id), results_key(id) }
  if has_relatives then keys[3], keys[4] = dependents_key(id), dependencies_key(id) end
  if has_log then keys[#keys + 1] = log_key(id) end
  for _, key in ipairs(keys) do
    if seconds < 0 then redis.call('PERSIST', key) else redis.call('EXPIRE', key, seconds) end
  end
end

-- Wake clients that wait for a job which ends without a result. A copied stream is smaller than a new one, which
-- preallocates 4 KB.
local function note_end(id, status)
  redis.call('XADD', ENDED, '*', 'status', status)
  redis.call('COPY', ENDED, ended_key(id), 'REPLACE')
  redis.call('DEL', ENDED)
  redis.call('EXPIRE', ended_key(id), NOTE_SECONDS)
end

-- Queue the deferred jobs whose dependencies are met, as rq.Queue.enqueue_dependents (RQ 2.12): a dependency is met if it
-- has finished, no longer exists, or has failed and the dependent allows that.
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

-- Called at the end of a job, for its workflow and webhook. Set by lifecycle/outbox.lua.
local on_end

-- End a job; false: it was deleted meanwhile. `ended_at`: RQ's format; `seconds`: the same since 1970; `kept_for`: seconds,
-- for ever if less than 0. `has_relatives`: it may have dependents or dependencies; `has_followers`: a workflow or a webhook;
-- `has_no_log`: it has surely none.
-- The rest are fields of its latest result.
local function end_job(id, queue, status, ended_at, seconds, kept_for, has_relatives, has_followers, has_no_log, ...)
  if redis.call('HSET', job_key(id), 'status', status, 'ended_at', ended_at, 'last_heartbeat', ended_at) == 3 then
    redis.call('DEL', job_key(id)) -- this made it anew
    return false
  end
  local score = kept_for < 0 and kept_for or seconds + kept_for -- as RQ 2.12 keeps failed jobs
  if status == 'finished' and kept_for < 0 then score = '+inf' elseif status == 'canceled' then score = seconds end
  redis.call('ZADD', registry_key(registry_of(status), queue), score, id)
  tell(id, queue, status)
  if status == 'canceled' then
    note_end(id, status)
    measure_end(id, queue, status)
  end
  if has_followers then on_end(id, ...) end
  if has_relatives and status ~= 'canceled' then queue_dependents(id, ended_at) end
  keep(id, kept_for, has_relatives, not has_no_log)
  return true
end

-- Reset the fields and lifetimes of an ended job that runs again.
local function revive(id)
  local job = job_key(id)
  redis.call('HSET', job, 'started_at', '', 'ended_at', '', 'worker_name', '')
  redis.call('HDEL', job, 'exc_info', 'reason')
  for _, key in ipairs({ job, dependents_key(id), dependencies_key(id), log_key(id) }) do redis.call('PERSIST', key) end
  redis.call('DEL', ended_key(id))
end

-- Delete all keys of a job that is in no list or registry.
local function erase(id)
  redis.call('DEL', job_key(id), dependents_key(id), dependencies_key(id), results_key(id), executions_key(id), log_key(id))
  note_end(id, 'deleted')
end

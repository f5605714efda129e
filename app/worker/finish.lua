-- Keep the result of a job that succeeded, and queue what waited for it. Returns 1, or 0 if it is no longer this
-- worker's to finish (its lease ran out, or the job was deleted): then nothing is changed.
-- KEYS: worker hash, started registry, finished registry, job hash, results.
-- ARGV: worker's name, job's id, execution's id, result (Base64) or '', result_ttl, started, ended (seconds each),
-- ended (RQ's format), seconds that it ran, '1' if it depended on others, '1' if something follows its end.
-- Begins with outbox.lua.
local worker, started, finished, job, results = KEYS[1], KEYS[2], KEYS[3], KEYS[4], KEYS[5]
local name, id, execution, value, ttl = ARGV[1], ARGV[2], ARGV[3], ARGV[4], tonumber(ARGV[5])
local member = id .. ':' .. execution
if redis.call('ZREM', started, member) == 0 then return 0 end

local function keep(key)
  if value == '' then
    return redis.pcall('XADD', key, 'MAXLEN', '~', 10, '*', 'type', 1, 'worker_name', name, 'execution_id', execution,
      'execution_started_at', ARGV[6], 'execution_ended_at', ARGV[7])
  end
  return redis.pcall('XADD', key, 'MAXLEN', '~', 10, '*', 'type', 1, 'worker_name', name, 'return_value', value,
    'execution_id', execution, 'execution_started_at', ARGV[6], 'execution_ended_at', ARGV[7])
end
keep('jobline:result') -- a stream is made with room for 4 KB, a copy of it with none to spare
if redis.call('COPY', 'jobline:result', results) == 0 then -- there are results of earlier attempts
  local kept = keep(results)
  if type(kept) == 'table' and kept.err then redis.call('COPY', 'jobline:result', results, 'REPLACE') end
end
redis.call('DEL', 'jobline:result')

if tonumber(ARGV[9]) > 0.5 then -- else no beat has made a record of it
  redis.call('DEL', 'rq:execution:' .. id .. ':' .. execution)
  redis.call('ZREM', 'rq:executions:' .. id, execution)
end
redis.call('HINCRBY', worker, 'successful_job_count', 1)
redis.call('HINCRBYFLOAT', worker, 'total_working_time', ARGV[9])
if redis.call('HSET', job, 'status', 'finished', 'ended_at', ARGV[8], 'last_heartbeat', ARGV[8]) == 3 then
  redis.call('DEL', job, results) -- it was deleted while it ran, and this made it anew
  return 0
end
local dependents = redis.call('SMEMBERS', job .. ':dependents')
if ttl < 0 then
  redis.call('PERSIST', results)
  redis.call('PERSIST', job)
  redis.call('ZADD', finished, '+inf', id)
else
  redis.call('EXPIRE', results, ttl)
  redis.call('ZADD', finished, math.floor(tonumber(ARGV[7])) + ttl, id)
  redis.call('EXPIRE', job, ttl)
  if #dependents > 0 then redis.call('EXPIRE', job .. ':dependents', ttl) end
  if ARGV[10] == '1' then redis.call('EXPIRE', 'rq:job::' .. id .. ':dependencies', ttl) end
end

-- As rq.Queue.enqueue_dependents (RQ 2.12): those that are deferred and wait for nothing else.
for _, waiting in ipairs(dependents) do
  local key = 'rq:job:' .. waiting
  local said = redis.call('HMGET', key, 'status', 'origin', 'ttl', 'enqueue_at_front', 'allow_dependency_failures', 'timeout')
  local met = said[1] == 'deferred'
  if met then
    for _, other in ipairs(redis.call('SMEMBERS', 'rq:job::' .. waiting .. ':dependencies')) do
      local state = redis.call('HGET', 'rq:job:' .. other, 'status')
      met = met and (not state or state == 'finished' or (state == 'failed' and said[5] == '1'))
    end
  end
  if met then
    local queue = 'rq:queue:' .. said[2]
    redis.call('ZREM', 'rq:deferred:' .. said[2], waiting)
    redis.call('HSET', key, 'status', 'queued', 'enqueued_at', ARGV[8])
    if tonumber(said[3] or '') then redis.call('EXPIRE', key, said[3]) end
    redis.call('SADD', 'rq:queues', queue)
    redis.call(said[4] == '1' and 'LPUSH' or 'RPUSH', queue, waiting)
    redis.call('SREM', job .. ':dependents', waiting)
    tell(waiting, said[2], 'queued')
  end
end
tell(id, string.sub(finished, 13), 'finished') -- without 'rq:finished:'
if ARGV[11] == '1' then ended(job, id, 'type', 1, 'return_value', value) end
return 1

-- End an execution whose worker is lost, and settle its job in the same step. Returns 0 if it had ended already.
-- KEYS: started registry, job hash, results. ARGV: queue, job's id, execution's id, outcome, now (RQ's format), now
-- (seconds), the failure (Base64), failure_ttl, seconds to wait for the retry, when the attempt began (seconds, or '').
-- Begins with limits/library.lua and outbox.lua.
local started, job, results = KEYS[1], KEYS[2], KEYS[3]
local queue, id, execution, outcome = ARGV[1], ARGV[2], ARGV[3], ARGV[4]
local now, seconds, ttl, wait = ARGV[5], math.floor(tonumber(ARGV[6])), tonumber(ARGV[8]), tonumber(ARGV[9])
redis.call('ZADD', started, 'XX', 0, '') -- changes nothing, and is refused while memory is full, as ZREM is not
if redis.call('ZREM', started, id .. ':' .. execution) == 0 then return 0 end
redis.call('DEL', 'rq:execution:' .. id .. ':' .. execution)
redis.call('ZREM', 'rq:executions:' .. id, execution)
if redis.call('TYPE', job).ok ~= 'hash' then return 1 end
local limits = redis.call('HGET', job, 'limits')
if limits then release(limits, queue, id, execution) end
local states = { returned = 'queued', again = 'queued', retried = wait > 0 and 'scheduled' or 'queued' }
tell(id, queue, states[outcome] or outcome)

-- What became of the attempt, as rq.results.Result (RQ 2.12) keeps it; nothing of a job that was not begun.
local FAILED, RETRIED = 2, 4
local function keep_attempt(kind)
  local said = redis.call('HMGET', job, 'status', 'worker_name')
  if kind == RETRIED and said[1] ~= 'started' then return end
  local entry = { 'type', kind, 'worker_name', said[2] or '', 'exc_string', ARGV[7], 'execution_id', execution,
    'execution_ended_at', ARGV[6] }
  if ARGV[10] ~= '' then
    entry[#entry + 1] = 'execution_started_at'
    entry[#entry + 1] = ARGV[10]
  end
  redis.pcall('XADD', results, 'MAXLEN', '~', 10, '*', unpack(entry))
  if ttl >= 0 then redis.call('EXPIRE', results, ttl) else redis.call('PERSIST', results) end
end

local function push(command)
  redis.call('HSET', job, 'status', 'queued', 'worker_name', '', 'started_at', '')
  local life = tonumber(redis.call('HGET', job, 'ttl') or '')
  if life and life > 0 then redis.call('EXPIRE', job, life) end
  redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
  redis.call(command, 'rq:queue:' .. queue, id)
end

keep_attempt((outcome == 'failed' or outcome == 'stopped') and FAILED or RETRIED)
if outcome == 'returned' then
  push('LPUSH')
elseif outcome == 'again' then
  redis.call('HINCRBY', job, 'losses', 1)
  push('LPUSH')
elseif outcome == 'retried' then
  redis.call('HINCRBY', job, 'retries_left', -1)
  if wait > 0 then
    redis.call('HSET', job, 'status', 'scheduled')
    redis.call('HDEL', job, 'waits_for') -- it waits for its retry
    redis.call('ZADD', 'rq:scheduled:' .. queue, math.ceil(clock() + wait), id)
  else
    redis.call('HSET', job, 'enqueued_at', now)
    push(redis.call('HGET', job, 'enqueue_at_front_on_retry') == '1' and 'LPUSH' or 'RPUSH')
  end
else
  redis.call('HSET', job, 'status', outcome, 'ended_at', now)
  redis.call('ZADD', 'rq:failed:' .. queue, ttl < 0 and ttl or seconds + ttl, id)
  ended(job, id, 'type', FAILED, 'exc_string', ARGV[7])
  if ttl >= 0 then -- RQ keeps nothing of a job whose failure_ttl is 0
    for _, key in ipairs({ job, job .. ':dependents', 'rq:job::' .. id .. ':dependencies' }) do
      redis.call('EXPIRE', key, ttl)
    end
  end
end
return 1

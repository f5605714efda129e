-- Change a job that has not started: 'ok', 'again' if its meta is not what was expected, else the state that forbids
-- it, nil if there is no such job. What is left is what RQ 2.12 would have written had it been enqueued so.
-- KEYS: job hash. ARGV: id, now (RQ's format), another queue or '', when to run (seconds, 'now', or '' as it was), 1 to
-- put it at the front, 1 if the timeout changes, 1 if meta is expected, the meta, how many queues there may be or '',
-- then fields with new values. 'queues' if there would be more. Begins with queue_limit.lua and move.lua.
local job, id, now, at = KEYS[1], ARGV[1], ARGV[2], ARGV[4]
local front, expected = ARGV[5] == '1', ARGV[7] == '1' and ARGV[8]
local said = redis.call('HMGET', job, 'status', 'origin', 'meta', 'ttl', 'enqueue_at_front', 'waits_for')
local state, old = said[1], said[2] or ''
if not state then return nil end
if expected and (said[3] or '') ~= expected then return 'again' end
local queue = ARGV[3] ~= '' and ARGV[3] or old
if ARGV[9] ~= '' and one_too_many(queue, ARGV[9]) then return 'queues' end
local later = at ~= '' and at ~= 'now' and at

-- It waits for no limit any more: the next claim asks again.
local function forget_limit()
  redis.call('LREM', 'jobline:limit:' .. said[6] .. ':waiting', 1, id)
  redis.call('HDEL', job, 'waits_for')
end

local function push()
  redis.call('HSET', job, 'status', 'queued')
  redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
  redis.call(front and 'LPUSH' or 'RPUSH', 'rq:queue:' .. queue, id)
end

local function schedule(seconds)
  redis.call('HSET', job, 'status', 'scheduled')
  if front then redis.call('HSET', job, 'enqueue_at_front', 1) end
  redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
  redis.call('ZADD', 'rq:scheduled:' .. queue, seconds, id)
end

if state == 'queued' then
  local list = 'rq:queue:' .. old
  if later or front or queue ~= old then
    if redis.call('LREM', list, -1, id) == 0 then return 'started' end
    if later then
      redis.call('HDEL', job, 'enqueued_at')
      if said[6] then forget_limit() end
      schedule(later)
    else
      push()
    end
  elseif not redis.call('LPOS', list, id) then
    return 'started'
  end
elseif state == 'scheduled' then
  local due = redis.call('ZSCORE', 'rq:scheduled:' .. old, id)
  if not due then return 'started' end
  if said[6] and (at ~= '' or queue ~= old) then
    forget_limit()
    if not later then at = 'now' end
  end
  redis.call('ZREM', 'rq:scheduled:' .. old, id)
  if at == 'now' then
    front = front or said[5] == '1'
    redis.call('HSET', job, 'enqueued_at', now)
    if tonumber(said[4] or '') then redis.call('EXPIRE', job, said[4]) end
    push()
  else
    schedule(later or due)
  end
elseif state == 'deferred' then
  local since = redis.call('ZSCORE', 'rq:deferred:' .. old, id)
  if at ~= '' or front or ARGV[6] == '1' or not since then return state end
  redis.call('ZREM', 'rq:deferred:' .. old, id)
  redis.call('ZADD', 'rq:deferred:' .. queue, since, id)
  redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
else
  return state
end

move_limits(job, old, queue)
redis.call('HSET', job, 'origin', queue, unpack(ARGV, 10))
return 'ok'

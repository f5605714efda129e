-- Cancel a job that has not started: 'ok', else the state that forbids it, nil if there is no such job.
-- KEYS: job hash, note of its end. ARGV: id, now (RQ's format), now (seconds), seconds to keep the note, failure_ttl of a
-- job that has none, and the reason if there is one.
-- Begins with outbox.lua.
local state = redis.call('HGET', KEYS[1], 'status')
if not state then return nil end
local queue, id = redis.call('HGET', KEYS[1], 'origin') or '', ARGV[1]
local taken = 0
if state == 'queued' then
  taken = redis.call('LREM', 'rq:queue:' .. queue, -1, id) -- many are canceled newest first
  if taken == 0 then return 'started' end
elseif state == 'scheduled' or state == 'deferred' then
  taken = redis.call('ZREM', 'rq:' .. state .. ':' .. queue, id)
elseif state ~= 'created' then
  return state
end
redis.call('HSET', KEYS[1], 'status', 'canceled', 'ended_at', ARGV[2])
if ARGV[6] then redis.call('HSET', KEYS[1], 'reason', ARGV[6]) end
redis.call('ZADD', 'rq:canceled:' .. queue, ARGV[3], id)
local keep = tonumber(redis.call('HGET', KEYS[1], 'failure_ttl') or nil) or tonumber(ARGV[5])
if keep == 0 then keep = ARGV[4] end -- for whoever waits for its end
if tonumber(keep) > 0 then
  for _, key in ipairs({ KEYS[1], KEYS[1] .. ':dependents', 'rq:job::' .. id .. ':dependencies' }) do
    redis.call('EXPIRE', key, keep)
  end
end
tell(id, queue, 'canceled')
ended(KEYS[1], id)
redis.call('XADD', 'jobline:ended', '*', 'status', 'canceled')
redis.call('COPY', 'jobline:ended', KEYS[2], 'REPLACE') -- a stream has room for 4 KB, its copy none to spare
redis.call('DEL', 'jobline:ended')
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 'ok'

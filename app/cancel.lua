-- Cancel a job that has not started: 'ok', else the state that forbids it, nil if there is no such job.
-- KEYS: job hash, note of its end. ARGV: id, now (RQ's format), now (seconds), seconds to keep the note.
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
redis.call('ZADD', 'rq:canceled:' .. queue, ARGV[3], id)
local keep = tonumber(redis.call('HGET', KEYS[1], 'failure_ttl') or '0')
if keep and keep > 0 then redis.call('EXPIRE', KEYS[1], keep) end
tell(id, queue, 'canceled')
ended(KEYS[1], id)
redis.call('XADD', 'jobline:ended', '*', 'status', 'canceled')
redis.call('COPY', 'jobline:ended', KEYS[2], 'REPLACE') -- a stream has room for 4 KB, its copy none to spare
redis.call('DEL', 'jobline:ended')
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 'ok'

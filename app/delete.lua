-- Remove a job and all that is kept of it, unless it runs. Returns 'ok', the state that forbids it, or nil if unknown.
-- KEYS: job hash, note of its end. ARGV: id, now (RQ's format), now (seconds), seconds to keep the note.
local state = redis.call('HGET', KEYS[1], 'status')
if not state then return nil end
local queue, id = redis.call('HGET', KEYS[1], 'origin') or '', ARGV[1]
if state == 'started' then return state end
if state == 'queued' then
  if redis.call('LREM', 'rq:queue:' .. queue, -1, id) == 0 then return 'started' end
end
for _, registry in ipairs({ 'finished', 'failed', 'deferred', 'scheduled', 'canceled' }) do
  redis.call('ZREM', 'rq:' .. registry .. ':' .. queue, id)
end
redis.call('DEL', KEYS[1], KEYS[1] .. ':dependents', 'rq:job::' .. id .. ':dependencies', 'rq:results:' .. id, 'rq:executions:' .. id)
tell(id, queue, 'deleted')
redis.call('XADD', 'jobline:ended', '*', 'status', 'deleted')
redis.call('COPY', 'jobline:ended', KEYS[2], 'REPLACE') -- a stream has room for 4 KB, its copy none to spare
redis.call('DEL', 'jobline:ended')
redis.call('EXPIRE', KEYS[2], ARGV[4])
return 'ok'

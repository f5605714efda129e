-- Put a job that failed, was stopped or canceled back on its queue: 'ok', else its state, nil if unknown.
-- KEYS: job hash, note of its end. ARGV: id, now (RQ's format), now (seconds), seconds to keep a note, and if need be
-- another queue or '', how many queues there may be with it or '', and fields with new values. 'queues' if there would
-- be more. Begins with workflows/reopen.lua, queue_limit.lua and move.lua.
local state = redis.call('HGET', KEYS[1], 'status')
if not state then return nil end
local registries = { failed = 'failed', stopped = 'failed', canceled = 'canceled' }
local registry = registries[state]
if not registry then return state end
if (ARGV[6] or '') ~= '' and one_too_many(ARGV[5], ARGV[6]) then return 'queues' end
local queue, id = redis.call('HGET', KEYS[1], 'origin') or '', ARGV[1]
redis.call('ZREM', 'rq:' .. registry .. ':' .. queue, id)
for n = 7, #ARGV, 2 do redis.call('HSET', KEYS[1], ARGV[n], ARGV[n + 1]) end
if ARGV[5] and ARGV[5] ~= '' then
  move_limits(KEYS[1], queue, ARGV[5])
  queue = ARGV[5]
end
redis.call('HSET', KEYS[1], 'origin', queue, 'status', 'queued', 'enqueued_at', ARGV[2], 'started_at', '', 'ended_at', '', 'worker_name', '')
local waited_for = redis.call('HGET', KEYS[1], 'waits_for') -- it was canceled while it waited
if waited_for then redis.call('LREM', 'jobline:limit:' .. waited_for .. ':waiting', 1, id) end
redis.call('HDEL', KEYS[1], 'exc_info', 'reason', 'waits_for')
for _, key in ipairs({ KEYS[1], KEYS[1] .. ':dependents', 'rq:job::' .. id .. ':dependencies' }) do redis.call('PERSIST', key) end
local ttl = tonumber(redis.call('HGET', KEYS[1], 'ttl') or '')
if ttl then redis.call('EXPIRE', KEYS[1], ttl) end
redis.call('DEL', KEYS[2])
redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
redis.call('RPUSH', 'rq:queue:' .. queue, id)
tell(id, queue, 'queued')
if string.find(redis.call('HGET', KEYS[1], 'follow') or '', 'workflow', 1, true) then reopen(id) end
return 'ok'

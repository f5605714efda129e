-- Move jobs whose time has come to their queue; returns how many left the registry.
-- KEYS: scheduled registry, queue, set of queues. ARGV: now (seconds), now (RQ's format), how many at most.
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, id in ipairs(due) do
  local job = 'rq:job:' .. id
  redis.call('ZREM', KEYS[1], id)
  if redis.call('TYPE', job).ok == 'hash' then
    local said = redis.call('HMGET', job, 'ttl', 'enqueue_at_front', 'waits_for')
    local ttl = tonumber(said[1] or '')
    redis.call('HSET', job, 'status', 'queued', 'enqueued_at', ARGV[2])
    if ttl and ttl > 0 then redis.call('EXPIRE', job, ttl) end
    if said[3] and string.sub(said[3], 1, 8) == 'breaker:' then redis.call('HDEL', job, 'waits_for') end
    if said[2] == '1' then
      redis.call('LPUSH', KEYS[2], id)
    else
      redis.call('RPUSH', KEYS[2], id)
    end
    tell(id, string.sub(KEYS[2], 10), 'queued') -- without 'rq:queue:'
  end
end
if #due > 0 then redis.call('SADD', KEYS[3], KEYS[2]) end
return #due

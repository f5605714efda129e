-- Move jobs whose time has come to their queue; returns how many left the registry.
-- KEYS: scheduled registry, queue, set of queues. ARGV: now (seconds), now (RQ's format), how many at most.
local due = redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', ARGV[1], 'LIMIT', 0, ARGV[3])
for _, id in ipairs(due) do
  local job = 'rq:job:' .. id
  redis.call('ZREM', KEYS[1], id)
  if redis.call('TYPE', job).ok == 'hash' then
    redis.call('HSET', job, 'status', 'queued', 'enqueued_at', ARGV[2])
    local ttl = tonumber(redis.call('HGET', job, 'ttl') or '')
    if ttl and ttl > 0 then redis.call('EXPIRE', job, ttl) end
    if redis.call('HGET', job, 'enqueue_at_front') == '1' then
      redis.call('LPUSH', KEYS[2], id)
    else
      redis.call('RPUSH', KEYS[2], id)
    end
    tell(id, string.sub(KEYS[2], 10), 'queued') -- without 'rq:queue:'
  end
end
if #due > 0 then redis.call('SADD', KEYS[3], KEYS[2]) end
return #due

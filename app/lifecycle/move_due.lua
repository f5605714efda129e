-- Queue due jobs, up to `count`, earliest first. Returns the number removed from the registry.
-- args: queue now now_seconds count
-- uses: redis/job
local registry = registry_key('scheduled', queue)
local due = redis.call('ZRANGEBYSCORE', registry, '-inf', now_seconds, 'LIMIT', 0, count)
local ids = { [TAIL] = {}, [FRONT] = {} }
for _, id in ipairs(due) do
  local job = job_key(id)
  redis.call('ZREM', registry, id)
  if redis.call('TYPE', job).ok == 'hash' then
    local at_front, waits_for = unpack(redis.call('HMGET', job, 'enqueue_at_front', 'waits_for'))
    if waits_for and string.sub(waits_for, 1, 8) == 'breaker:' then redis.call('HDEL', job, 'waits_for') end
    table.insert(ids[end_of(at_front)], id)
  end
end
for position, some in pairs(ids) do
  if #some > 0 then queue_jobs(queue, some, position, now) end
end
return #due

-- Queue due jobs of all queues, up to `count`, of each queue the earliest first. Returns the number removed from the registries,
-- and the names of queues whose keys have another type: their jobs stay where they are.
-- args: now now_seconds count
-- uses: redis/job
local moved, unreadable = 0, {}

local function is_list(key)
  local kind = redis.call('TYPE', key).ok
  return kind == 'list' or kind == 'none'
end

local function move(queue, due)
  local ids = { [TAIL] = {}, [FRONT] = {} }
  for _, id in ipairs(due) do
    local job = job_key(id)
    redis.call('ZREM', registry_key('scheduled', queue), id)
    if redis.call('TYPE', job).ok == 'hash' then
      local at_front, waits_for = unpack(redis.call('HMGET', job, 'enqueue_at_front', 'waits_for'))
      if waits_for and string.sub(waits_for, 1, 8) == 'breaker:' then redis.call('HDEL', job, 'waits_for') end
      table.insert(ids[end_of(at_front)], id)
    end
  end
  for position, some in pairs(ids) do
    if #some > 0 then queue_jobs(queue, some, position, now) end
  end
  moved = moved + #due
end

for _, key in ipairs(redis.call('SMEMBERS', QUEUES)) do
  local queue = queue_of(key)
  local due = redis.pcall('ZRANGEBYSCORE', registry_key('scheduled', queue), '-inf', now_seconds, 'LIMIT', 0, count - moved)
  if due.err or (#due > 0 and not is_list(key)) then
    table.insert(unreadable, queue)
  elseif #due > 0 then
    move(queue, due)
  end
end
return { moved, unreadable }

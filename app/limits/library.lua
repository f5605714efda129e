-- Rate limits, concurrency limits and breakers. A limit is { kind, name, maximum, window }. Jobs that exceed it are scheduled
-- and added to its waiting list. When there is room they are released: they return to the head of their queue, in order, and
-- a slot is reserved for each. LIMITS_WAITING says when to check a limit that has waiting or released jobs.
-- uses: redis/job
local LOOK_AGAIN, LET_GO_LOOK, FALL_BACK = 1, 5, 600 -- seconds
local MAX_PEERS = 100 -- jobs of a queue that are read to find the last released one

local function part(limit, name) return limit_key(limit[2], name) end

-- How many jobs may start now, released ones included, and when to check again.
local function room(limit, now)
  if limit[1] == 'slots' then return limit[3] - redis.call('SCARD', part(limit, 'held')), now + LOOK_AGAIN end
  local starts = part(limit, 'starts')
  local oldest = tonumber(redis.call('LINDEX', starts, -1) or nil)
  if oldest and oldest > now then -- the clock was set back: count future starts as of now
    for n = 1, redis.call('LLEN', starts) do
      if tonumber(redis.call('LINDEX', starts, -n)) <= now then break end
      redis.call('LSET', starts, -n, string.format('%.6f', now))
    end
    oldest = tonumber(redis.call('LINDEX', starts, -1))
  end
  while oldest and oldest <= now - limit[4] do
    redis.call('RPOP', starts)
    oldest = tonumber(redis.call('LINDEX', starts, -1) or nil)
  end
  return limit[3] - redis.call('LLEN', starts), (oldest or now) + limit[4]
end

-- The last released job of a queue that was not claimed yet. Released jobs are at the head, unless others were put there.
local function last_let_go(queue, let_go_key)
  local count = redis.call('SCARD', let_go_key)
  local ids = count > 0 and redis.call('LRANGE', queue_key(queue), math.max(0, count - MAX_PEERS), count - 1) or {}
  local known = #ids > 0 and redis.call('SMISMEMBER', let_go_key, unpack(ids)) or {}
  for n = #ids, 1, -1 do
    if known[n] == 1 then return ids[n] end
  end
end

-- Release waiting jobs while the limit has room: after those released before.
local function let_go(limit, now)
  local waiting, let_go_key, by_queue = part(limit, 'waiting'), part(limit, 'let_go'), {}
  local free, next_at = room(limit, now)
  free = free - redis.call('SCARD', let_go_key)
  while free > 0 do
    local id = redis.call('LPOP', waiting)
    if not id then break end
    local job = job_key(id)
    local queue, waits_for = unpack(redis.call('HMGET', job, 'origin', 'waits_for'))
    if waits_for == limit[2] then redis.call('HDEL', job, 'waits_for') end -- it is no longer in the list
    if queue and redis.call('ZREM', registry_key('scheduled', queue), id) == 1 then -- otherwise it became due, or was deleted
      by_queue[queue] = by_queue[queue] or {}
      table.insert(by_queue[queue], id)
      free = free - 1
    end
  end
  for queue, ids in pairs(by_queue) do
    queue_jobs(queue, ids, HEAD, nil, last_let_go(queue, let_go_key))
    redis.call('SADD', let_go_key, unpack(ids))
  end
  if redis.call('EXISTS', waiting) == 1 then
    if redis.call('EXISTS', let_go_key) == 1 then next_at = math.min(next_at, now + LOOK_AGAIN) end -- a slot may be freed
    redis.call('ZADD', LIMITS_WAITING, next_at, cjson.encode(limit))
  elseif redis.call('EXISTS', let_go_key) == 1 then -- a released job may never start: it was deleted, or expired
    redis.call('ZADD', LIMITS_WAITING, now + LET_GO_LOOK, cjson.encode(limit))
  else
    redis.call('ZREM', LIMITS_WAITING, cjson.encode(limit))
  end
end

-- Postpone a job that exceeds one of its limits.
local function put_off(id, queue, limit, now, was_let_go)
  local job, waiting, at = job_key(id), part(limit, 'waiting'), now + FALL_BACK
  if limit[1] == 'breaker' then
    at = now + (redis.call('PTTL', breaker_key(limit[2], 'open')) + 1) / 1000 -- the breaker is still open in that millisecond
    stop_waiting(id) -- for another of its limits
    redis.call('HSET', job, 'waits_for', 'breaker:function:' .. limit[2])
    schedule_job(id, queue, at)
    return
  end
  if redis.call('HGET', job, 'waits_for') ~= limit[2] then -- otherwise it is in the list already
    stop_waiting(id) -- it may wait for another of its limits
    redis.call('HSET', job, 'waits_for', limit[2])
    redis.call(was_let_go and 'LPUSH' or 'RPUSH', waiting, id)
  end
  local length = redis.call('LLEN', waiting)
  if limit[1] == 'rate' then at = now + limit[4] * math.ceil(length / limit[3]) + LOOK_AGAIN end
  if length == 1 then redis.call('PUBLISH', SCHEDULER_WAKE, '') end
  schedule_job(id, queue, at)
  let_go(limit, now)
end

-- Release the slots of an ended execution, and then waiting jobs. Idempotent. `limits`: JSON, as in the job's hash.
local function release(limits, queue, id, execution)
  local now = clock()
  for _, limit in ipairs(cjson.decode(limits)) do
    if limit[1] == 'slots' then
      local held = redis.call('SREM', part(limit, 'held'), queue .. '|' .. id .. ':' .. execution) == 1
      if held and redis.call('EXISTS', part(limit, 'waiting')) == 1 then let_go(limit, now) end
    end
  end
end

-- Whether a claimed job may start as this execution; otherwise it is postponed.
local function admit(id, queue, execution, limits, now)
  for _, limit in ipairs(limits) do
    if limit[1] == 'breaker' then
      if redis.call('EXISTS', breaker_key(limit[2], 'open')) == 1 then
        put_off(id, queue, limit, now)
        return false
      end
    else
      local reserved = redis.call('SCARD', part(limit, 'let_go'))
      local was_let_go = reserved > 0 and redis.call('SREM', part(limit, 'let_go'), id) == 1
      if was_let_go then reserved = reserved - 1 end
      local others_wait = not was_let_go and redis.call('EXISTS', part(limit, 'waiting')) == 1
      if room(limit, now) - reserved < 1 or others_wait then
        put_off(id, queue, limit, now, was_let_go)
        return false
      end
    end
  end
  for _, limit in ipairs(limits) do
    if limit[1] == 'slots' then
      redis.call('SADD', part(limit, 'held'), queue .. '|' .. id .. ':' .. execution)
    elseif limit[1] == 'rate' then
      redis.call('LPUSH', part(limit, 'starts'), string.format('%.6f', now))
      redis.call('EXPIRE', part(limit, 'starts'), math.ceil(limit[4]) + 1)
    end
  end
  return true
end

-- Limits, for the scripts that begin with this library. A limit is { kind, id, most, window }, its keys are
-- jobline:limit:ID:starts (rate: the times of the last `most` starts, the newest first), :held (slots: queue, job and
-- execution of those that run), :waiting (jobs that were put off, in order), :let_go (those of them that are on their
-- queue again, with a place kept for each), and in jobline:limits:waiting when to look at a limit that has either of these.
-- The field `waits_for` of a job's hash is the id of the limit that it waits for, or breaker:function:NAME.
local LOOK_AGAIN, LET_GO_LOOK, FALL_BACK = 1, 5, 600 -- seconds
local PEERS = 100 -- jobs of a queue that are read to find the last one that was let go
local WAITING = 'jobline:limits:waiting'

local function clock()
  local time = redis.call('TIME')
  return tonumber(time[1]) + tonumber(time[2]) / 1000000
end

local function key(limit, what) return 'jobline:limit:' .. limit[2] .. ':' .. what end

-- How many may begin now, those let go included; for a rate, when the next one may.
local function room(limit, now)
  if limit[1] == 'slots' then return limit[3] - redis.call('SCARD', key(limit, 'held')), now + LOOK_AGAIN end
  local starts = key(limit, 'starts')
  local oldest = tonumber(redis.call('LINDEX', starts, -1) or nil)
  if oldest and oldest > now then -- the clock was put back: they count as if they were of now
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

-- The last job of a queue that was let go before and not taken yet. These are at the head, if nothing came before them since.
local function last_let_go(queue, gone)
  local count = redis.call('SCARD', gone)
  local ids = count > 0 and redis.call('LRANGE', queue, math.max(0, count - PEERS), count - 1) or {}
  local known = #ids > 0 and redis.call('SMISMEMBER', gone, unpack(ids)) or {}
  for n = #ids, 1, -1 do
    if known[n] == 1 then return ids[n] end
  end
  return false
end

-- Put jobs that wait for a limit back on their queues while it has room: at the head, behind those let go before.
local function let_go(limit, now)
  local waiting, gone, places = key(limit, 'waiting'), key(limit, 'let_go'), {}
  local free, next_at = room(limit, now)
  free = free - redis.call('SCARD', gone)
  while #places < free do
    local id = redis.call('LPOP', waiting)
    if not id then break end
    local job = 'rq:job:' .. id
    local said = redis.call('HMGET', job, 'origin', 'waits_for')
    local queue = said[1]
    if said[2] == limit[2] then redis.call('HDEL', job, 'waits_for') end -- it is in the list no more
    if queue and redis.call('ZREM', 'rq:scheduled:' .. queue, id) == 1 then -- else it was canceled meanwhile
      redis.call('HSET', job, 'status', 'queued')
      tell(id, queue, 'queued')
      places[#places + 1] = { 'rq:queue:' .. queue, id }
    end
  end
  local behind = {}
  for n = #places, 1, -1 do
    local queue, id = places[n][1], places[n][2]
    if behind[queue] == nil then behind[queue] = last_let_go(queue, gone) end
    if behind[queue] then
      redis.call('LINSERT', queue, 'AFTER', behind[queue], id)
    else
      redis.call('LPUSH', queue, id)
    end
  end
  for _, place in ipairs(places) do redis.call('SADD', gone, place[2]) end
  if redis.call('EXISTS', waiting) == 1 then
    if redis.call('EXISTS', gone) == 1 then next_at = math.min(next_at, now + LOOK_AGAIN) end -- a place may be given up
    redis.call('ZADD', WAITING, next_at, cjson.encode(limit))
  elseif redis.call('EXISTS', gone) == 1 then -- one of these may never begin: it was deleted, or its ttl ran out
    redis.call('ZADD', WAITING, now + LET_GO_LOOK, cjson.encode(limit))
  else
    redis.call('ZREM', WAITING, cjson.encode(limit))
  end
end

-- Put a job off that one of its limits refuses.
local function put_off(id, queue, limit, now, was_let_go)
  local job, waiting, at = 'rq:job:' .. id, key(limit, 'waiting'), now + FALL_BACK
  redis.call('HSET', job, 'status', 'scheduled')
  if limit[1] == 'breaker' then
    at = now + (redis.call('PTTL', 'jobline:breaker:' .. limit[2] .. ':open') + 1) / 1000 -- it is open in that millisecond
    redis.call('HSET', job, 'waits_for', 'breaker:function:' .. limit[2])
  else
    if redis.call('HGET', job, 'waits_for') ~= limit[2] then -- else it is in the list already
      redis.call('HSET', job, 'waits_for', limit[2])
      redis.call(was_let_go and 'LPUSH' or 'RPUSH', waiting, id)
    end
    local length = redis.call('LLEN', waiting)
    if limit[1] == 'rate' then at = now + limit[4] * math.ceil(length / limit[3]) + LOOK_AGAIN end
    if length == 1 then redis.call('PUBLISH', 'jobline:scheduler:wake', '') end
  end
  redis.call('ZADD', 'rq:scheduled:' .. queue, at, id)
  tell(id, queue, 'scheduled')
  if limit[1] ~= 'breaker' then let_go(limit, now) end
end

-- An execution is over: what waited for its place may begin. Sent again it changes nothing. `limits`: JSON, as the job's
-- hash has them.
local function release(limits, queue, id, execution)
  local now = clock()
  for _, limit in ipairs(cjson.decode(limits)) do
    if limit[1] == 'slots' then
      local held = redis.call('SREM', key(limit, 'held'), queue .. '|' .. id .. ':' .. execution) == 1
      if held and redis.call('EXISTS', key(limit, 'waiting')) == 1 then let_go(limit, now) end
    end
  end
end

-- Whether a job that was taken from its queue may begin as this execution; else it is put off.
local function admit(id, queue, execution, limits, now)
  for _, limit in ipairs(limits) do
    if limit[1] == 'breaker' then
      if redis.call('EXISTS', 'jobline:breaker:' .. limit[2] .. ':open') == 1 then
        put_off(id, queue, limit, now)
        return false
      end
    else
      local gone = redis.call('SCARD', key(limit, 'let_go'))
      local was_let_go = gone > 0 and redis.call('SREM', key(limit, 'let_go'), id) == 1
      if was_let_go then gone = gone - 1 end
      if room(limit, now) - gone < 1 or (not was_let_go and redis.call('EXISTS', key(limit, 'waiting')) == 1) then
        put_off(id, queue, limit, now, was_let_go)
        return false
      end
    end
  end
  for _, limit in ipairs(limits) do
    if limit[1] == 'slots' then
      redis.call('SADD', key(limit, 'held'), queue .. '|' .. id .. ':' .. execution)
    elseif limit[1] == 'rate' then
      redis.call('LPUSH', key(limit, 'starts'), string.format('%.6f', now))
      redis.call('EXPIRE', key(limit, 'starts'), math.ceil(limit[4]) + 1)
    end
  end
  return true
end

-- Let what goes by elapsed time go on after the clock was put back: jobs that are delayed, or wait for a retry or a
-- limit, are due as many seconds sooner, and limits are looked at at once. Then note the time.
-- KEYS: the time that was noted, set of queues. ARGV: seconds that it was put back by, now (seconds).
local by, now = tonumber(ARGV[1]), ARGV[2]
if redis.call('GET', KEYS[1]) == now then return end -- sent again, for its answer was lost
for _, queue in ipairs(redis.call('SMEMBERS', KEYS[2])) do
  local scheduled = 'rq:scheduled:' .. string.sub(queue, 10) -- without 'rq:queue:'
  local entries = redis.call('ZRANGEBYSCORE', scheduled, '(' .. now, '+inf', 'WITHSCORES')
  for n = 1, #entries, 2 do
    local id, due = entries[n], tonumber(entries[n + 1])
    local said = redis.pcall('HMGET', 'rq:job:' .. id, 'delayed', 'wait', 'waits_for', 'attempts')
    if said[1] or said[2] or said[3] or said[4] then -- else it has a time of its own, or is no hash
      redis.call('ZADD', scheduled, math.ceil(due - by), id)
    end
  end
end
local waiting = 'jobline:limits:waiting'
for _, limit in ipairs(redis.call('ZRANGE', waiting, 0, -1)) do redis.call('ZADD', waiting, now, limit) end
redis.call('SET', KEYS[1], now)

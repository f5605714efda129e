-- Let what goes by elapsed time go on after the clock was put back: jobs that are delayed, or wait for a retry or a limit, are
-- due as many seconds sooner, and limits are looked at at once. Then note the time. `seconds`: how far; `now`: since 1970.
-- args: seconds now
-- uses: redis/job
if redis.call('GET', CLOCK) == now then return end -- sent again, for its answer was lost
for _, key in ipairs(redis.call('SMEMBERS', QUEUES)) do
  local queue = queue_of(key)
  local entries = redis.call('ZRANGEBYSCORE', registry_key('scheduled', queue), '(' .. now, '+inf', 'WITHSCORES')
  for n = 1, #entries, 2 do
    local id, due = entries[n], tonumber(entries[n + 1])
    local fields = redis.pcall('HMGET', job_key(id), 'delayed', 'wait', 'waits_for', 'attempts')
    if fields[1] or fields[2] or fields[3] or fields[4] then -- else it has a time of its own, or is no hash
      reschedule(id, queue, math.ceil(due - seconds))
    end
  end
end
for _, limit in ipairs(redis.call('ZRANGE', LIMITS_WAITING, 0, -1)) do redis.call('ZADD', LIMITS_WAITING, now, limit) end
redis.call('SET', CLOCK, now)

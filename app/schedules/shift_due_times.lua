-- Make everything that is measured in elapsed time due `seconds` sooner, after the clock was set back: delayed jobs, jobs
-- waiting for a retry or a limit, and the next check of each limit. Then record the time. `now`: seconds since 1970.
-- args: seconds now
-- uses: redis/job
if redis.call('GET', CLOCK) == now then return end -- resent after its reply was lost
for _, key in ipairs(redis.call('SMEMBERS', QUEUES)) do
  local queue = queue_of(key)
  local entries = redis.call('ZRANGEBYSCORE', registry_key('scheduled', queue), '(' .. now, '+inf', 'WITHSCORES')
  for n = 1, #entries, 2 do
    local id, due = entries[n], tonumber(entries[n + 1])
    local fields = redis.pcall('HMGET', job_key(id), 'delayed', 'wait', 'waits_for', 'attempts')
    if fields[1] or fields[2] or fields[3] or fields[4] then -- else it has a fixed time, or is not a hash
      reschedule(id, queue, math.ceil(due - seconds))
    end
  end
end
for _, limit in ipairs(redis.call('ZRANGE', LIMITS_WAITING, 0, -1)) do redis.call('ZADD', LIMITS_WAITING, now, limit) end
redis.call('SET', CLOCK, now)

-- Check the limits that are due: free the slots of lost executions and deleted jobs, then release waiting jobs. Returns the
-- seconds until the next check.
-- args:
-- uses: limits/library
local MAX_LIMITS = 1000 -- in one check
local now = clock()
for _, text in ipairs(redis.call('ZRANGEBYSCORE', LIMITS_WAITING, '-inf', now, 'LIMIT', 0, MAX_LIMITS)) do
  local limit = cjson.decode(text)
  local held, let_go_key = part(limit, 'held'), part(limit, 'let_go')
  for _, member in ipairs(redis.call('SMEMBERS', held)) do
    local bar = string.find(member, '|', 1, true)
    local queue, execution = string.sub(member, 1, bar - 1), string.sub(member, bar + 1)
    if not redis.call('ZSCORE', registry_key('wip', queue), execution) then redis.call('SREM', held, member) end
  end
  for _, id in ipairs(redis.call('SMEMBERS', let_go_key)) do
    if redis.call('HGET', job_key(id), 'status') ~= 'queued' then redis.call('SREM', let_go_key, id) end
  end
  let_go(limit, now)
end
local first = redis.call('ZRANGE', LIMITS_WAITING, 0, 0, 'WITHSCORES')
return tostring(first[2] and math.max(0, tonumber(first[2]) - now) or 3600)

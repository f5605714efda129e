-- Let go what limits have room for, when their time has come; first take back the places of executions and jobs that are
-- no more. Returns the seconds until the next look.
local MOST = 1000 -- limits in one look
local now = clock()
for _, text in ipairs(redis.call('ZRANGEBYSCORE', WAITING, '-inf', now, 'LIMIT', 0, MOST)) do
  local limit = cjson.decode(text)
  local held, gone = key(limit, 'held'), key(limit, 'let_go')
  for _, member in ipairs(redis.call('SMEMBERS', held)) do
    local bar = string.find(member, '|', 1, true)
    local queue, execution = string.sub(member, 1, bar - 1), string.sub(member, bar + 1)
    if not redis.call('ZSCORE', 'rq:wip:' .. queue, execution) then redis.call('SREM', held, member) end
  end
  for _, id in ipairs(redis.call('SMEMBERS', gone)) do
    if redis.call('HGET', 'rq:job:' .. id, 'status') ~= 'queued' then redis.call('SREM', gone, id) end
  end
  let_go(limit, now)
end
local first = redis.call('ZRANGE', WAITING, 0, 0, 'WITHSCORES')
return tostring(first[2] and math.max(0, tonumber(first[2]) - now) or 3600)

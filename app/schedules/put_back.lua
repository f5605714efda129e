-- Put a job that is queued, and in no list and in no worker's hand, at the end of its queue. Returns 1 if it was so.
-- KEYS: job hash. ARGV: id.
local is = redis.call('HMGET', KEYS[1], 'status', 'origin')
if is[1] ~= 'queued' or not is[2] then return 0 end
local queue, id = 'rq:queue:' .. is[2], ARGV[1]
for _, member in ipairs(redis.call('ZRANGE', 'rq:wip:' .. is[2], 0, -1)) do
  if string.sub(member, 1, #id + 1) == id .. ':' then return 0 end
end
if redis.call('LPOS', queue, id) or redis.call('LPOS', queue .. ':intermediate', id) then return 0 end
redis.call('SADD', 'rq:queues', queue)
redis.call('RPUSH', queue, id)
tell(id, is[2], 'queued')
return 1

-- Take queues without jobs out of RQ's set of queues; returns how many. ARGV: their names.
local removed = 0
for _, name in ipairs(ARGV) do
  local keys = { 'rq:queue:' .. name, 'rq:queue:' .. name .. ':intermediate' }
  for _, registry in ipairs({ 'wip', 'scheduled', 'deferred', 'failed', 'finished', 'canceled' }) do
    keys[#keys + 1] = 'rq:' .. registry .. ':' .. name
  end
  if redis.call('EXISTS', unpack(keys)) == 0 and redis.call('SISMEMBER', 'jobline:paused', name) == 0 then
    removed = removed + redis.call('SREM', 'rq:queues', 'rq:queue:' .. name)
  end
end
return removed

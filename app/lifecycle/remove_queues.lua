-- Remove queues without jobs from RQ's set of queues, unless they are paused. Returns their number.
-- args:
-- rest: names
local removed = 0
for n = NAMES, #ARGV do
  local name = ARGV[n]
  local keys = { queue_key(name), queue_key(name) .. ':intermediate' }
  for _, registry in ipairs({ 'wip', 'scheduled', 'deferred', 'failed', 'finished', 'canceled' }) do
    keys[#keys + 1] = registry_key(registry, name)
  end
  if redis.call('EXISTS', unpack(keys)) == 0 and redis.call('SISMEMBER', PAUSED, name) == 0 then
    removed = removed + redis.call('SREM', QUEUES, queue_key(name))
  end
end
return removed

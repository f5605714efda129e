-- Read RQ's started registries of all queues. Returns queue, JOB:EXECUTION and score of each execution whose score is at most
-- `ends_by`. A registry of another type is left out.
-- args: ends_by
-- uses: redis/job
local entries = {}
for _, key in ipairs(redis.call('SMEMBERS', QUEUES)) do
  local queue = queue_of(key)
  local read = redis.pcall('ZRANGEBYSCORE', registry_key('wip', queue), '-inf', ends_by, 'WITHSCORES')
  for n = 1, #read, 2 do
    table.insert(entries, queue)
    table.insert(entries, read[n])
    table.insert(entries, read[n + 1])
  end
end
return entries

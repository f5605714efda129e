-- Put a job that is queued, and in no list and in no worker's hand, at the end of its queue. Returns 1 if it was so.
-- args: id
-- uses: redis/job
local status, queue = unpack(redis.call('HMGET', job_key(id), 'status', 'origin'))
if status ~= 'queued' or not queue then return 0 end
for _, member in ipairs(redis.call('ZRANGE', registry_key('wip', queue), 0, -1)) do
  if string.sub(member, 1, #id + 1) == id .. ':' then return 0 end
end
if redis.call('LPOS', queue_key(queue), id) or redis.call('LPOS', intermediate_key(queue), id) then return 0 end
queue_jobs(queue, { id }, TAIL)
return 1

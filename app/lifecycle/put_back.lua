-- Put a job that has status queued, but is in no list and claimed by no worker, at the end of its queue. Returns 1 if so.
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

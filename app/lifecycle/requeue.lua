-- Put a failed, stopped or canceled job at the end of its queue, or of another. Returns 'ok', 'queues' if there would be too
-- many, the status that does not allow it, or nil if there is no such job.
-- args: id now other_queue? queue_limit?
-- rest: fields (of its hash, and their new values)
-- uses: redis/job lifecycle/change_queue workflows/reopen enqueue/queue_limit
local job = job_key(id)
local status, origin, workflow = unpack(redis.call('HMGET', job, 'status', 'origin', 'workflow'))
if not status then return nil end
if status ~= 'failed' and status ~= 'stopped' and status ~= 'canceled' then return status end
if one_too_many(other_queue, queue_limit) then return 'queues' end
local queue = other_queue ~= '' and other_queue or origin or ''
leave(id, origin or '', status)
revive(id)
if ARGV[FIELDS] then redis.call('HSET', job, unpack(ARGV, FIELDS)) end
change_queue(id, origin or '', queue)
queue_jobs(queue, { id }, TAIL, now)
if workflow then reopen(id) end
return 'ok'

-- Delete a job and its keys, unless it runs. Returns 'ok', the status that does not allow it, or nil if there is no such job.
-- args: id
-- uses: redis/job
local status, origin = unpack(redis.call('HMGET', job_key(id), 'status', 'origin'))
if not status then return nil end
if not leave(id, origin or '', status) then return 'started' end
erase(id)
tell(id, origin or '', 'deleted')
return 'ok'

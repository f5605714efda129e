-- Cancel a job that has not started. Returns 'ok', the status that does not allow it, or nil if there is no such job.
-- args: id now now_seconds default_failure_ttl reason?
-- uses: redis/job lifecycle/outbox
local status, origin, failure_ttl = unpack(redis.call('HMGET', job_key(id), 'status', 'origin', 'failure_ttl'))
if not status then return nil end
if status ~= 'created' and status ~= 'queued' and status ~= 'scheduled' and status ~= 'deferred' then return status end
local queue = origin or ''
if not leave(id, queue, status) then return 'started' end
if reason ~= '' then redis.call('HSET', job_key(id), 'reason', reason) end
local kept_for = tonumber(failure_ttl or '') or tonumber(default_failure_ttl)
if kept_for == 0 then kept_for = NOTE_SECONDS end -- for clients that wait for its end
end_job(id, queue, 'canceled', now, tonumber(now_seconds), kept_for, true, true)
return 'ok'

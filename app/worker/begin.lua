-- A claimed job begins. It changes nothing when sent a second time, or when the job was taken from the worker: returns 0.
-- args: worker queue id execution now
-- uses: redis/job
if not redis.call('ZSCORE', registry_key('wip', queue), id .. ':' .. execution) then return 0 end
local status, known_worker, attempts = unpack(redis.call('HMGET', job_key(id), 'status', 'worker_name', 'attempts'))
if not status and redis.call('EXISTS', job_key(id)) == 0 then return 0 end -- deleted meanwhile
if status == 'started' and known_worker == worker then return 1 end
start_job(id, queue, worker, now, (tonumber(attempts or '') or 0) + 1)
redis.call('HSET', worker_key(worker), 'current_job', id, 'current_job_working_time', 0)
return 1

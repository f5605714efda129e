-- Set a field of a job's hash, unless the job is gone: HSET would make the hash anew, with no expiry.
-- args: id field value
if redis.call('EXISTS', job_key(id)) == 1 then redis.call('HSET', job_key(id), field, value) end

-- Set a field of a job's hash if the job exists: HSET alone would create a hash without expiry.
-- args: id field value
if redis.call('EXISTS', job_key(id)) == 1 then redis.call('HSET', job_key(id), field, value) end

-- Set a field of a job's hash, unless the job is gone: HSET would make the hash anew, with no expiry.
-- KEYS: job hash. ARGV: field, value.
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('HSET', KEYS[1], ARGV[1], ARGV[2]) end

-- Advance the workflow and prepare the webhook of a job whose end RQ writes itself, in its transaction. Idempotent: `token`
-- identifies this end. Returns 1 if it was not recorded before.
-- args: id token
-- rest: result_fields (fields and values that the hash does not have yet)
-- uses: lifecycle/outbox
local job = job_key(id)
local fields = redis.pcall('HMGET', job, 'status', 'noted')
if fields.err or not fields[1] or fields[2] == token then return 0 end
redis.call('HSET', job, 'noted', token)
on_end(id, unpack(ARGV, RESULT_FIELDS))
return 1

-- Write a workflow and its jobs, all in one step. Returns { 'ok' } (also if it is there), or { 'kept', value } if the
-- receipt's key holds something (enqueue/enqueue.lua), or { 'queues', name } if there would be too many queues.
-- args: id seconds word_count limited_queues? queue_limit? receipt? receipt_seconds? receipt_request? receipt_answer?
-- rest: words (of the workflow's hash, then the jobs)
-- uses: enqueue/library
local key = workflow_key(id)
if redis.call('EXISTS', key) == 1 then return { 'ok' } end -- sent again after a lost reply
local reply = reply_without_writing(receipt, limited_queues, queue_limit)
if reply then return reply end
local first_job = WORDS + tonumber(word_count)
redis.call('HSET', key, unpack(ARGV, WORDS, first_job - 1))
redis.call('ZADD', WORKFLOWS, seconds, id)
redis.call('SADD', WORKFLOWS_OPEN, id)
write_jobs(read_jobs(first_job), tonumber(seconds))
if receipt ~= '' then keep_receipt(receipt, receipt_seconds, receipt_request, receipt_answer, { id }, id) end
return { 'ok' }

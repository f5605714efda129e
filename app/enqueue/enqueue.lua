-- Write new jobs, all or none. Returns { 'ok', ids } ({ 'ok' } if they are those of the jobs), { 'kept', value } if the key
-- `receipt` exists, or the reason for refusal: { 'taken', id }, { 'unique', holder, status }, { 'running', holder },
-- { 'queues', name }, { 'parent', number of the job, number of the parent, status or '' }, with numbers from 1.
-- `receipt`: the key of an idempotent request, stored for `receipt_seconds` as { request, answer } (JSON), or { request, ids }
-- if the answer is not known yet. `is_new`: 1 if the ids cannot have been written before.
-- args: now_seconds is_new limited_queues? queue_limit? receipt? receipt_seconds? receipt_request? receipt_answer?
-- rest: jobs
-- uses: enqueue/library
local jobs, any_extra = read_jobs(JOBS)
local reply = reply_without_writing(receipt, limited_queues, queue_limit)
if reply then return reply end
local ids, problem, replaced
if any_extra then
  ids, problem, replaced = check_jobs(jobs)
  if problem then return problem end
  for id in pairs(replaced) do replace(id) end
elseif is_new ~= '1' and redis.call('EXISTS', job_key(jobs[1].id)) == 1 then
  return { 'ok' } -- sent again after a lost reply
end
write_jobs(jobs, tonumber(now_seconds))
if receipt ~= '' then
  keep_receipt(receipt, receipt_seconds, receipt_request, receipt_answer, ids or ids_of(jobs), jobs[1].id)
end
return { 'ok', ids }

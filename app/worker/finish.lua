-- Keep the result of a job that succeeded, and queue what waited for it. Returns 1, or 0 if it is no longer this worker's to
-- finish (its lease ran out, or the job was deleted): then nothing is changed. `value`: the result (Base64), or '';
-- `started`, `ended`: seconds since 1970; `has_dependencies`, `has_followers` (a workflow or a webhook), `has_log`: 1 or 0.
-- args: worker queue id execution value result_ttl started ended now spent has_dependencies has_followers has_log
-- uses: redis/job
local RECORD_AFTER = 0.5 -- seconds; no beat makes a record of an execution that is shorter
if not end_execution(id, queue, execution, tonumber(spent) > RECORD_AFTER) then return 0 end
local has_dependents = redis.call('EXISTS', dependents_key(id)) == 1

local function add_result(key)
  local entry = { 'type', 1, 'worker_name', worker, 'execution_id', execution, 'execution_started_at', started,
    'execution_ended_at', ended }
  if value ~= '' then entry[11], entry[12] = 'return_value', value end
  return redis.pcall('XADD', key, 'MAXLEN', '~', 10, '*', unpack(entry))
end
add_result(RESULT) -- a stream is made with room for 4 KB, a copy of it with none to spare
if redis.call('COPY', RESULT, results_key(id)) == 0 then -- there are results of earlier attempts
  local added = add_result(results_key(id))
  if type(added) == 'table' and added.err then redis.call('COPY', RESULT, results_key(id), 'REPLACE') end
end
redis.call('DEL', RESULT)

if not end_job(id, queue, 'finished', now, math.floor(tonumber(ended)), tonumber(result_ttl),
  has_dependents or has_dependencies == '1', has_followers == '1', has_log == '0', 'type', 1, 'return_value', value) then
  redis.call('DEL', results_key(id))
  return 0
end
redis.call('HINCRBY', worker_key(worker), 'successful_job_count', 1)
redis.call('HINCRBYFLOAT', worker_key(worker), 'total_working_time', spent)
return 1

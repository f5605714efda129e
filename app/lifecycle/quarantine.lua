-- Fail an unreadable job and end its execution; the original value of its key is kept. `raw_id`: the id in RQ's keys; `id`:
-- the id under which it is shown; `execution`: '' if none; `failure_ttl`: seconds, for ever if less than 0; `reason`: Base64.
-- args: raw_id id queue execution? now now_seconds failure_ttl reason
-- rest: fields (of the hash that is shown, and their values)
-- uses: redis/job lifecycle/outbox
local FAILED = 2 -- rq.results.Result.Type (RQ 2.12)
local kept_for, kind = tonumber(failure_ttl), redis.call('TYPE', job_key(raw_id)).ok
if kind == 'hash' and redis.call('HGET', job_key(id), 'ended_at') == now then return end -- sent again
local result = { 'type', FAILED, 'worker_name', '', 'exc_string', reason }
if execution ~= '' then end_execution(raw_id, queue, execution, true) end
if kind == 'hash' then on_end(raw_id, 'status', 'failed', 'ended_at', now, unpack(result)) end
if kind ~= 'none' then redis.call('RENAME', job_key(raw_id), unreadable_key(id)) end
redis.call('DEL', results_key(id))
redis.call('XADD', results_key(id), '*', unpack(result))
create_job(id, now, false, '', FIELDS, #ARGV)
end_job(id, queue, 'failed', now, math.floor(tonumber(now_seconds)), kept_for, true, false)
if kept_for >= 0 then redis.call('EXPIRE', unreadable_key(id), kept_for) end

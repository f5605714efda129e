-- A library: on the end of a job, advance its workflow and, for its webhook, add a copy of its hash and the given fields of
-- its result to the outbox.
-- uses: redis/job workflows/library
on_end = function(id, ...)
  local job = job_key(id)
  local workflow, webhook, status, ended_at = unpack(redis.call('HMGET', job, 'workflow', 'webhook', 'status', 'ended_at'))
  if not workflow and not webhook then return end
  local result = { 'job_id', id, ... }
  if workflow then
    local known = {}
    for n = 1, #result, 2 do known[result[n]] = result[n + 1] end
    advance(id, known.status or status, known.return_value or '', known.ended_at or ended_at)
  end
  if webhook then
    local entry = redis.call('HGETALL', job)
    for _, word in ipairs(result) do entry[#entry + 1] = word end
    redis.call('XADD', OUTBOX, '*', unpack(entry))
  end
end

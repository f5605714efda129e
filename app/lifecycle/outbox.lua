-- A library: what hangs on the end of a job, in the step that ends it. Its workflow goes on; for its webhook the outbox
-- gets a copy of its hash, with the fields that are given: what is known of the result.
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

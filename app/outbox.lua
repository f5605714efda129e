-- A library: what follows the end of a job, in the step that ends it, as the field `follow` of its hash asks. Its workflow
-- goes on; for its webhook the outbox gets a copy of the hash, with the fields that are given: what is known of the
-- result. Begins with workflows/library.lua.
local function ended(job, id, ...)
  local follow, said = redis.call('HGET', job, 'follow'), { 'job_id', id, ... }
  if not follow then return end
  if string.find(follow, 'workflow', 1, true) then
    local known = {}
    for n = 1, #said, 2 do known[said[n]] = said[n + 1] end
    advance(id, known.status or redis.call('HGET', job, 'status'), known.return_value or '')
  end
  if string.find(follow, 'webhook', 1, true) then
    local entry = redis.call('HGETALL', job)
    for _, word in ipairs(said) do entry[#entry + 1] = word end
    redis.call('XADD', 'jobline:outbox', '*', unpack(entry))
  end
end

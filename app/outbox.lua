-- A library: what follows the end of a job, in the step that ends it. If its hash says `follow`, the outbox gets a copy
-- of the hash, with the fields that are given: what is known of the result.
local function ended(job, id, ...)
  if redis.call('HEXISTS', job, 'follow') == 0 then return end
  local entry = redis.call('HGETALL', job)
  for _, word in ipairs({ 'job_id', id, ... }) do entry[#entry + 1] = word end
  redis.call('XADD', 'jobline:outbox', '*', unpack(entry))
end

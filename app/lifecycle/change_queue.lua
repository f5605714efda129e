-- A library: a job that is in no place goes to another queue, and its limits by queue with it.
-- uses: redis/job
local function change_queue(id, from, to)
  if from == to then return end
  local job = job_key(id)
  local limits = redis.call('HGET', job, 'limits')
  redis.call('HSET', job, 'origin', to)
  if not limits then return end
  local by_queue = '("%a+:queue:)' .. string.gsub(from, '%p', '%%%0') .. ':'
  redis.call('HSET', job, 'limits', (string.gsub(limits, by_queue, '%1' .. string.gsub(to, '%%', '%%%%') .. ':')))
end

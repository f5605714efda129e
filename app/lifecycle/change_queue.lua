-- A library: change the queue of a job that is in no list or registry, and of its limits by queue.
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

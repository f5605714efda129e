-- A library: a job goes to another queue, and its limits by queue with it.
local function move_limits(job, from, to)
  local limits = redis.call('HGET', job, 'limits')
  if not limits or from == to then return end
  local pattern = '("%a+:queue:)' .. string.gsub(from, '%p', '%%%0') .. ':'
  redis.call('HSET', job, 'limits', (string.gsub(limits, pattern, '%1' .. string.gsub(to, '%%', '%%%%') .. ':')))
end

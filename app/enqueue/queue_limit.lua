-- A library: the first of `names` (separated by spaces) with which there would be more than `limit` queues; nil if none, or
-- if either is ''. Existing queues count, but are never refused.
local function one_too_many(names, limit)
  if names == '' or limit == '' then return nil end
  local count = redis.call('SCARD', QUEUES)
  for name in string.gmatch(names, '%S+') do
    if redis.call('SISMEMBER', QUEUES, queue_key(name)) == 0 then
      count = count + 1
      if count > tonumber(limit) then return name end
    end
  end
end

-- Delete the first jobs of a queue, and all that is kept of them; returns how many left it.
-- KEYS: queue. ARGV: how many at most.
local ids = redis.call('LPOP', KEYS[1], ARGV[1]) or {}
for _, id in ipairs(ids) do
  local job = 'rq:job:' .. id
  redis.call('DEL', job, job .. ':dependents', 'rq:job::' .. id .. ':dependencies', 'rq:results:' .. id)
  redis.call('XADD', 'jobline:ended', '*', 'status', 'deleted')
  redis.call('COPY', 'jobline:ended', 'jobline:ended:' .. id, 'REPLACE') -- as delete.lua
  redis.call('DEL', 'jobline:ended')
  redis.call('EXPIRE', 'jobline:ended:' .. id, 60)
end
if #ids > 0 then tell(table.concat(ids, ' '), string.sub(KEYS[1], 10), 'deleted') end -- without 'rq:queue:'
return #ids

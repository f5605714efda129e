-- Delete the first jobs of a queue, up to `count`. Returns the number removed.
-- args: queue count
-- uses: redis/job
local ids = redis.call('LPOP', queue_key(queue), count) or {}
for _, id in ipairs(ids) do
  stop_waiting(id)
  erase(id)
end
if #ids > 0 then tell(table.concat(ids, ' '), queue, 'deleted') end
return #ids

-- Append lines to the log of a job, and tell those who listen. Does nothing if the job was deleted. `first`: the number of the
-- first of these lines in the attempt, from 1: lines that are there already, for they are sent again, are not added again.
-- args: id queue attempt first
-- rest: lines (JSON)
-- uses: redis/events
local MAX_KEPT = 10000 -- lines of all attempts together
local left = redis.call('PTTL', job_key(id))
if left == -2 then return 0 end
local key, known, added = log_key(id), 0, {}
local last = redis.call('XREVRANGE', key, '+', '-', 'COUNT', 1)[1]
if last and last[2][2] == attempt then known = tonumber(last[2][4]) end
for n = LINES, #ARGV do
  local number = first + n - LINES
  if number > known then
    local entry = redis.call('XADD', key, 'MAXLEN', '~', MAX_KEPT, '*', 'attempt', attempt, 'number', number, 'line', ARGV[n])
    added[#added + 1] = '{"id":"' .. entry .. '",' .. string.sub(ARGV[n], 2)
  end
end
if left > 0 then redis.call('PEXPIRE', key, left) else redis.call('PERSIST', key) end
if #added > 0 then tell(id, queue, 'log', 'attempt', attempt, 'log', '[' .. table.concat(added, ',') .. ']') end
return 1

-- Append lines to the log of a job, and tell those who listen. Does nothing if the job was deleted.
-- args: id queue attempt
-- rest: lines (JSON)
-- uses: redis/events
local MAX_KEPT = 10000 -- lines of all attempts together
local left = redis.call('PTTL', job_key(id))
if left == -2 then return 0 end
local key = log_key(id)
for n = LINES, #ARGV do redis.call('XADD', key, 'MAXLEN', '~', MAX_KEPT, '*', 'attempt', attempt, 'line', ARGV[n]) end
if left > 0 then redis.call('PEXPIRE', key, left) else redis.call('PERSIST', key) end
if ARGV[LINES] then tell(id, queue, 'log', 'attempt', attempt, 'log', '[' .. table.concat(ARGV, ',', LINES) .. ']') end
return 1

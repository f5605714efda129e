-- With which every script begins: tells those who listen (app/events.py). While nobody does there is no stream, and none
-- is made. `ids`: of jobs, separated by spaces.
local function tell(ids, queue, status)
  redis.call('XADD', 'jobline:events', 'NOMKSTREAM', 'MAXLEN', '~', 100000, '*', 'ids', ids, 'queue', queue, 'status', status)
end


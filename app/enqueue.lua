-- Write new jobs that need nothing looked up, in one step and one round trip; what is written is what `write` of
-- app/queueing.py writes. Returns 1; or what the receipt's key holds already, or, in a list, the queue that would be one
-- too many: then nothing is written. Begins with queue_limit.lua.
-- KEYS: hash of the first job, the receipt's key if there is one. ARGV: what the receipt is to hold, for how many
-- seconds, names of queues that may be too many, how many there may be, then for each job: id, queue, where ('LPUSH', 'RPUSH', or the seconds since 1970 for which it is scheduled),
-- ttl or '', how many words its hash has but for what is blank, those words.
if redis.call('EXISTS', KEYS[1]) == 1 then return 1 end -- sent again, for its answer was lost
if KEYS[2] then
  local held = redis.call('GET', KEYS[2])
  if held then return held end
end
local refused = one_too_many(ARGV[3], ARGV[4])
if refused then return { refused } end
if KEYS[2] then redis.call('SET', KEYS[2], ARGV[1], 'EX', ARGV[2]) end
local lists, told, n = {}, {}, 5
local function into(groups, name, id)
  local group = groups[name] or {}
  group[#group + 1], groups[name] = id, group
end
while ARGV[n] do
  local id, queue, where, ttl, words = ARGV[n], ARGV[n + 1], ARGV[n + 2], ARGV[n + 3], tonumber(ARGV[n + 4])
  local job = 'rq:job:' .. id
  redis.call(
    'HSET', job, 'success_callback_name', '', 'failure_callback_name', '', 'stopped_callback_name', '', 'started_at', '',
    'ended_at', '', 'last_heartbeat', '', 'worker_name', '', 'group_id', '', unpack(ARGV, n + 5, n + 4 + words)
  )
  if ttl ~= '' then redis.call('EXPIRE', job, ttl) end
  if where == 'RPUSH' then
    into(lists, queue, id)
  elseif where == 'LPUSH' then
    redis.call('LPUSH', 'rq:queue:' .. queue, id)
  else
    redis.call('ZADD', 'rq:scheduled:' .. queue, where, id)
  end
  into(told, queue .. ' ' .. (tonumber(where) and 'scheduled' or 'queued'), id)
  n = n + 5 + words
end
for queue, ids in pairs(lists) do
  for first = 1, #ids, 1000 do
    redis.call('RPUSH', 'rq:queue:' .. queue, unpack(ids, first, math.min(first + 999, #ids)))
  end
end
for name, ids in pairs(told) do
  local queue, status = string.match(name, '^(.*) (.*)$')
  redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
  tell(table.concat(ids, ' '), queue, status)
end
return 1

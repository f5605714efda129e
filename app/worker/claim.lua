-- Claim the next jobs of the queues, in their order: at no instant is an id in no list. They begin with begin.lua.
-- KEYS: worker hash, leases, then each queue. ARGV: worker's name, seconds that an execution is kept without a
-- heartbeat, fence, 1 if only an idle worker claims, then an id for each execution: so many jobs are wanted, and no
-- more than this worker's share.
-- A job whose limits refuse it is put off. Begins with limits/library.lua.
-- Returns 'suspended', 'unleased' (this worker was given up), 'busy', 'paused' (there is nothing but in paused queues),
-- 'again' (many were put off, and there may be others behind them), or for each job { number of the queue, job's id,
-- execution's id, fields... }; the fields are missing where the job cannot be read.
local MOST_PUT_OFF = 200 -- jobs in one claim
local worker, leases, name, keep = KEYS[1], KEYS[2], ARGV[1], tonumber(ARGV[2])
local is = redis.call('HMGET', worker, 'state', 'fence')
if (ARGV[4] == '1' and is[1] ~= 'idle') or (tonumber(is[2] or 0) > tonumber(ARGV[3])) then return 'busy' end
if redis.call('EXISTS', 'rq:suspended') == 1 then
  if is[1] then redis.call('HSET', worker, 'state', 'suspended') end -- else it was given up: nothing would remove its hash
  return 'suspended'
end
if not redis.call('ZSCORE', leases, name) then
  if is[1] then redis.call('HSET', worker, 'state', 'started') end
  return 'unleased'
end

local claimed, wanted, until_ = {}, #ARGV - 4, tonumber(redis.call('TIME')[1]) + keep
local others = wanted > 1 and redis.call('ZCARD', leases) or 1
local now, left_off = nil, MOST_PUT_OFF
local pauses, held = redis.call('EXISTS', 'jobline:paused') == 1, false
for n = 3, #KEYS do
  local queue = string.sub(KEYS[n], 10) -- without 'rq:queue:'
  local paused = pauses and redis.call('SISMEMBER', 'jobline:paused', queue) == 1
  local length = wanted > 1 and redis.pcall('LLEN', KEYS[n])
  local left = tonumber(length) and math.max(1, math.floor(length / others)) or 1
  if paused then left, held = 0, held or redis.call('EXISTS', KEYS[n]) == 1 end
  while left > 0 and left_off > 0 and #claimed < wanted do
    local id = redis.pcall('LPOP', KEYS[n])
    if type(id) ~= 'string' then break end -- it is empty, or no list
    local job = 'rq:job:' .. id
    local fields = redis.pcall('HMGET', job, 'data', 'created_at', 'timeout', 'result_ttl', 'success_callback_name',
      'failure_callback_name', 'stopped_callback_name', 'webhooks', 'group_id', 'repeats_left', 'attempts', 'dependency_ids', 'ttl',
      'limits', 'follow')
    local limits = not fields.err and fields[14]
    if limits and #claimed > 0 then -- it begins when it is claimed, so it is claimed alone
      redis.call('LPUSH', KEYS[n], id)
      break
    end
    if fields.err or fields[1] or redis.call('EXISTS', job) == 1 then -- else it was deleted, or its ttl ran out
      local execution = ARGV[5 + #claimed]
      now = now or (limits and clock())
      if limits and not admit(id, queue, execution, cjson.decode(limits), now) then
        left_off = left_off - 1
      else
        redis.call('ZADD', 'rq:wip:' .. queue, until_, id .. ':' .. execution)
        if fields.err then fields = {} elseif fields[13] or fields[11] then redis.call('PERSIST', job) end
        claimed[#claimed + 1] = { n - 2, id, execution, unpack(fields, 1, 15) }
        left = limits and 0 or left - 1
      end
    end
  end
  if #claimed > 0 then break end
end

if #claimed > 0 then
  redis.call('HSET', worker, 'state', 'busy')
else
  redis.call('HSET', worker, 'state', 'idle')
  redis.call('HDEL', worker, 'current_job')
  if left_off == 0 then return 'again' end
  if held then return 'paused' end
end
return claimed

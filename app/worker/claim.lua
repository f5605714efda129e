-- Claim the next jobs of the queues, in their order: at no instant is an id in no list. They begin with begin.lua.
-- `executions` are ids: so many jobs are wanted, and no more than this worker's share. A job whose limits refuse it is put
-- off. `execution_kept`: seconds that an execution is kept without a heartbeat; `only_if_idle`: 1 or 0;
-- `others_run`: 1 if this worker runs jobs that it has claimed before.
-- Returns 'suspended', 'unleased' (this worker was given up), 'busy', 'paused' (there is nothing but in paused queues),
-- 'again' (many were put off, and there may be others behind them), or for each job { number of the queue, job's id,
-- execution's id, FIELDS... }; the fields are missing where the job cannot be read.
-- args: worker execution_kept fence only_if_idle others_run queue_count
-- rest: queue_names (and then the executions)
-- uses: limits/library
local MAX_PUT_OFF = 200 -- jobs in one claim
local key, FIRST_EXECUTION = worker_key(worker), QUEUE_NAMES + tonumber(queue_count)
local state, known_fence = unpack(redis.call('HMGET', key, 'state', 'fence'))
if (only_if_idle == '1' and state ~= 'idle') or (tonumber(known_fence or 0) > tonumber(fence)) then return 'busy' end
if redis.call('EXISTS', SUSPENDED) == 1 then
  if state then redis.call('HSET', key, 'state', 'suspended') end -- else it was given up: nothing would remove its hash
  return 'suspended'
end
if not redis.call('ZSCORE', LEASES, worker) then
  if state then redis.call('HSET', key, 'state', 'started') end
  return 'unleased'
end

local claimed, wanted, until_ = {}, #ARGV - FIRST_EXECUTION + 1, tonumber(redis.call('TIME')[1]) + execution_kept
local others = wanted > 1 and redis.call('ZCARD', LEASES) or 1
local now, may_put_off = nil, MAX_PUT_OFF
local pauses, held_back = redis.call('EXISTS', PAUSED) == 1, false
for n = QUEUE_NAMES, FIRST_EXECUTION - 1 do
  local queue = ARGV[n]
  local list = queue_key(queue)
  local length = wanted > 1 and redis.pcall('LLEN', list)
  local share = tonumber(length) and math.max(1, math.floor(length / others)) or 1
  if pauses and redis.call('SISMEMBER', PAUSED, queue) == 1 then
    share, held_back = 0, held_back or redis.call('EXISTS', list) == 1
  end
  while share > 0 and may_put_off > 0 and #claimed < wanted do
    local id = redis.pcall('LPOP', list)
    if type(id) ~= 'string' then break end -- it is empty, or no list
    local job = job_key(id)
    local fields = redis.pcall('HMGET', job, FIELDS)
    local limits = not fields.err and fields[AT.limits]
    if limits and #claimed > 0 then -- it begins when it is claimed, so it is claimed alone
      redis.call('LPUSH', list, id)
      break
    end
    if fields.err or fields[AT.data] or redis.call('EXISTS', job) == 1 then -- else it was deleted, or its ttl ran out
      local execution = ARGV[FIRST_EXECUTION + #claimed]
      now = now or (limits and clock())
      if limits and not admit(id, queue, execution, cjson.decode(limits), now) then
        may_put_off = may_put_off - 1
      else
        hold(id, queue, execution, until_)
        if fields.err then fields = {} elseif fields[AT.ttl] or fields[AT.attempts] then redis.call('PERSIST', job) end
        claimed[#claimed + 1] = { n - QUEUE_NAMES + 1, id, execution, unpack(fields, 1, FIELD_COUNT) }
        share = limits and 0 or share - 1
      end
    end
  end
  if #claimed > 0 then break end
end

if #claimed > 0 then
  redis.call('HSET', key, 'state', 'busy')
else
  if others_run ~= '1' then
    redis.call('HSET', key, 'state', 'idle')
    redis.call('HDEL', key, 'current_job')
  end
  if may_put_off == 0 then return 'again' end
  if held_back then return 'paused' end
end
return claimed

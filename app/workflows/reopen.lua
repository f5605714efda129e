-- A library: a job of a workflow that had ended runs again, and what was canceled for its sake waits again.
-- uses: workflows/library
local function wait_again(flow, node)
  local canceled, open = 0, 0
  each_member(flow, node, function(member)
    local ended = redis.call('HGET', flow.ended, member)
    if not ended or ended == 'canceled' then open = open + 1 end
    if ended ~= 'canceled' then return end
    local id = flow.id .. '-' .. member
    local status, queue = unpack(redis.call('HMGET', job_key(id), 'status', 'origin'))
    redis.call('HDEL', flow.ended, member)
    canceled = canceled + 1
    if status == 'canceled' then
      leave(id, queue, status)
      revive(id)
      defer_job(id, queue, redis.call('TIME')[1])
    end
  end)
  local was_over = get(flow, 'state:' .. node) ~= 'open'
  set(flow, 'state:' .. node, 'waiting', 'open:' .. node, open)
  redis.call('HDEL', flow.key, 'failed:' .. node, 'dropped:' .. node)
  if HOOKS[node] then return end
  redis.call('HINCRBY', flow.key, 'count:canceled', -canceled)
  if was_over then redis.call('HINCRBY', flow.key, 'left', 1) end
end

local function reopen(id)
  local flow = workflow_of(id)
  local member = string.sub(id, #flow.id + 2)
  local node, status = node_of(member), redis.call('HGET', flow.ended, member)
  if not status or HOOKS[node] then return end
  redis.call('HDEL', flow.ended, member)
  redis.call('HINCRBY', flow.key, 'count:' .. status, -1)
  redis.call('HDEL', flow.key, 'failed:' .. node, 'dropped:' .. node, 'stopped', 'ended_at')
  local open = 0
  each_member(flow, node, function(other)
    local ended = redis.call('HGET', flow.ended, other)
    if not ended then open = open + 1 end
    if ended and ended ~= 'finished' then set(flow, 'failed:' .. node, ended == 'canceled' and 'canceled' or 'failed') end
  end)
  set(flow, 'open:' .. node, open)
  local state = get(flow, 'state:' .. node)
  if state ~= 'open' and state ~= 'waiting' then
    set(flow, 'state:' .. node, 'open')
    redis.call('HINCRBY', flow.key, 'left', 1)
  end
  set(flow, 'status', 'running')
  redis.call('SADD', WORKFLOWS_OPEN, flow.id)
  redis.call('SREM', WORKFLOWS_STOPPING, flow.id)
  for _, key in ipairs({ flow.key, flow.ended, flow.results }) do redis.call('PERSIST', key) end

  local nodes, steps = cjson.decode(get(flow, 'nodes')), {}
  for hook in pairs(HOOKS) do
    if get(flow, 'dropped:' .. hook) then wait_again(flow, hook) end
  end
  for _, other in ipairs(nodes) do
    if get(flow, 'dropped:' .. other) then wait_again(flow, other) end
  end
  for _, other in ipairs(nodes) do
    if get(flow, 'state:' .. other) == 'waiting' then
      local needs, lost = 0, nil
      for _, parent in ipairs(edges(flow, 'parents', other)) do
        local failed = get(flow, 'failed:' .. parent[1])
        local state = get(flow, 'state:' .. parent[1])
        if failed and parent[2] ~= 1 then lost = 'it needs ' .. parent[1] .. ', which is ' .. failed end
        if state == 'waiting' or state == 'open' then needs = needs + 1 end
      end
      set(flow, 'needs:' .. other, needs)
      if lost then
        steps[#steps + 1] = { 'drop', other, lost }
      elseif needs == 0 then
        steps[#steps + 1] = { 'open', other }
      end
    end
  end
  local time = redis.call('TIME')
  settle(flow, steps, { seconds = tonumber(time[1]), text = redis.call('HGET', job_key(id), 'enqueued_at') or '' })
end

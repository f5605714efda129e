-- A library: an ended job of a workflow runs again, and nodes that were canceled because of it wait again.
-- uses: workflows/library
local function wait_again(workflow, node)
  local canceled, open = 0, 0
  each_member(workflow, node, function(member)
    local ended = redis.call('HGET', workflow.ended, member)
    if not ended or ended == 'canceled' then open = open + 1 end
    if ended ~= 'canceled' then return end
    local id = workflow.id .. '-' .. member
    local status, queue = unpack(redis.call('HMGET', job_key(id), 'status', 'origin'))
    redis.call('HDEL', workflow.ended, member)
    canceled = canceled + 1
    if status == 'canceled' then
      leave(id, queue, status)
      revive(id)
      defer_job(id, queue, redis.call('TIME')[1])
    end
  end)
  local was_over = get(workflow, 'state:' .. node) ~= 'open'
  set(workflow, 'state:' .. node, 'waiting', 'open:' .. node, open)
  redis.call('HDEL', workflow.key, 'failed:' .. node, 'dropped:' .. node)
  if HOOKS[node] then return end
  redis.call('HINCRBY', workflow.key, 'count:canceled', -canceled)
  if was_over then redis.call('HINCRBY', workflow.key, 'left', 1) end
end

local function reopen(id)
  local workflow = workflow_of(id)
  local member = string.sub(id, #workflow.id + 2)
  local node, status = node_of(member), redis.call('HGET', workflow.ended, member)
  if not status or HOOKS[node] then return end
  redis.call('HDEL', workflow.ended, member)
  redis.call('HINCRBY', workflow.key, 'count:' .. status, -1)
  redis.call('HDEL', workflow.key, 'failed:' .. node, 'dropped:' .. node, 'stopped', 'ended_at')
  local open = 0
  each_member(workflow, node, function(other)
    local ended = redis.call('HGET', workflow.ended, other)
    if not ended then open = open + 1 end
    if ended and ended ~= 'finished' then set(workflow, 'failed:' .. node, ended == 'canceled' and 'canceled' or 'failed') end
  end)
  set(workflow, 'open:' .. node, open)
  local state = get(workflow, 'state:' .. node)
  if state ~= 'open' and state ~= 'waiting' then
    set(workflow, 'state:' .. node, 'open')
    redis.call('HINCRBY', workflow.key, 'left', 1)
  end
  set(workflow, 'status', 'running')
  redis.call('SADD', WORKFLOWS_OPEN, workflow.id)
  redis.call('SREM', WORKFLOWS_STOPPING, workflow.id)
  for _, key in ipairs({ workflow.key, workflow.ended, workflow.results }) do redis.call('PERSIST', key) end

  local nodes, steps = cjson.decode(get(workflow, 'nodes')), {}
  for hook in pairs(HOOKS) do
    if get(workflow, 'dropped:' .. hook) then wait_again(workflow, hook) end
  end
  for _, other in ipairs(nodes) do
    if get(workflow, 'dropped:' .. other) then wait_again(workflow, other) end
  end
  for _, other in ipairs(nodes) do
    if get(workflow, 'state:' .. other) == 'waiting' then
      local needs, lost = 0, nil
      for _, parent in ipairs(edges(workflow, 'parents', other)) do
        local failed = get(workflow, 'failed:' .. parent[1])
        local state = get(workflow, 'state:' .. parent[1])
        if failed and parent[2] ~= 1 then lost = 'it needs ' .. parent[1] .. ', which is ' .. failed end
        if state == 'waiting' or state == 'open' then needs = needs + 1 end
      end
      set(workflow, 'needs:' .. other, needs)
      if lost then
        steps[#steps + 1] = { 'drop', other, lost }
      elseif needs == 0 then
        steps[#steps + 1] = { 'open', other }
      end
    end
  end
  local time = redis.call('TIME')
  settle(workflow, steps, { seconds = tonumber(time[1]), text = redis.call('HGET', job_key(id), 'enqueued_at') or '' })
end

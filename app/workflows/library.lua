-- A library: workflows. The hash jobline:workflow:ID contains, besides the workflow's options: left (nodes that have not
-- ended), count:STATUS (ended jobs), and for each node: state (waiting, open, finished, failed or canceled), size (number of
-- jobs; -1: a single job, not a list), open (jobs that have not ended), needs (unmet dependencies), children and parents
-- ([[name, 1 if even after a failure]...]), keep (its results are needed). ID:ended contains the status of each ended job,
-- ID:results the results, both by member: NODE or NODE-NUMBER. A job's id is ID-MEMBER. Jobs that run after the workflow's
-- end (HOOKS) are nodes that are not counted.
-- uses: redis/job
local HOOKS = { on_success = true, on_failure = true, on_complete = true }

local function workflow_record(id)
  return {
    id = id, key = workflow_key(id), ended = workflow_part_key(id, 'ended'),
    results = workflow_part_key(id, 'results'),
  }
end

local function workflow_of(job_id) return workflow_record(string.match(job_id, '^([^-]+)-')) end

local function get(workflow, what) return redis.call('HGET', workflow.key, what) end
local function set(workflow, ...) redis.call('HSET', workflow.key, ...) end
local function edges(workflow, what, node)
  local text = get(workflow, what .. ':' .. node)
  return text and cjson.decode(text) or {}
end

local function each_member(workflow, node, act)
  local size = tonumber(get(workflow, 'size:' .. node))
  if size < 0 then return act(node) end
  for n = 0, size - 1 do act(node .. '-' .. n) end
end

local function node_of(member) return string.match(member, '^[^-]+') end

-- Queue or schedule the jobs of a node; members whose jobs no longer exist are added to `gone`.
local function open(workflow, node, now, gone)
  set(workflow, 'state:' .. node, 'open')
  local ready = {}
  each_member(workflow, node, function(member)
    local id = workflow.id .. '-' .. member
    local queue, at_front, delay, status = unpack(
      redis.call('HMGET', job_key(id), 'origin', 'enqueue_at_front', 'wait', 'status')
    )
    if status ~= 'deferred' then -- deleted; or canceled by itself, and perhaps requeued since
      if not status then gone[#gone + 1] = member end
      return
    end
    leave(id, queue, status)
    if delay then
      schedule_job(id, queue, due_after(tonumber(delay)))
    else
      local position = end_of(at_front)
      local name = position .. ' ' .. queue
      ready[name] = ready[name] or { queue = queue, position = position }
      table.insert(ready[name], id)
    end
  end)
  for _, ids in pairs(ready) do queue_jobs(ids.queue, ids, ids.position, now.text) end
end

-- Cancel the jobs of a node that waits; whether that ends it: one that was canceled by itself and requeued goes on.
local function drop(workflow, node, reason, now)
  set(workflow, 'failed:' .. node, 'canceled', 'dropped:' .. node, '1')
  local canceled, keeps_result = 0, get(workflow, 'keep:' .. node)
  each_member(workflow, node, function(member)
    local id = workflow.id .. '-' .. member
    local status, queue, failure_ttl = unpack(redis.call('HMGET', job_key(id), 'status', 'origin', 'failure_ttl'))
    if status and status ~= 'deferred' then return end
    redis.call('HSET', workflow.ended, member, 'canceled')
    if keeps_result then redis.call('HSET', workflow.results, member, '') end
    canceled = canceled + 1
    if status then
      leave(id, queue, status)
      redis.call('HSET', job_key(id), 'reason', reason)
      local kept_for = tonumber(failure_ttl or '') or -1
      if kept_for >= 0 then kept_for = math.max(kept_for, NOTE_SECONDS) end
      end_job(id, queue, 'canceled', now.text, now.seconds, kept_for, true, false)
    end
  end)
  if not HOOKS[node] then redis.call('HINCRBY', workflow.key, 'count:canceled', canceled) end
  local is_over = redis.call('HINCRBY', workflow.key, 'open:' .. node, -canceled) == 0
  set(workflow, 'state:' .. node, is_over and 'canceled' or 'open')
  return is_over
end

-- Add the ended workflow to the outbox, if it has a webhook.
local function announce(workflow)
  if not get(workflow, 'webhook') then return end
  local entry = { 'workflow', workflow.id }
  for _, field in ipairs({
    'name', 'status', 'created_at', 'ended_at', 'total', 'count:finished', 'count:failed', 'count:stopped',
    'count:canceled', 'webhook', 'webhook_secret',
  }) do
    local value = get(workflow, field)
    if value then entry[#entry + 1], entry[#entry + 2] = field, value end
  end
  redis.call('XADD', OUTBOX, '*', unpack(entry))
end

-- End the workflow, and queue or cancel its hooks.
local function close(workflow, now)
  local status = get(workflow, 'status')
  if status == 'running' then
    status = 'finished'
    for _, ended in ipairs({ 'failed', 'stopped', 'canceled' }) do
      if tonumber(get(workflow, 'count:' .. ended) or 0) > 0 then status = 'failed' end
    end
  end
  set(workflow, 'status', status, 'ended_at', now.text)
  redis.call('SREM', WORKFLOWS_OPEN, workflow.id)
  tell(workflow.id, '', status)
  announce(workflow)
  local hooks = { on_success = status == 'finished', on_failure = status ~= 'finished', on_complete = true }
  for hook, wanted in pairs(hooks) do
    if get(workflow, 'size:' .. hook) then
      if wanted then open(workflow, hook, now, {}) else drop(workflow, hook, 'the workflow has ' .. status, now) end
    end
  end
  local kept_for = tonumber(get(workflow, status == 'finished' and 'result_ttl' or 'failure_ttl'))
  if kept_for >= 0 then
    kept_for = math.max(kept_for, 60)
    for _, key in ipairs({ workflow.key, workflow.ended, workflow.results }) do redis.call('EXPIRE', key, kept_for) end
  end
end

-- Apply steps to nodes and their children: { 'end', 'drop' (it can never start) or 'open', node, reason }.
local function settle(workflow, steps, now)
  local n = 1
  while steps[n] do
    local what, node, reason = steps[n][1], steps[n][2], steps[n][3]
    n = n + 1
    local state = get(workflow, 'state:' .. node)
    local over = what == 'end' and (state == 'open' or state == 'waiting') -- its jobs may all be canceled while it waits
    if what == 'drop' and state == 'waiting' then over = drop(workflow, node, reason, now) end
    if over then
      local failed = get(workflow, 'failed:' .. node)
      if what == 'end' then set(workflow, 'state:' .. node, failed or 'finished') end
      local left = redis.call('HINCRBY', workflow.key, 'left', -1)
      for _, child in ipairs(edges(workflow, 'children', node)) do
        if failed and child[2] ~= 1 then
          steps[#steps + 1] = { 'drop', child[1], what == 'drop' and reason or ('it needs ' .. node .. ', which is ' .. failed) }
        elseif get(workflow, 'state:' .. child[1]) == 'waiting'
          and redis.call('HINCRBY', workflow.key, 'needs:' .. child[1], -1) == 0 then
          steps[#steps + 1] = { 'open', child[1] }
        end
      end
      if left == 0 then close(workflow, now) end
    elseif what == 'open' and state == 'waiting' then
      local gone = {}
      open(workflow, node, now, gone)
      for _, member in ipairs(gone) do steps[#steps + 1] = { 'gone', member } end
    elseif what == 'gone' then -- deleted while it waited
      local of = node_of(node)
      if redis.call('HSETNX', workflow.ended, node, 'canceled') == 1 then
        redis.call('HINCRBY', workflow.key, 'count:canceled', 1)
        set(workflow, 'failed:' .. of, 'canceled')
        if get(workflow, 'keep:' .. of) then redis.call('HSET', workflow.results, node, '') end
        if redis.call('HINCRBY', workflow.key, 'open:' .. of, -1) == 0 then steps[#steps + 1] = { 'end', of } end
      end
    end
  end
end

-- Record the end of a job. Idempotent. `value`: its result (Base64), or ''.
local function advance(id, status, value)
  local workflow, time = workflow_of(id), redis.call('TIME')
  local member = string.sub(id, #workflow.id + 2)
  local node = node_of(member)
  local state = get(workflow, 'state:' .. node)
  if not state or redis.call('HSETNX', workflow.ended, member, status) == 0 or HOOKS[node] then return end
  local now = { seconds = tonumber(time[1]), text = get(workflow, 'created_at') }
  local clock = redis.call('HGET', job_key(id), 'ended_at')
  if clock and clock ~= '' then now.text = clock end
  redis.call('HINCRBY', workflow.key, 'count:' .. status, 1)
  if get(workflow, 'keep:' .. node) then redis.call('HSET', workflow.results, member, value) end
  local steps = {}
  if status ~= 'finished' then
    set(workflow, 'failed:' .. node, status == 'canceled' and 'canceled' or 'failed')
    local reason = 'it needs ' .. node .. ', which is ' .. status
    for _, child in ipairs(edges(workflow, 'children', node)) do
      if child[2] ~= 1 then steps[#steps + 1] = { 'drop', child[1], reason } end
    end
    if get(workflow, 'on_error') == 'stop' and get(workflow, 'stopped') ~= '1' then
      set(workflow, 'stopped', '1')
      redis.call('SADD', WORKFLOWS_STOPPING, workflow.id)
      for _, other in ipairs(cjson.decode(get(workflow, 'nodes'))) do
        steps[#steps + 1] = { 'drop', other, 'the workflow stops, for ' .. node .. ' is ' .. status }
      end
    end
  end
  if redis.call('HINCRBY', workflow.key, 'open:' .. node, -1) == 0 then table.insert(steps, 1, { 'end', node }) end
  settle(workflow, steps, now)
end

-- Workflows, for the scripts that begin with this library. The hash jobline:workflow:ID has, besides what is said of the
-- workflow: left (nodes that have not ended), count:STATUS (jobs that have), and of each node: state (waiting, open,
-- finished, failed or canceled), size (jobs; -1: it is one job and no list), open (jobs that have not ended), needs (nodes
-- that it waits for still), children and parents ([[name, 1 if even after a failure]...]), keep (its results are needed).
-- ID:ended has the state of each job that has ended, ID:results the results, by NODE or NODE-NUMBER.
-- The job's id is ID-NODE or ID-NODE-NUMBER. Jobs that follow the workflow's end (HOOKS) are nodes that nobody counts.
-- uses: redis/job
local HOOKS = { on_success = true, on_failure = true, on_complete = true }

local function workflow_record(name)
  return {
    id = name, key = workflow_key(name), ended = workflow_part_key(name, 'ended'),
    results = workflow_part_key(name, 'results'),
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

-- Queue or schedule the jobs of a node; members whose jobs are no longer there go into `gone`.
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
      add_to_batch(ready, queue, end_of(at_front), id)
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

-- For its webhook the outbox gets what is told of the workflow.
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

-- The workflow has ended: the jobs that were to follow are queued, or canceled.
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
    for _, key in ipairs({ workflow.key, workflow.ended, workflow.results }) do redis.call('EXPIRE', key, math.max(kept_for, 60)) end
  end
end

-- A job has ended, counted once: what follows for its node and those that need it goes into `steps`.
local function count_end(workflow, member, status, value, steps)
  local node = node_of(member)
  if redis.call('HSETNX', workflow.ended, member, status) == 0 or HOOKS[node] then return end
  redis.call('HINCRBY', workflow.key, 'count:' .. status, 1)
  if get(workflow, 'keep:' .. node) then redis.call('HSET', workflow.results, member, value) end
  local fails = status ~= 'finished'
  if fails then set(workflow, 'failed:' .. node, status == 'canceled' and 'canceled' or 'failed') end
  if redis.call('HINCRBY', workflow.key, 'open:' .. node, -1) == 0 then steps[#steps + 1] = { 'end', node } end
  if not fails then return end
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

-- What becomes of nodes: { 'end', 'drop' (they can never begin) or 'open', node, reason }. Their children follow.
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
        elseif get(workflow, 'state:' .. child[1]) == 'waiting' and redis.call('HINCRBY', workflow.key, 'needs:' .. child[1], -1) == 0 then
          steps[#steps + 1] = { 'open', child[1] }
        end
      end
      if left == 0 then close(workflow, now) end
    elseif what == 'open' and state == 'waiting' then
      local gone = {}
      open(workflow, node, now, gone)
      for _, member in ipairs(gone) do count_end(workflow, member, 'canceled', '', steps) end -- deleted while it waited
    end
  end
end

-- A job has ended, whoever tells of it and however often. `value`: its result, in Base64, or ''; `now`: RQ's format.
local function advance(id, status, value, now)
  local workflow = workflow_of(id)
  local member, steps = string.sub(id, #workflow.id + 2), {}
  if not get(workflow, 'state:' .. node_of(member)) then return end
  count_end(workflow, member, status, value, steps)
  settle(workflow, steps, { seconds = tonumber(redis.call('TIME')[1]), text = now })
end

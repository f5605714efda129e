-- Workflows, for the scripts that begin with this library. The hash jobline:workflow:ID has, besides what is said of the
-- workflow: left (nodes that have not ended), count:STATUS (jobs that have), and of each node: state (waiting, open,
-- finished, failed or canceled), size (jobs; -1: it is one job and no list), open (jobs that have not ended), needs (nodes
-- that it waits for still), children and parents ([[name, 1 if even after a failure]...]), keep (its results are needed).
-- ID:ended has the state of each job that has ended, ID:results the results, by NODE or NODE-NUMBER.
-- The job's id is ID-NODE or ID-NODE-NUMBER. Jobs that follow the workflow's end (HOOKS) are nodes that nobody counts.
local HOOKS = { on_success = true, on_failure = true, on_complete = true }

local function workflow_of(id)
  local name = string.match(id, '^([^-]+)-')
  return { id = name, key = 'jobline:workflow:' .. name }
end

local function get(flow, what) return redis.call('HGET', flow.key, what) end
local function set(flow, ...) redis.call('HSET', flow.key, ...) end
local function edges(flow, what, node)
  local text = get(flow, what .. ':' .. node)
  return text and cjson.decode(text) or {}
end

local function each_member(flow, node, act)
  local size = tonumber(get(flow, 'size:' .. node))
  if size < 0 then return act(node) end
  for n = 0, size - 1 do act(node .. '-' .. n) end
end

local function node_of(member) return string.match(member, '^[^-]+') end

-- Queue the jobs of a node; one that is no longer there is counted as canceled.
local function open(flow, node, now, gone)
  set(flow, 'state:' .. node, 'open')
  local lists = {}
  each_member(flow, node, function(member)
    local id = flow.id .. '-' .. member
    local job = 'rq:job:' .. id
    local is = redis.call('HMGET', job, 'origin', 'ttl', 'enqueue_at_front', 'wait', 'status')
    if is[5] ~= 'deferred' then
      gone[#gone + 1] = member
      return
    end
    redis.call('ZREM', 'rq:deferred:' .. is[1], id)
    if is[4] then
      redis.call('HSET', job, 'status', 'scheduled')
      redis.call('ZADD', 'rq:scheduled:' .. is[1], math.ceil(now.exact + tonumber(is[4])), id)
      return
    end
    redis.call('HSET', job, 'status', 'queued', 'enqueued_at', now.text)
    if is[2] then redis.call('EXPIRE', job, is[2]) end
    if is[3] == '1' then
      redis.call('LPUSH', 'rq:queue:' .. is[1], id)
    else
      local list = lists[is[1]] or {}
      list[#list + 1], lists[is[1]] = id, list
    end
  end)
  for queue, ids in pairs(lists) do
    redis.call('SADD', 'rq:queues', 'rq:queue:' .. queue)
    tell(table.concat(ids, ' '), queue, 'queued')
    for n = 1, #ids, 1000 do redis.call('RPUSH', 'rq:queue:' .. queue, unpack(ids, n, math.min(n + 999, #ids))) end
  end
end

-- Cancel the jobs of a node that waits.
local function drop(flow, node, reason, now)
  set(flow, 'state:' .. node, 'canceled', 'failed:' .. node, 'canceled', 'dropped:' .. node, '1')
  local canceled, keep = 0, get(flow, 'keep:' .. node)
  each_member(flow, node, function(member)
    local id = flow.id .. '-' .. member
    local job = 'rq:job:' .. id
    local is = redis.call('HMGET', job, 'origin', 'failure_ttl')
    local queue, lasts = is[1], tonumber(is[2] or nil)
    redis.call('HSET', flow.key .. ':ended', member, 'canceled')
    if keep then redis.call('HSET', flow.key .. ':results', member, '') end
    canceled = canceled + 1
    if queue then
      redis.call('HSET', job, 'status', 'canceled', 'ended_at', now.text, 'reason', reason)
      if lasts and lasts >= 0 then redis.call('EXPIRE', job, math.max(lasts, 60)) end
      redis.call('ZREM', 'rq:deferred:' .. queue, id)
      redis.call('ZADD', 'rq:canceled:' .. queue, now.seconds, id)
      tell(id, queue, 'canceled')
      redis.call('XADD', 'jobline:ended:' .. id, '*', 'status', 'canceled')
      redis.call('EXPIRE', 'jobline:ended:' .. id, 60)
    end
  end)
  if not HOOKS[node] then redis.call('HINCRBY', flow.key, 'count:canceled', canceled) end
end

-- For its webhook the outbox gets what is told of the workflow.
local function announce(flow)
  if not get(flow, 'webhook') then return end
  local entry = { 'workflow', flow.id }
  for _, field in ipairs({
    'name', 'status', 'created_at', 'ended_at', 'total', 'count:finished', 'count:failed', 'count:stopped',
    'count:canceled', 'webhook', 'webhook_secret',
  }) do
    local value = get(flow, field)
    if value then entry[#entry + 1], entry[#entry + 2] = field, value end
  end
  redis.call('XADD', 'jobline:outbox', '*', unpack(entry))
end

-- The workflow has ended: the jobs that were to follow are queued, or canceled.
local function close(flow, now)
  local status = get(flow, 'status')
  if status == 'running' then status = tonumber(get(flow, 'failures') or 0) > 0 and 'failed' or 'finished' end
  set(flow, 'status', status, 'ended_at', now.text)
  redis.call('SREM', 'jobline:workflows:open', flow.id)
  tell(flow.id, '', status)
  announce(flow)
  local hooks = { on_success = status == 'finished', on_failure = status ~= 'finished', on_complete = true }
  for hook, wanted in pairs(hooks) do
    if get(flow, 'size:' .. hook) then
      if wanted then open(flow, hook, now, {}) else drop(flow, hook, 'the workflow has ' .. status, now) end
    end
  end
  local keep = tonumber(get(flow, status == 'finished' and 'result_ttl' or 'failure_ttl'))
  if keep >= 0 then
    for _, part in ipairs({ '', ':ended', ':results' }) do redis.call('EXPIRE', flow.key .. part, math.max(keep, 60)) end
  end
end

-- What becomes of nodes: { 'end', 'drop' (they can never begin) or 'open', node, reason }. Their children follow.
local function settle(flow, steps, now)
  local n = 1
  while steps[n] do
    local what, node, reason = steps[n][1], steps[n][2], steps[n][3]
    n = n + 1
    local state = get(flow, 'state:' .. node)
    local over = what == 'end' and state == 'open'
    if what == 'drop' and state == 'waiting' then
      drop(flow, node, reason, now)
      over = true
    end
    if over then
      local failed = get(flow, 'failed:' .. node)
      if what == 'end' then set(flow, 'state:' .. node, failed or 'finished') end
      local left = redis.call('HINCRBY', flow.key, 'left', -1)
      for _, child in ipairs(edges(flow, 'children', node)) do
        if failed and child[2] ~= 1 then
          steps[#steps + 1] = { 'drop', child[1], what == 'drop' and reason or ('it needs ' .. node .. ', which is ' .. failed) }
        elseif get(flow, 'state:' .. child[1]) == 'waiting' and redis.call('HINCRBY', flow.key, 'needs:' .. child[1], -1) == 0 then
          steps[#steps + 1] = { 'open', child[1] }
        end
      end
      if left == 0 then close(flow, now) end
    elseif what == 'open' and state == 'waiting' then
      local gone = {}
      open(flow, node, now, gone)
      for _, member in ipairs(gone) do steps[#steps + 1] = { 'gone', member } end
    elseif what == 'gone' then -- deleted while it waited
      local of = node_of(node)
      if redis.call('HSETNX', flow.key .. ':ended', node, 'canceled') == 1 then
        redis.call('HINCRBY', flow.key, 'count:canceled', 1)
        redis.call('HINCRBY', flow.key, 'failures', 1)
        set(flow, 'failed:' .. of, 'canceled')
        if get(flow, 'keep:' .. of) then redis.call('HSET', flow.key .. ':results', node, '') end
        if redis.call('HINCRBY', flow.key, 'open:' .. of, -1) == 0 then steps[#steps + 1] = { 'end', of } end
      end
    end
  end
end

-- A job has ended. Counted once, whoever says it and however often. `value`: its result, in Base64, or ''.
local function advance(id, status, value)
  local flow, time = workflow_of(id), redis.call('TIME')
  local member = string.sub(id, #flow.id + 2)
  local node = node_of(member)
  local state = get(flow, 'state:' .. node)
  if not state or redis.call('HSETNX', flow.key .. ':ended', member, status) == 0 or HOOKS[node] then return end
  local now = { seconds = tonumber(time[1]), exact = tonumber(time[1]) + tonumber(time[2]) / 1000000, text = get(flow, 'created_at') }
  local clock = redis.call('HGET', 'rq:job:' .. id, 'ended_at')
  if clock and clock ~= '' then now.text = clock end
  redis.call('HINCRBY', flow.key, 'count:' .. status, 1)
  if get(flow, 'keep:' .. node) then redis.call('HSET', flow.key .. ':results', member, value) end
  local steps = {}
  if status ~= 'finished' then
    redis.call('HINCRBY', flow.key, 'failures', 1)
    set(flow, 'failed:' .. node, status == 'canceled' and 'canceled' or 'failed')
    local reason = 'it needs ' .. node .. ', which is ' .. status
    for _, child in ipairs(edges(flow, 'children', node)) do
      if child[2] ~= 1 then steps[#steps + 1] = { 'drop', child[1], reason } end
    end
    if get(flow, 'on_error') == 'stop' and get(flow, 'stopped') ~= '1' then
      set(flow, 'stopped', '1')
      redis.call('SADD', 'jobline:workflows:stopping', flow.id)
      for _, other in ipairs(cjson.decode(get(flow, 'nodes'))) do
        steps[#steps + 1] = { 'drop', other, 'the workflow stops, for ' .. node .. ' is ' .. status }
      end
    end
  end
  if redis.call('HINCRBY', flow.key, 'open:' .. node, -1) == 0 then table.insert(steps, 1, { 'end', node }) end
  settle(flow, steps, now)
end

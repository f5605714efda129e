-- A library: new jobs. In ARGV each is: id, queue, created_at (RQ's format), position, ttl or '', extra (JSON) or '', source and
-- function (separated by a tab), the number of elements of its hash, those elements. `position`: TAIL, FRONT or 'deferred'; the due time in seconds since 1970; or '+'
-- and the seconds of its delay.
-- `extra`: named (the caller chose the id), front, depends_on (ids), lock: { key, milliseconds, during, on_conflict }.
-- uses: redis/job enqueue/queue_limit enqueue/receipt metrics/counted
local WAITABLE = { created = true, queued = true, deferred = true, scheduled = true, started = true, finished = true }
local HELD_WHILE = { created = true, queued = true, scheduled = true, deferred = true }

-- The reply to a request that writes nothing: { 'kept', value } if it has a receipt already, or { 'queues', name } if there
-- would be too many queues; nil if it may write.
local function reply_without_writing(receipt, names, limit)
  local kept = receipt ~= '' and redis.call('GET', receipt)
  if kept then return { 'kept', kept } end
  local refused = one_too_many(names, limit)
  return refused and { 'queues', refused }
end

-- The jobs from ARGV[n] on, and whether any of them has an `extra`.
local function read_jobs(n)
  local jobs, any_extra = {}, false
  while ARGV[n] do
    local first = n + 8
    jobs[#jobs + 1] = { id = ARGV[n], queue = ARGV[n + 1], created_at = ARGV[n + 2], position = ARGV[n + 3], ttl = ARGV[n + 4],
      extra = ARGV[n + 5] ~= '' and cjson.decode(ARGV[n + 5]) or nil, counted_as = ARGV[n + 6], first = first,
      last = first + ARGV[n + 7] - 1 }
    any_extra = any_extra or ARGV[n + 5] ~= ''
    n = first + ARGV[n + 7]
  end
  return jobs, any_extra
end

local function ids_of(jobs)
  local ids = {}
  for n, job in ipairs(jobs) do ids[n] = job.id end
  return ids
end

-- The job that holds a unique lock, and its status; nil if none does.
local function holder_of(lock)
  local id = redis.call('GET', lock[1])
  local status = id and redis.call('HGET', job_key(id), 'status')
  if status and (HELD_WHILE[status] or (status == 'started' and lock[3] == 'queued_or_running')) then return id, status end
end

-- Check the dependencies of a job: returns an error, or defers it until all have finished. A dependency on a job of the same
-- request that is not written, because a unique job exists, is a dependency on that job.
local function check_parents(job, number, by_id, replaced)
  job.parents, job.waits_for = {}, {}
  for n, id in ipairs(job.extra.depends_on) do
    local parent = by_id[id] and by_id[id].instead or id
    local status = by_id[parent] and 'queued' or redis.call('HGET', job_key(parent), 'status')
    if replaced[parent] or not WAITABLE[status] then return { 'parent', number, n, not replaced[parent] and status or '' } end
    if parent ~= id then job.other_parents = true end
    table.insert(job.parents, parent)
    if status ~= 'finished' then table.insert(job.waits_for, parent) end
  end
  if #job.waits_for > 0 then job.position = 'deferred' end
end

-- Check the unique lock of a job: returns an error, takes the lock, or sets `job.instead` to the job that holds it.
local function check_lock(job, taken, replaced)
  local lock = job.extra.lock
  local holder, status
  if taken[lock[1]] then
    holder, status = taken[lock[1]], 'queued'
  else
    holder, status = holder_of(lock)
  end
  if holder and holder ~= job.id then
    if lock[4] == 'return' then
      job.instead = holder
      return
    end
    if lock[4] == 'reject' then return { 'unique', holder, status } end
    local queue = redis.call('HGET', job_key(holder), 'origin')
    local claimed = status == 'queued' and queue and not redis.call('LPOS', queue_key(queue), holder)
    if status == 'started' or claimed then return { 'running', holder } end
    replaced[holder] = true
  end
  taken[lock[1]] = job.id
end

-- Check ids, locks and dependencies. Returns the ids for the caller, nil and the jobs to replace; or nil and an error.
local function check_jobs(jobs)
  local by_id, taken, replaced, ids = {}, {}, {}, {}
  for _, job in ipairs(jobs) do by_id[job.id] = job end
  for number, job in ipairs(jobs) do
    local created_at = redis.call('HGET', job_key(job.id), 'created_at')
    job.is_there = created_at == job.created_at -- sent again after a lost reply
    if job.extra and not job.is_there then
      local problem = created_at and job.extra.named and { 'taken', job.id }
        or job.extra.lock and check_lock(job, taken, replaced)
      if problem then return nil, problem end
    end
    ids[number] = job.instead or job.id
  end
  for id in pairs(replaced) do
    if by_id[id] then by_id[id].instead = id end
  end
  for number, job in ipairs(jobs) do
    if job.extra and job.extra.depends_on and not job.is_there and not job.instead then
      local problem = check_parents(job, number, by_id, replaced)
      if problem then return nil, problem end
    end
  end
  return ids, nil, replaced
end

local function replace(id)
  local status, queue = unpack(redis.call('HMGET', job_key(id), 'status', 'origin'))
  if not status then return end
  leave(id, queue, status)
  erase(id)
  tell(id, queue, 'deleted')
end

local function write_dependencies(job)
  for _, parent in ipairs(job.parents) do redis.call('SADD', dependencies_key(job.id), parent) end
  for _, parent in ipairs(job.waits_for) do redis.call('SADD', dependents_key(parent), job.id) end
end

-- Where a job goes that has a time or a delay: the due time in whole seconds, or its end of the queue if that has passed.
local function due_position(job)
  if string.sub(job.position, 1, 1) == '+' then return due_after(tonumber(job.position)) end
  if tonumber(job.position) > clock() then return math.ceil(job.position) end
  return job.extra and job.extra.front and FRONT or TAIL
end

-- Register a job that has been written and is not ready.
local function put_off(job, position, seconds)
  if string.sub(job.position, 1, 1) == '+' then redis.call('HSET', job_key(job.id), 'delayed', 1) end
  if job.extra and job.extra.front then redis.call('HSET', job_key(job.id), 'enqueue_at_front', 1) end
  if position == 'deferred' then
    if job.waits_for then write_dependencies(job) end
    defer_job(job.id, job.queue, seconds)
  else
    schedule_job(job.id, job.queue, position)
  end
end

-- Write checked jobs, each to its position; `seconds`: now, since 1970.
local function write_jobs(jobs, seconds)
  local ready, counted = {}, {}
  for _, job in ipairs(jobs) do
    if not job.instead and not job.is_there then
      local position = tonumber(job.position) and due_position(job) or job.position
      local is_ready = position == TAIL or position == FRONT
      create_job(job.id, job.created_at, is_ready, job.ttl, job.first, job.last)
      local name = job.counted_as .. '\t' .. job.queue
      counted[name] = (counted[name] or 0) + 1
      if job.other_parents then
        redis.call('HSET', job_key(job.id), 'dependency_id', job.parents[1], 'dependency_ids', cjson.encode(job.parents))
      end
      if is_ready then
        add_to_batch(ready, job.queue, position, job.id)
      else
        put_off(job, position, seconds)
      end
      if job.extra and job.extra.lock then redis.call('SET', job.extra.lock[1], job.id, 'PX', job.extra.lock[2]) end
    end
  end
  for name, number in pairs(counted) do measure(name, number) end
  for _, ids in pairs(ready) do push(ids.queue, ids, ids.position) end
end

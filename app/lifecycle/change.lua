-- Change a job that has not started, to what RQ 2.12 would have written had it been enqueued so. Returns 'ok', 'queues' if
-- there would be too many, 'again' if its meta is not `old_meta`, the status that does not allow it, or nil if there is no
-- such job. `at`: when to run, in seconds since 1970, in the past means now; or `delay`: seconds from now. `front`,
-- `changes_timeout`, `changes_meta`: 1 or 0.
-- args: id now other_queue? at? delay? front changes_timeout changes_meta old_meta? queue_limit?
-- rest: fields (and their new values)
-- uses: redis/job lifecycle/change_queue enqueue/queue_limit
local job = job_key(id)
local status, origin, meta, at_front = unpack(redis.call('HMGET', job, 'status', 'origin', 'meta', 'enqueue_at_front'))
if not status then return nil end
if changes_meta == '1' and (meta or '') ~= old_meta then return 'again' end
local old_queue = origin or ''
local queue = other_queue ~= '' and other_queue or old_queue
if one_too_many(queue, queue_limit) then return 'queues' end
local moves, gets_time, later = queue ~= old_queue, at ~= '' or delay ~= '', false
if at ~= '' and tonumber(at) > clock() then later = math.ceil(at) end
if delay ~= '' and tonumber(delay) > 0 then later = due_after(tonumber(delay)) end
front = front == '1'

if status == 'queued' then
  local is_first = redis.call('LINDEX', queue_key(old_queue), 0) == id
  if later or moves or (front and not is_first) then
    if not leave(id, old_queue, status) then return 'started' end
    change_queue(id, old_queue, queue)
    if later then
      redis.call('HDEL', job, 'enqueued_at')
      if front then redis.call('HSET', job, 'enqueue_at_front', 1) end
      schedule_job(id, queue, later)
    else
      queue_jobs(queue, { id }, front and FRONT or TAIL)
    end
  elseif not redis.call('LPOS', queue_key(old_queue), id) then
    return 'started'
  end
elseif status == 'scheduled' then
  local due = redis.call('ZSCORE', registry_key('scheduled', old_queue), id)
  if not due then return 'started' end
  local waited = redis.call('HEXISTS', job, 'waits_for') == 1
  if front then redis.call('HSET', job, 'enqueue_at_front', 1) end
  if gets_time or moves then
    leave(id, old_queue, status)
    change_queue(id, old_queue, queue)
    if not later and (gets_time or waited) then -- the next claim checks its limits again
      queue_jobs(queue, { id }, front and FRONT or end_of(at_front), now)
    else
      schedule_job(id, queue, later or due)
    end
  end
elseif status == 'deferred' then
  local since = redis.call('ZSCORE', registry_key('deferred', old_queue), id)
  if gets_time or front or changes_timeout == '1' or not since then return status end
  if moves then
    leave(id, old_queue, status)
    change_queue(id, old_queue, queue)
    defer_job(id, queue, since)
  end
else
  return status
end

if gets_time then redis.call('HDEL', job, 'delayed') end
if delay ~= '' and later then redis.call('HSET', job, 'delayed', 1) end
if ARGV[FIELDS] then redis.call('HSET', job, unpack(ARGV, FIELDS)) end
return 'ok'

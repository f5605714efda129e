-- Keep the progress of a running job in its meta, and tell those who listen. `attempt`: its number; `old_meta`: the meta that
-- is there; `new_meta`: the one that is to be ('': leave it). Returns 1; 0 if the job was deleted, or another attempt has
-- begun; or else the meta that is there, if it is another one: then nothing is changed.
-- args: id queue execution attempt old_meta new_meta report
-- uses: redis/events
local attempts, meta = unpack(redis.call('HMGET', job_key(id), 'attempts', 'meta'))
if redis.call('EXISTS', job_key(id)) == 0 then return 0 end
if attempts ~= attempt and not redis.call('ZSCORE', registry_key('wip', queue), id .. ':' .. execution) then return 0 end
if (meta or '') ~= old_meta then return meta or '' end
if new_meta ~= '' then redis.call('HSET', job_key(id), 'meta', new_meta) end
tell(id, queue, 'progress', 'progress', report)
return 1

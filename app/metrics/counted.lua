-- A library: counts of what scripts do to jobs, until the leading scheduler adds them to the metrics (collect.lua).

-- Count jobs. `name`: an outcome or a source (app/metrics/measures.py), the function and the queue, separated by tabs.
local function measure(name, number) redis.call('HINCRBY', METRICS_COUNTED, name, number) end

-- Count one end of a job that no work horse counts. `func`: its function; nil or '' if that is not known.
local function measure_end(id, queue, outcome, func)
  if not func or func == '' then func = redis.call('HGET', job_key(id), 'function') or '' end
  measure(outcome .. '\t' .. func .. '\t' .. queue, 1)
end

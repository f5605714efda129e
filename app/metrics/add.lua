-- Add measures to the current interval, once for each `batch`.
-- args: batch
-- rest: measures (function, queue, JSON...)
-- uses: metrics/library
local BATCH_SECONDS = 600 -- in which a batch may be sent again
if not redis.call('SET', metrics_batch_key(batch), 1, 'NX', 'EX', BATCH_SECONDS) then return end
local added = {}
for n = MEASURES, #ARGV, 3 do
  local field, measures = counted_as(ARGV[n]) .. '\t' .. ARGV[n + 1], cjson.decode(ARGV[n + 2])
  added[field] = added[field] and merge_measures(added[field], measures) or measures -- some are counted as OTHER_FUNCTIONS
end
add_to_now(added)

-- Add measures to the current interval, once for each `batch`.
-- args: batch
-- rest: measures (function, queue, JSON...)
-- uses: metrics/library
local BATCH_SECONDS = 600 -- in which a batch may be sent again
if not redis.call('SET', metrics_batch_key(batch), 1, 'NX', 'EX', BATCH_SECONDS) then return end
local added = {}
for n = MEASURES, #ARGV, 3 do
  local field, measures = counted_as(ARGV[n]) .. '\t' .. ARGV[n + 1], cjson.decode(ARGV[n + 2])
  if added[field] then -- both are counted as OTHER_FUNCTIONS
    local counts = added[field].c or {}
    for name, number in pairs(measures.c or {}) do counts[name] = (counts[name] or 0) + number end
    measures = { c = counts, r = merge_times(added[field].r, measures.r), w = merge_times(added[field].w, measures.w) }
  end
  added[field] = measures
end
add_to_now(added)

-- An execution is over: what waited for its place may begin. It changes nothing when sent a second time.
-- ARGV: limits (JSON), queue, job's id, execution's id.
local now = clock()
for _, limit in ipairs(cjson.decode(ARGV[1])) do
  if limit[1] == 'slots' then
    local held = redis.call('SREM', key(limit, 'held'), ARGV[2] .. '|' .. ARGV[3] .. ':' .. ARGV[4]) == 1
    if held and redis.call('EXISTS', key(limit, 'waiting')) == 1 then let_go(limit, now) end
  end
end

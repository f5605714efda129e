-- Cancel what has not begun of a workflow: the nodes that wait, here. Returns the members whose jobs are for the caller to
-- cancel; nil if it has ended. ARGV: id, now (RQ's format), 'canceled', or '' if it only stops for a failure.
local flow = { id = ARGV[1], key = 'jobline:workflow:' .. ARGV[1] }
local status = get(flow, 'status')
redis.call('SREM', 'jobline:workflows:stopping', flow.id)
if (status ~= 'running' and status ~= ARGV[3]) or get(flow, 'ended_at') then return nil end
if ARGV[3] ~= '' then set(flow, 'status', ARGV[3]) end
local steps, left, nodes = {}, {}, cjson.decode(get(flow, 'nodes'))
for _, node in ipairs(nodes) do steps[#steps + 1] = { 'drop', node, 'the workflow was canceled' } end
settle(flow, steps, { seconds = tonumber(redis.call('TIME')[1]), text = ARGV[2] })
for _, node in ipairs(nodes) do
  if get(flow, 'state:' .. node) == 'open' then
    each_member(flow, node, function(member)
      if redis.call('HEXISTS', flow.key .. ':ended', member) == 0 then left[#left + 1] = member end
    end)
  end
end
return left

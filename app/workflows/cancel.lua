-- Cancel what has not begun of a workflow: the nodes that wait, here. Returns the members whose jobs are for the caller to
-- cancel; nil if it has ended. ARGV: id, now (RQ's format), 'canceled', or '' if it only stops for a failure: then those
-- that run are left out, and it is to be asked again until there are none, for one that is claimed may still go back.
local flow, stops = { id = ARGV[1], key = 'jobline:workflow:' .. ARGV[1] }, ARGV[3] == ''
local status = get(flow, 'status')
if (status ~= 'running' and status ~= ARGV[3]) or get(flow, 'ended_at') then
  redis.call('SREM', 'jobline:workflows:stopping', flow.id)
  return nil
end
if not stops then set(flow, 'status', ARGV[3]) end
local steps, left, nodes = {}, {}, cjson.decode(get(flow, 'nodes'))
for _, node in ipairs(nodes) do steps[#steps + 1] = { 'drop', node, 'the workflow was canceled' } end
settle(flow, steps, { seconds = tonumber(redis.call('TIME')[1]), text = ARGV[2] })
for _, node in ipairs(nodes) do
  if get(flow, 'state:' .. node) == 'open' then
    each_member(flow, node, function(member)
      if redis.call('HEXISTS', flow.key .. ':ended', member) == 0
        and not (stops and redis.call('HGET', 'rq:job:' .. flow.id .. '-' .. member, 'status') == 'started') then
        left[#left + 1] = member
      end
    end)
  end
end
if not stops or #left == 0 then redis.call('SREM', 'jobline:workflows:stopping', flow.id) end
return left

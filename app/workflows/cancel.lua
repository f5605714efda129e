-- Cancel what has not begun of a workflow: the nodes that wait, here. Returns the members whose jobs are for the caller to
-- cancel; nil if it has ended. `status`: 'canceled', or '' if it only stops for a failure: then those that run are left out,
-- and it is to be asked again until there are none, for one that is claimed may still go back.
-- args: id now status?
-- uses: workflows/library
local flow, stops = workflow(id), status == ''
local current = get(flow, 'status')
if (current ~= 'running' and current ~= status) or get(flow, 'ended_at') then
  redis.call('SREM', WORKFLOWS_STOPPING, flow.id)
  return nil
end
if not stops then set(flow, 'status', status) end
local steps, left, nodes = {}, {}, cjson.decode(get(flow, 'nodes'))
for _, node in ipairs(nodes) do steps[#steps + 1] = { 'drop', node, 'the workflow was canceled' } end
settle(flow, steps, { seconds = tonumber(redis.call('TIME')[1]), text = now })
for _, node in ipairs(nodes) do
  if get(flow, 'state:' .. node) == 'open' then
    each_member(flow, node, function(member)
      if redis.call('HEXISTS', flow.ended, member) == 0
        and not (stops and redis.call('HGET', job_key(flow.id .. '-' .. member), 'status') == 'started') then
        left[#left + 1] = member
      end
    end)
  end
end
if not stops or #left == 0 then redis.call('SREM', WORKFLOWS_STOPPING, flow.id) end
return left

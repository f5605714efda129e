-- Cancel the waiting nodes of a workflow. Returns the members whose jobs the caller must cancel; nil if it has ended.
-- `status`: 'canceled', or '' if it only stops after a failure: then running jobs are left out, and the script must be called
-- again until there are none, because a claimed job may return to its queue.
-- args: id now status?
-- uses: workflows/library
local workflow, stops = workflow_record(id), status == ''
local current = get(workflow, 'status')
if (current ~= 'running' and current ~= status) or get(workflow, 'ended_at') then
  redis.call('SREM', WORKFLOWS_STOPPING, workflow.id)
  return nil
end
if not stops then set(workflow, 'status', status) end
local steps, left, nodes = {}, {}, cjson.decode(get(workflow, 'nodes'))
for _, node in ipairs(nodes) do steps[#steps + 1] = { 'drop', node, 'the workflow was canceled' } end
settle(workflow, steps, { seconds = tonumber(redis.call('TIME')[1]), text = now })
for _, node in ipairs(nodes) do
  if get(workflow, 'state:' .. node) == 'open' then
    each_member(workflow, node, function(member)
      if redis.call('HEXISTS', workflow.ended, member) == 0
        and not (stops and redis.call('HGET', job_key(workflow.id .. '-' .. member), 'status') == 'started') then
        left[#left + 1] = member
      end
    end)
  end
end
if not stops or #left == 0 then redis.call('SREM', WORKFLOWS_STOPPING, workflow.id) end
return left

-- A library: store the response to an idempotent request. `answer`: JSON, or '' if it is not known yet; `token`: an id of
-- this attempt.
local function keep_receipt(key, seconds, request, answer, ids, token)
  local known = answer ~= '' and '"answer":' .. answer or '"ids":' .. cjson.encode(ids)
  redis.call('SET', key, '{"request":"' .. request .. '","token":"' .. token .. '",' .. known .. '}', 'EX', seconds)
end

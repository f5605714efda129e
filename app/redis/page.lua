-- Read a page of a sorted set, highest first: members and scores, after the position (`score`, `last`), whose member may
-- no longer exist. Without a position: from the beginning.
-- args: key score? last? count
count = tonumber(count)
if score == '' then return redis.call('ZREVRANGE', key, 0, count - 1, 'WITHSCORES') end

-- Byte order, as Redis orders members with equal scores: Lua compares by the locale.
local function before(one, other)
  for n = 1, math.min(#one, #other) do
    local a, b = string.byte(one, n), string.byte(other, n)
    if a ~= b then return a < b end
  end
  return #one < #other
end

-- Find the first member with this score after the position.
local low, high = redis.call('ZCOUNT', key, '(' .. score, '+inf'), redis.call('ZCOUNT', key, score, '+inf')
while low < high do
  local middle = math.floor((low + high) / 2)
  if before(redis.call('ZREVRANGE', key, middle, middle)[1], last) then high = middle else low = middle + 1 end
end
return redis.call('ZREVRANGE', key, low, low + count - 1, 'WITHSCORES')

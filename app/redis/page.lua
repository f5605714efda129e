-- Read a page of a sorted set, highest first: members and scores, after a member that may be gone. `score`, `last`: those of
-- that member; left out: from the beginning.
-- args: key score? last? count
count = tonumber(count)
if score == '' then return redis.call('ZREVRANGE', key, 0, count - 1, 'WITHSCORES') end

-- As Redis orders members of one score: Lua's own comparison goes by the locale.
local function before(one, other)
  for n = 1, math.min(#one, #other) do
    local a, b = string.byte(one, n), string.byte(other, n)
    if a ~= b then return a < b end
  end
  return #one < #other
end

-- The first of those with this score that comes after the place.
local low, high = redis.call('ZCOUNT', key, '(' .. score, '+inf'), redis.call('ZCOUNT', key, score, '+inf')
while low < high do
  local middle = math.floor((low + high) / 2)
  if before(redis.call('ZREVRANGE', key, middle, middle)[1], last) then high = middle else low = middle + 1 end
end
return redis.call('ZREVRANGE', key, low, low + count - 1, 'WITHSCORES')

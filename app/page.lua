-- A page of a sorted set, highest first, after a place whose member may be gone: members and scores. Reads only.
-- KEYS: sorted set. ARGV: score and member of the place, or '' and '' for the beginning; how many at most.
local key, score, last, count = KEYS[1], ARGV[1], ARGV[2], tonumber(ARGV[3])
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

-- Take members out of a sorted set whose keys are gone. KEYS: sorted set. ARGV: prefix of their keys, members.
for n = 2, #ARGV do
  if redis.call('EXISTS', ARGV[1] .. ARGV[n]) == 0 then redis.call('ZREM', KEYS[1], ARGV[n]) end
end

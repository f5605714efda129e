-- Remove members of a sorted set whose keys, `prefix` and member, no longer exist.
-- args: key prefix
-- rest: members
for n = MEMBERS, #ARGV do
  if redis.call('EXISTS', prefix .. ARGV[n]) == 0 then redis.call('ZREM', key, ARGV[n]) end
end

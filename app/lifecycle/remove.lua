-- Delete keys without expiry whose jobs no longer exist.
-- args:
-- rest: pairs (a key, and the id of its job)
for n = PAIRS, #ARGV, 2 do
  local key, id = ARGV[n], ARGV[n + 1]
  if redis.call('EXISTS', job_key(id)) == 0 and redis.call('TTL', key) == -1 then redis.call('DEL', key) end
end

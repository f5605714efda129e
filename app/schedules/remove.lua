-- Delete what is kept of jobs that are gone, where it has no expiry. KEYS: such keys. ARGV: the job hash of each.
for n, key in ipairs(KEYS) do
  if redis.call('EXISTS', ARGV[n]) == 0 and redis.call('TTL', key) == -1 then redis.call('DEL', key) end
end

-- An execution is over. ARGV: limits (JSON), queue, job's id, execution's id.
release(ARGV[1], ARGV[2], ARGV[3], ARGV[4])

-- For an end that was not told: ARGV: job's id, its state, its result (Base64) or ''.
advance(ARGV[1], ARGV[2], ARGV[3])

-- An execution is over: give back the places that it held.
-- args: limits queue id execution
-- uses: limits/library
release(limits, queue, id, execution)

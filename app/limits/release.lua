-- Release the slots of an ended execution.
-- args: limits queue id execution
-- uses: limits/library
release(limits, queue, id, execution)

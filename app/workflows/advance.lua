-- A job of a workflow has ended, and nobody told of it. `value`: its result (Base64), or ''.
-- args: id status now value?
-- uses: workflows/library
advance(id, status, value, now)

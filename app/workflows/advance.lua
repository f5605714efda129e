-- Record the end of a workflow's job that no script has reported. `value`: its result (Base64), or ''.
-- args: id status now value?
-- uses: workflows/library
advance(id, status, value, now)

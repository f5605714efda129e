"""Redis access: clients, key templates, Lua scripts, and the state machine of a job (job.lua)."""

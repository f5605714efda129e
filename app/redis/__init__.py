"""Redis: the client, every key, scripts by name, and in job.lua the one state machine of a job."""

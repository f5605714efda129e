"""The event stream of jobs."""

"""The stream of what happens to jobs."""

"""The one way into RQ: new jobs, unique jobs, idempotent requests, and the script that writes jobs."""

"""RQ's own tests, run against our worker class; `python -m tests.rq_suite [-k EXPR]` shows what fails there and why."""

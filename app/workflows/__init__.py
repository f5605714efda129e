"""Workflows: graphs of RQ jobs, each deferred until its dependencies have ended.

The script that ends a job also advances its workflow (library.lua), so a killed process cannot leave the graph behind,
and no end is counted twice.

`graph` validates a workflow, `store` writes and cancels it, `view` shows it, `results` inserts the results of jobs into
the arguments of others.
"""

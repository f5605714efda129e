"""Workflows: graphs of jobs. Each job is RQ's, deferred until all that it needs has ended; the graph is moved on in the
very step that ends a job (library.lua), so that no kill can leave it behind, and no end counts twice.

`graph` checks what is submitted, `store` writes and cancels it, `view` shows it, `results` puts the results of jobs
into the arguments of those that need them.
"""

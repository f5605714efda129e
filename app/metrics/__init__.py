"""Metrics: what was enqueued, how jobs ended, how long they ran and waited, by function and queue.

A work horse counts in memory that it shares with its parent (shared_counters.py), which writes the difference once a
second. Scripts count what no work horse ends (counted.lua). Redis has one hash for each interval of 10, 60, 600 and
3,600 seconds, and totals (store.py); the leading scheduler merges intervals that are over.
"""

"""Imported at the end of RQ's `tests/__init__.py`: the port that its tests do not name is our server's, not 6379."""

import os
from inspect import unwrap

import redis

for made in (redis.Redis, redis.Connection):
    init = unwrap(made.__init__)
    init.__defaults__ = tuple(int(os.environ["RQ_SUITE_PORT"]) if d == 6379 else d for d in init.__defaults__ or ())

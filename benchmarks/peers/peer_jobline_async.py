"""Jobline, with a coroutine function: filled by stock RQ, as the others are."""

from functools import partial

import peer_rq

fill = partial(peer_rq.fill, function="jobs.bench.async_noop")

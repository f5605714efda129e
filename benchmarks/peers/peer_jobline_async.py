"""Jobline, with coroutine functions: filled by stock RQ, as the others are."""

from functools import partial

import peer_rq
from peer_jobline import stamp as _stamp
from peer_jobline import stamped

__all__ = ["fill", "stamp", "stamped"]

fill = partial(peer_rq.fill, function="jobs.bench.async_noop")
stamp = partial(_stamp, "bench.async_stamp")

"""Which errors of Redis may pass: then the API answers 503, and workers and schedulers try again."""

import re
from collections.abc import Iterable

from redis.exceptions import (
    ClusterDownError,
    ConnectionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,
    TryAgainError,
)

TRANSIENT_CODES = (
    "BUSY",  # a script runs for too long
    "CLUSTERDOWN",
    "LOADING",  # it has just started
    "MASTERDOWN",
    "MISCONF",  # the disk is full, or fails
    "NOREPLICAS",
    "OOM",  # maxmemory is reached
    "READONLY",  # a replica, after a failover
    "TRYAGAIN",
    "UNBLOCKED",
)
"""With which Redis refuses a command that it may take later."""
_TRANSIENT_CODE = re.compile(rf"(?:^|caused error: |: -)(?:{'|'.join(TRANSIENT_CODES)})\b")
# at the beginning, or behind what redis-py says of a pipeline, or Redis 6.2 of a script
_TRANSIENT_ERRORS = (ConnectionError, TimeoutError, ClusterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError)
# redis-py takes the code off the messages of these


def is_transient(error: RedisError) -> bool:
    """Whether the same command may succeed later."""
    return isinstance(error, _TRANSIENT_ERRORS) or is_transient_reply(str(error))


def raise_transient(answers: Iterable[object]) -> None:
    """Of a pipeline whose errors were not raised: raise the first that may pass, for it says nothing of one entry."""
    for answer in answers:
        if isinstance(answer, RedisError) and is_transient(answer):
            raise answer


def is_transient_reply(reply: str) -> bool:
    """Whether an error reply, as Redis sends it, has one of the CODES."""
    return bool(_TRANSIENT_CODE.search(reply))

"""Transient Redis errors: the API answers them with 503, workers and schedulers retry."""

import re
from collections.abc import Iterable
from typing import Any

from redis.client import Pipeline
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
    "BUSY",  # a script is running for too long
    "CLUSTERDOWN",
    "LOADING",  # Redis has just started
    "MASTERDOWN",
    "MISCONF",  # the disk is full or failing
    "NOREPLICAS",
    "OOM",  # maxmemory is reached
    "READONLY",  # a replica, after a failover
    "TRYAGAIN",
    "UNBLOCKED",
)
"""Error codes with which Redis refuses a command that may succeed later."""
_TRANSIENT_CODE = re.compile(rf"(?:^|caused error: |: -)(?:{'|'.join(TRANSIENT_CODES)})\b")
# at the start, or after the prefix that redis-py adds for pipelines and Redis 6.2 for scripts
_TRANSIENT_ERRORS = (ConnectionError, TimeoutError, ClusterDownError, OutOfMemoryError, ReadOnlyError, TryAgainError)
# redis-py removes the code from the messages of these


def is_transient(error: RedisError) -> bool:
    """Whether the same command may succeed later."""
    return isinstance(error, _TRANSIENT_ERRORS) or is_transient_reply(str(error))


def raise_transient(answers: Iterable[object]) -> None:
    """Raise the first transient error among the answers of a pipeline: it says nothing about a single entry."""
    for answer in answers:
        if isinstance(answer, RedisError) and is_transient(answer):
            raise answer


def execute_each(pipeline: Pipeline) -> list[Any]:
    """Execute a pipeline. Returns for each command its answer, or the error with which it alone was refused.

    Raises:
        redis.RedisError: a transient error, of whichever command.
    """
    answers = pipeline.execute(raise_on_error=False)
    raise_transient(answers)
    return answers


def is_transient_reply(reply: str) -> bool:
    """Whether a raw error reply of Redis has one of the TRANSIENT_CODES."""
    return bool(_TRANSIENT_CODE.search(reply))

"""Rate limits, concurrency limits and circuit breakers: stored in the job's hash and enforced when it is claimed.

A job that may not start yet is postponed: it waits in RQ's scheduled registry and, first in first out, in the waiting
list of the limit (library.lua). It returns to the head of its queue when the limit has room: when a running job ends
(release.lua), or at a check by the leading scheduler (look.lua). Postponing does not use up a retry.
"""

import secrets
from typing import Any

import redis

from app.author.options import Breaker, Limit, parse_rate
from app.catalog.call_keys import fill_key
from app.catalog.catalog import Function
from app.redis.scripts import Script

SWEEP, COUNT_FAILURE = Script("limits/look"), Script("limits/count_failure")

JobLimits = list[list[str | float]]
"""The limits of a job, as the scripts read them: [kind, id, maximum, window in seconds]."""


def limits_of(
    function: Function, queue: str, args: list[Any], kwargs: dict[str, Any],
    rate_limit: Limit | None, concurrency: Limit | None, breaker: Breaker | None, pointer: str = "#",
) -> JobLimits:  # fmt: skip
    """The limits of a call.

    Raises:
        Invalid: a key refers to an unknown argument.
    """
    limits: JobLimits = []
    if rate_limit:
        named = _limit_id("rate", rate_limit, function, queue, args, kwargs, f"{pointer}/rate_limit")
        limits.append(["rate", named, *parse_rate(str(rate_limit.most))])
    if concurrency:
        named = _limit_id("slots", concurrency, function, queue, args, kwargs, f"{pointer}/concurrency")
        limits.append(["slots", named, int(concurrency.most), 0])
    if breaker:
        limits.append(["breaker", function.name])
    return limits


def declared_limits(function: Function, queue: str, args: list[Any], kwargs: dict[str, Any]) -> JobLimits:
    """The limits of a call by the options of its function. Raises like `limits_of`."""
    options = function.options
    return limits_of(function, queue, args, kwargs, options.rate_limit, options.concurrency, options.breaker)


def _limit_id(
    kind: str, limit: Limit, function: Function, queue: str, args: list[Any], kwargs: dict[str, Any], pointer: str
) -> str:
    subject = function.name if limit.by == "function" else queue
    value = fill_key(limit.key, function.bind(args, kwargs), f"{pointer}/key") if limit.key else ""
    return f"{kind}:{limit.by}:{subject}:{value}"


def sweep(connection: redis.Redis) -> float:
    """Release waiting jobs for which there is room. Returns the seconds until the next check."""
    return float(SWEEP(connection))


def count_failure(connection: redis.Redis, function: Function) -> None:
    """Count a failed attempt, which may open the circuit breaker of its function."""
    breaker = function.options.breaker
    if breaker:
        COUNT_FAILURE(
            connection,
            function_name=function.name,
            most=breaker.failures,
            window=breaker.window,
            cool_down=breaker.cool_down,
            token=secrets.token_hex(8),
        )

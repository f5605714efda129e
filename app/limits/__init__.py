"""Rates, concurrency and breakers: what a job is subject to, as its hash says it; held to by Redis in the claim.

A job that may not begin yet is put off: it waits in RQ's scheduled registry, and in the order of its coming in a list
of the limit that it waits for (library.lua). It comes back to the head of its queue when the limit has room: when a job
that held it ends (release.lua), or when its time has come (look.lua, by the leading scheduler). It spends no retry.
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


def limits_of(
    function: Function, queue: str, args: list[Any], kwargs: dict[str, Any],
    rate_limit: Limit | None, concurrency: Limit | None, breaker: Breaker | None, pointer: str = "#",
) -> JobLimits:  # fmt: skip
    """What a call is subject to, as the scripts read it: [kind, id, most, window in seconds].

    Raises:
        Invalid: a key names what is no argument.
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
    """What a call is subject to by the options of its function alone. Raises as `limits_of`."""
    options = function.options
    return limits_of(function, queue, args, kwargs, options.rate_limit, options.concurrency, options.breaker)


def _limit_id(
    kind: str, limit: Limit, function: Function, queue: str, args: list[Any], kwargs: dict[str, Any], pointer: str
) -> str:
    subject = function.name if limit.by == "function" else queue
    value = fill_key(limit.key, function.named(args, kwargs), f"{pointer}/key") if limit.key else ""
    return f"{kind}:{limit.by}:{subject}:{value}"


def sweep(connection: redis.Redis) -> float:
    """Let go what limits have room for; seconds until there may be more."""
    return float(SWEEP(connection))


def count_failure(connection: redis.Redis, function: Function) -> None:
    """An attempt has failed: that may be one too many for its breaker."""
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

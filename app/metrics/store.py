"""Metrics in Redis: totals, and one hash for each interval of 10, 60, 600 and 3,600 seconds.

The work of a job is added to the current interval of 10 seconds. When that is over, the leading scheduler merges it
into the longer ones and the totals; until then, readers add it themselves.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping

import redis

from app.metrics.measures import Measures
from app.redis.client import seconds_now
from app.redis.keys import METRICS_TOTALS, METRICS_UNMERGED, metrics_key
from app.redis.scripts import Script

KEPT_SECONDS = {10: 15 * 60, 60: 8 * 3600, 600: 72 * 3600, 3600: 72 * 3600}
"""Maps the length of an interval to how long it is kept; both in seconds."""
SHORTEST = min(KEPT_SECONDS)

ADD = Script("metrics/add")
COLLECT = Script("metrics/collect")
MERGE = Script("metrics/merge")

Series = tuple[str, str]
"""A function and a queue; without a function, the whole queue."""
Wanted = Callable[[Series], bool]


def add(connection: redis.Redis, added: Mapping[Series, Measures], batch: str) -> None:
    """Add what was measured to the current interval; once, however often this `batch` is sent.

    Raises:
        redis.RedisError
    """
    queues = dict[str, Measures]()
    for (_, queue), measures in added.items():
        queues.setdefault(queue, Measures()).merge(measures)
    entries = {**added, **{("", queue): measures for queue, measures in queues.items()}}
    words = [word for (name, queue), measures in entries.items() for word in (name, queue, measures.as_json())]
    if words:
        ADD(connection, words, batch=batch)


def sweep(connection: redis.Redis) -> None:
    """Collect what scripts have counted, and merge the intervals that are over. Raises redis.RedisError."""
    COLLECT(connection)
    now = seconds_now(connection)
    for start in _unmerged(connection):
        if start + SHORTEST <= now:
            MERGE(connection, start=start)


def totals(connection: redis.Redis) -> dict[Series, Measures]:
    """All measures since the first, by function and queue, without those of whole queues. Raises redis.RedisError."""
    starts = _unmerged(connection)
    with connection.pipeline() as pipeline:
        pipeline.smembers(METRICS_UNMERGED)
        pipeline.hgetall(METRICS_TOTALS)
        for start in starts:
            pipeline.hgetall(metrics_key(SHORTEST, start))
        still_unmerged, merged, *intervals = pipeline.execute()
    found = dict[Series, Measures]()
    unmerged = [entries for start, entries in zip(starts, intervals, strict=True) if b"%d" % start in still_unmerged]
    for entries in (merged, *unmerged):
        for field, value in entries.items():
            series = _series(field)
            if series[0]:
                found.setdefault(series, Measures()).merge_json(value)
    return found


def read(
    connection: redis.Redis, length: int, starts: Collection[int], wanted: Wanted
) -> Iterator[tuple[int, Series, bytes]]:
    """Measures as JSON, with the start of their interval of this length, and their series; several of one may come.

    Raises:
        redis.RedisError
    """
    sources = {metrics_key(length, start): start for start in starts}
    unmerged = _unmerged(connection) if length != SHORTEST else []
    longer = {start: start - start % length for start in unmerged}
    sources |= {metrics_key(SHORTEST, start): into for start, into in longer.items() if into in starts}
    known = {field: _series(field) for field in _fields(connection, unmerged or sources.values())}
    fields = {field: series for field, series in known.items() if wanted(series)}
    if not fields:
        return
    with connection.pipeline(transaction=False) as pipeline:
        for key in sources:
            pipeline.hmget(key, list(fields))
        answers = pipeline.execute()
    for start, values in zip(sources.values(), answers, strict=True):
        for series, value in zip(fields.values(), values, strict=True):
            if value:
                yield start, series, value


def _unmerged(connection: redis.Redis) -> list[int]:
    """The starts of the intervals of 10 seconds that are not merged into longer ones."""
    return sorted(int(start) for start in connection.smembers(METRICS_UNMERGED))


def _fields(connection: redis.Redis, unmerged: Iterable[int]) -> set[bytes]:
    """The fields that the hashes have: all series so far."""
    with connection.pipeline(transaction=False) as pipeline:
        pipeline.hkeys(METRICS_TOTALS)
        for start in unmerged:
            pipeline.hkeys(metrics_key(SHORTEST, start))
        return {field for fields in pipeline.execute() for field in fields}


def _series(field: bytes) -> Series:
    function, _, queue = field.decode(errors="replace").partition("\t")
    return function, queue

"""/stats: how many jobs were enqueued and ended, and how long they ran and waited."""

from datetime import datetime, timedelta

from flask import Response

from app.api.auth import requires
from app.api.context import context, json_response
from app.api.openapi import blueprint
from app.api.schemas.stats import RangeQuery, Stats, StatsOfFunctions, StatsQuery
from app.metrics import stats
from app.redis.client import seconds_now

api = blueprint("stats", "stats", "/api/v1/stats")


@api.get("", responses={200: Stats})
@requires("read")
def get_stats(query: StatsQuery) -> Response:
    """Get statistics over time.

    Of all functions and queues together, or of one. What a worker has counted is there after a second.
    """
    return json_response(stats.over_time(context().redis, _span(query), query.function, query.queue))


@api.get("/functions", responses={200: StatsOfFunctions})
@requires("read")
def list_function_stats(query: RangeQuery) -> Response:
    """Get statistics of each function.

    Of functions of which jobs were enqueued or ended in this time.
    """
    return json_response(stats.of_functions(context().redis, _span(query, is_coarse=True), query.queue))


def _span(query: RangeQuery, is_coarse: bool = False) -> stats.Range:
    now = seconds_now(context().redis)
    return stats.Range.of(_seconds(query.start, now), _seconds(query.end, now), now, query.step, is_coarse)


def _seconds(moment: datetime | timedelta, now: float) -> float:
    return now - moment.total_seconds() if isinstance(moment, timedelta) else moment.timestamp()

"""Statistics of a range of time, as JSON: counts, rates and percentiles of run times and wait times."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import redis

from app.errors import Invalid
from app.metrics import store
from app.metrics.histogram import DIGITS, Histogram, upper_bound
from app.metrics.measures import OUTCOMES, Measures
from app.metrics.store import KEPT_SECONDS
from app.redis.hash_values import utc_of

MAX_POINTS = 1000
COARSE_POINTS = 40
QUANTILES = {"p50": 0.5, "p95": 0.95, "p99": 0.99}


@dataclass(frozen=True)
class Range:
    """Points of `step` seconds from `start` up to `end`, both in seconds since 1970 and multiples of `step`."""

    start: int
    end: int
    step: int
    length: int
    """The length of the stored intervals that are read, in seconds."""

    @classmethod
    def of(cls, start: float, end: float, now: float, step: int | None, is_coarse: bool = False) -> "Range":
        """The range from the point that has `start` to the one that has `end`.

        Without `step`, points are as short as the stored intervals, or with `is_coarse` as long as leaves about
        COARSE_POINTS.

        Raises:
            Invalid: `start` is not before `end`, `step` does not fit, or there are too many points.
        """
        if start >= end:
            raise _invalid("from", "is not before `to`")
        length = next((length for length, kept in KEPT_SECONDS.items() if now - start <= kept), max(KEPT_SECONDS))
        if is_coarse and not step:
            length = max([length, *(longer for longer in KEPT_SECONDS if (end - start) / longer >= COARSE_POINTS)])
        step = step or length
        if step % length:
            raise _invalid("step", f"must be a multiple of {length} seconds for a range that begins then")
        points = Range(int(start // step) * step, int(-(-end // step)) * step, step, length)
        if len(points.starts) > MAX_POINTS:
            raise _invalid("step", f"gives {len(points.starts)} points; {MAX_POINTS} are allowed")
        return points

    @property
    def starts(self) -> range:
        return range(self.start, self.end, self.step)

    @property
    def intervals(self) -> range:
        return range(self.start, self.end, self.length)

    def as_json(self) -> dict[str, Any]:
        return {"from": utc_of(self.start), "to": utc_of(self.end), "step": self.step}


def over_time(connection: redis.Redis, span: Range, function: str | None, queue: str | None) -> dict[str, Any]:
    """Statistics of each point, and of all. Without `function`, those of all functions. Raises redis.RedisError."""
    found = store.read(
        connection,
        span.length,
        span.intervals,
        lambda series: series[0] == (function or "") and queue in (None, series[1]),
    )
    points = {start: Measures() for start in span.starts}
    for start, _, text in found:
        points[start - start % span.step].merge_json(text)
    total = Measures()
    for measures in points.values():
        total.merge(measures)
    return {
        **span.as_json(),
        "points": [{"at": utc_of(start), **_as_json(measures)} for start, measures in points.items()],
        "total": _as_json(total, with_buckets=True),
    }


def of_functions(connection: redis.Redis, span: Range, queue: str | None) -> dict[str, Any]:
    """Statistics of each function that was enqueued or has ended, and its ends in each point. Raises RedisError."""
    found = store.read(
        connection, span.length, span.intervals, lambda series: bool(series[0]) and queue in (None, series[1])
    )
    functions, trends = dict[str, Measures](), dict[str, Counter[int]]()
    for start, (name, _), text in found:
        measures = functions.setdefault(name, Measures())
        before = measures.ended
        measures.merge_json(text)
        trends.setdefault(name, Counter())[start - start % span.step] += measures.ended - before
    return {
        **span.as_json(),
        "functions": [
            {"name": name, **_as_json(measures), "trend": [trends[name][start] for start in span.starts]}
            for name, measures in sorted(functions.items())
        ],
    }


def _as_json(measures: Measures, with_buckets: bool = False) -> dict[str, Any]:
    return {
        "enqueued": measures.enqueued,
        **{outcome: measures.counts[outcome] for outcome in OUTCOMES},
        "run": _durations(measures.run, with_buckets),
        "wait": _durations(measures.wait, with_buckets),
    }


def _durations(times: Histogram, with_buckets: bool) -> dict[str, Any] | None:
    if not times.count:
        return None
    shown: dict[str, Any] = {"count": times.count, "mean": round(times.sum / times.count, DIGITS)}
    shown |= {name: round(times.quantile(share) or 0.0, DIGITS) for name, share in QUANTILES.items()}
    shown["max"] = round(times.max, DIGITS)
    if with_buckets:
        shown["histogram"] = _buckets(times.counts)
    return shown


def _buckets(counts: Counter[int]) -> list[tuple[float, int]]:
    buckets: Iterable[int] = range(min(counts), max(counts) + 1)
    return [(round(upper_bound(bucket), DIGITS), counts[bucket]) for bucket in buckets]


def _invalid(name: str, why: str) -> Invalid:
    return Invalid("The range of time is invalid", [{"detail": f"{name} {why}", "pointer": f"#/{name}"}])

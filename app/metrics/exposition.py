"""Metrics for Prometheus: what /metrics says. All of it comes from Redis, so each API process answers alike."""

import platform
from collections.abc import Iterator, Mapping
from typing import Any

import redis
import rq
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, Metric

from app.catalog.catalog import Catalog, function_name
from app.metrics import store
from app.metrics.histogram import Histogram
from app.metrics.measures import OUTCOMES, SOURCES, Measures
from app.redis.client import seconds_now
from app.redis.errors import execute_each
from app.redis.keys import (
    LIMITS_WAITING,
    METRICS_RECOVERED,
    OUTBOX,
    breaker_key,
    limit_key,
)
from app.schedules import store as schedules
from app.views import health, listing
from app.webhooks import webhook_delivery

MAX_LIMITS = 1000
"""How many limits have metrics of their own."""
STATES = ("queued", "started", "finished", "failed", "deferred", "scheduled", "canceled")
DELIVERY = function_name(webhook_delivery.DELIVER)


class Exposition:
    """A collector of prometheus_client: reads Redis once for each scrape."""

    def __init__(self, connection: redis.Redis, catalog: Catalog, with_rq_exporter: bool) -> None:
        """`with_rq_exporter`: also the metrics of rq-exporter 3, under its names."""
        self._connection, self._catalog, self._with_rq_exporter = connection, catalog, with_rq_exporter

    def collect(self) -> Iterator[Metric]:
        """Raises redis.RedisError."""
        connection = self._connection
        queues, _ = listing.queues(connection)
        workers, _ = listing.workers(connection)
        if self._with_rq_exporter:
            yield from _of_rq_exporter(queues, workers)
        totals = store.totals(connection)
        yield from _of_jobs(totals)
        yield from _of_queues(connection, queues)
        yield from _of_workers(workers)
        yield from _of_recovery(connection)
        yield from _of_limits(connection, self._catalog)
        yield from _of_schedules(connection)
        yield from _of_webhooks(connection, totals)
        yield from _of_redis(connection)
        yield _gauge("jobline_build_info", "Versions", ["python", "rq"], {(platform.python_version(), rq.VERSION): 1})


def _of_rq_exporter(queues: list[dict[str, Any]], workers: list[dict[str, Any]]) -> Iterator[Metric]:
    """The names and labels of rq-exporter 3, so that its dashboards work."""
    named = {(worker["name"], ",".join(worker["queues"])): worker for worker in workers}
    states = {(name, named[name, queue_list]["state"], queue_list): 1 for name, queue_list in named}
    yield _gauge("rq_workers", "RQ workers", ["name", "state", "queues"], states)
    for name, field, text in (
        ("success", "successful_job_count", "Number of jobs that succeeded"),
        ("failed", "failed_job_count", "Number of jobs that failed"),
        ("working_time", "total_working_time", "Seconds that jobs ran"),
    ):
        values = {labels: worker[field] for labels, worker in named.items()}
        yield _counter(f"rq_workers_{name}", f"{text}, by worker", ["name", "queues"], values)
    yield _gauge("rq_jobs", "RQ jobs by state", ["queue", "status"], _jobs_by_state(queues))


def _jobs_by_state(queues: list[dict[str, Any]]) -> dict[tuple[str, str], int]:
    return {(queue["name"], state): queue["counts"][state] for queue in queues for state in STATES}


def _of_jobs(totals: Mapping[store.Series, Measures]) -> Iterator[Metric]:
    series = {(queue, function): measures for (function, queue), measures in sorted(totals.items())}
    for name, text, label, values in (
        ("jobline_jobs", "Attempts that have ended, by outcome", "outcome", OUTCOMES),
        ("jobline_jobs_enqueued", "Jobs that were enqueued, by source", "source", SOURCES),
    ):
        counted = {
            (*key, value): measures.counts[value]
            for key, measures in series.items()
            for value in values
            if measures.counts[value]
        }
        yield _counter(name, text, ["queue", "function", label], counted)
    run = {key: measures.run for key, measures in series.items() if measures.run.count}
    wait = {key: measures.wait for key, measures in series.items() if measures.wait.count}
    yield _histogram("jobline_job_run_seconds", "From the start of an attempt to its end", run)
    yield _histogram("jobline_job_wait_seconds", "From being queued to the start", wait)


def _of_queues(connection: redis.Redis, queues: list[dict[str, Any]]) -> Iterator[Metric]:
    yield _gauge("jobline_queue_jobs", "Jobs by state", ["queue", "status"], _jobs_by_state(queues))
    paused = {(queue["name"],): float(queue["paused"]) for queue in queues}
    now = seconds_now(connection)
    oldest = {(queue["name"],): listing.age(queue, now) for queue in queues}
    yield _gauge("jobline_queue_oldest_seconds", "How long the next job of a queue has waited", ["queue"], oldest)
    yield _gauge("jobline_queue_paused", "1: the queue is paused", ["queue"], paused)


def _of_workers(workers: list[dict[str, Any]]) -> Iterator[Metric]:
    states = {(state,): 0 for state in listing.WORKER_STATES}
    for worker in workers:
        states[worker["state"],] = states.get((worker["state"],), 0) + 1
    yield _gauge("jobline_workers", "Workers by state", ["state"], states)
    for name, field, text in (
        ("cpu", "host_cpu_percent", "Use of the processors of a host, 0 to 1"),
        ("memory", "host_memory_percent", "Use of the memory of a host, 0 to 1"),
    ):
        hosts = {
            (worker["hostname"],): worker[field] / 100
            for worker in workers
            if worker["hostname"] and worker[field] is not None
        }
        yield _gauge(f"jobline_host_{name}_ratio", text, ["host"], hosts)
    rss = {(worker["name"],): worker["rss_bytes"] for worker in workers if worker["rss_bytes"]}
    cpu = {(worker["name"],): worker["cpu_seconds"] for worker in workers if worker["cpu_seconds"]}
    yield _gauge("jobline_worker_rss_bytes", "Memory of a worker and its work horse", ["worker"], rss)
    yield _counter("jobline_worker_cpu_seconds", "CPU time of a worker and its work horses", ["worker"], cpu)


def _of_recovery(connection: redis.Redis) -> Iterator[Metric]:
    counts = {(reason.decode(),): int(count) for reason, count in connection.hgetall(METRICS_RECOVERED).items()}
    yield _counter("jobline_recovered", "Attempts that others than their work horse ended", ["reason"], counts)


def _of_limits(connection: redis.Redis, catalog: Catalog) -> Iterator[Metric]:
    limits = [name.decode(errors="replace") for name in connection.zrange(LIMITS_WAITING, 0, MAX_LIMITS - 1)]
    breakers = [function.name for function in catalog.offered.values() if function.options.breaker]
    with connection.pipeline(transaction=False) as pipeline:
        for limit in limits:
            pipeline.llen(limit_key(limit, "waiting"))
        for name in breakers:
            pipeline.exists(breaker_key(name, "open"))
        answers = [answer if isinstance(answer, int) else 0 for answer in execute_each(pipeline)]
    waiting = {(limit,): answers[n] for n, limit in enumerate(limits)}
    is_open = {(name,): answers[len(limits) + n] for n, name in enumerate(breakers)}
    yield _gauge("jobline_limit_waiting", "Jobs that wait for a limit", ["limit"], waiting)
    yield _gauge("jobline_breaker_open", "1: the circuit breaker of a function is open", ["function"], is_open)


def _of_schedules(connection: redis.Redis) -> Iterator[Metric]:
    now, age = seconds_now(connection), health.scheduler_age(connection)
    leader = {} if age is None else {(): age}
    yield _gauge(
        "jobline_scheduler_age_seconds", "Since the leading scheduler last moved; none if none leads", [], leader
    )
    lags, successes = dict[tuple[str, ...], float](), dict[tuple[str, ...], float]()
    for state in schedules.watched(connection):
        lags[state.name,] = state.lateness(now)
        finished = [run.due for run in state.last_runs if run.outcome == "finished"]
        if finished:
            successes[state.name,] = max(finished)
    yield _gauge("jobline_schedule_lag_seconds", "By how much the next run of a schedule is late", ["schedule"], lags)
    yield _gauge(
        "jobline_schedule_last_success_timestamp_seconds",
        "When the last run that finished was due",
        ["schedule"],
        successes,
    )


def _of_webhooks(connection: redis.Redis, totals: Mapping[store.Series, Measures]) -> Iterator[Metric]:
    outcomes = {(outcome,): 0 for outcome in OUTCOMES}
    for (function, _), measures in totals.items():
        if function == DELIVERY:
            for outcome in OUTCOMES:
                outcomes[outcome,] += measures.counts[outcome]
    yield _counter("jobline_webhooks", "Attempts to deliver a webhook, by outcome", ["outcome"], outcomes)
    yield _gauge("jobline_outbox_length", "Ends whose webhooks are not enqueued yet", [], {(): connection.xlen(OUTBOX)})


def _of_redis(connection: redis.Redis) -> Iterator[Metric]:
    try:
        info: dict[str, Any] = connection.info()
    except redis.ResponseError:  # it may be forbidden
        return
    for name, field, text in (
        ("memory_used_bytes", "used_memory", "Memory that Redis uses"),
        ("memory_max_bytes", "maxmemory", "Memory that Redis may use; 0: no limit"),
        ("connected_clients", "connected_clients", "Connections to Redis"),
        ("blocked_clients", "blocked_clients", "Connections that wait in a blocking command"),
    ):
        if field in info:
            yield _gauge(f"jobline_redis_{name}", text, [], {(): info[field]})
    for name, field, text in (
        ("commands", "total_commands_processed", "Commands that Redis has executed"),
        ("evicted_keys", "evicted_keys", "Keys that Redis has removed for lack of memory"),
        ("rejected_connections", "rejected_connections", "Connections that Redis has refused"),
    ):
        if field in info:
            yield _counter(f"jobline_redis_{name}", text, [], {(): info[field]})


Values = Mapping[tuple[Any, ...], float]
"""Maps the values of the labels to that of the metric."""


def _gauge(name: str, text: str, labels: list[str], values: Values) -> Metric:
    family = GaugeMetricFamily(name, text, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family


def _counter(name: str, text: str, labels: list[str], values: Values) -> Metric:
    family = CounterMetricFamily(name, text, labels=labels)
    for label_values, value in values.items():
        family.add_metric(label_values, value)
    return family


def _histogram(name: str, text: str, values: Mapping[tuple[str, str], Histogram]) -> Metric:
    family = HistogramMetricFamily(name, text, labels=["queue", "function"])
    for label_values, times in values.items():
        buckets = [(f"{bound:.6g}", float(count)) for bound, count in times.cumulative()]
        family.add_metric(label_values, [*buckets, ("+Inf", float(times.count))], times.sum)
    return family

"""load: jobs enqueued over HTTP, one a request by 16 connections, and 1,000 a request by two."""

import json

import psutil

from benchmarks import services
from benchmarks.lab import Lab, wait_until
from benchmarks.report import Column, Ratio
from benchmarks.services import JOBLINE, Served, Service
from benchmarks.wrk import Load

ROWS = services.ALL
TITLE = "Load: jobs enqueued over HTTP; 16 connections, one job a request, and 2 connections, 1,000 a request"
BASELINE = {service.name: JOBLINE.name for service in ROWS}
COLUMNS = (
    Column("requests/s", "requests_per_s"),
    Ratio("÷ Jobline", "requests_per_s", to=BASELINE),
    Column("p50 ms", "p50_ms", 1),
    Column("p99 ms", "p99_ms", 1),
    Column("failed", "failed"),
    Column("bulk: jobs/s", "bulk_jobs_per_s"),
    Ratio("÷ Jobline", "bulk_jobs_per_s", to=BASELINE),
    Column("both cores busy %", "busy_pct"),
    Column("Redis, % of a core", "redis_pct"),
    Column("wrk, % of a core", "wrk_pct"),
    Column("round trips/request", "round_trips", 1),
)
EACH_ROUND = True
CONNECTIONS, BULK_CONNECTIONS, BULK = 16, 2, 1000
KEPT = 5.0  # seconds for what was accepted to be in Redis


def measure(lab: Lab, service: Service) -> dict[str, float]:
    with services.serving(lab, service) as served:
        return _single(lab, served) | (_bulk(lab, served) if service.bulk_path else {})


def _single(lab: Lab, served: Served) -> dict[str, float]:
    before = lab.server.read()
    load = served.post(json.dumps(served.service.call).encode(), CONNECTIONS, lab.sizes.load_seconds)
    after = lab.server.read()
    _confirm(lab, served, load, 1)
    return {
        "accepted": load.accepted,
        "requests_per_s": round(load.per_second, 1),
        "p50_ms": load.p50_ms,
        "p99_ms": load.p99_ms,
        "max_ms": load.max_ms,
        "failed": load.failed,
        "busy_pct": round(100 * (after.machine_cpu - before.machine_cpu) / load.seconds / (psutil.cpu_count() or 1)),
        "redis_pct": round(100 * (after.redis_cpu - before.redis_cpu) / load.seconds),
        "wrk_pct": round(100 * load.cpu / load.seconds),
        "round_trips": round((after.round_trips - before.round_trips) / max(1, load.accepted), 2),
    }


def _bulk(lab: Lab, served: Served) -> dict[str, float]:
    lab.server.empty()
    load = served.post(served.service.bulk(BULK), BULK_CONNECTIONS, lab.sizes.bulk_seconds, bulk=True)
    _confirm(lab, served, load, BULK)
    return {
        "bulk_accepted": load.accepted,
        "bulk_jobs_per_s": round(load.per_second * BULK),
        "bulk_p50_ms": load.p50_ms,
        "bulk_p99_ms": load.p99_ms,
        "bulk_failed": load.failed,
    }


def _confirm(lab: Lab, served: Served, load: Load, size: int) -> None:
    """Raises RuntimeError: the jobs in Redis are not exactly those of the accepted requests."""
    jobs, counts = load.accepted * size, served.service.counts
    if wait_until(lambda: counts(lab.server) == {jobs}, KEPT, every=0.2) is None:
        raise RuntimeError(f"{counts(lab.server)} jobs are in Redis, of {jobs} that were accepted")
    records = lab.server.count("jobline:idempotency:*")
    if served.service is JOBLINE and records != load.accepted:
        raise RuntimeError(f"{records} requests are remembered, of {load.accepted} that were accepted")

"""scale: Jobline's drain on an empty Redis, and in a crowd of queued and finished jobs."""

from benchmarks.drain import follow
from benchmarks.lab import Lab
from benchmarks.report import Column
from benchmarks.workers import JOBLINE_1, Worker

ROWS = (JOBLINE_1,)
TITLE = "Scale: Jobline's drain on an empty Redis, and with a million jobs queued and a million finished ones kept"
COLUMNS = (
    Column("empty: jobs/s", "empty_jobs_per_s"),
    Column("crowded: jobs/s", "crowded_jobs_per_s"),
    Column("crowded ÷ empty", "ratio", 2),
    Column("empty: Redis CPU µs/job", "empty_redis_us_per_job", 1),
    Column("crowded: Redis CPU µs/job", "crowded_redis_us_per_job", 1),
    Column("crowded: first job after s", "crowded_seconds_to_first", 2),
)
EACH_ROUND = True
LIMIT = 60.0  # seconds for each of the two
STEP = 10_000  # jobs a call
KEEP = 86_400  # seconds
COPY = """
for i = tonumber(ARGV[3]), tonumber(ARGV[4]) do
  local id = 'crowd-' .. ARGV[2] .. '-' .. i
  redis.call('COPY', 'rq:job:' .. ARGV[1], 'rq:job:' .. id)
  redis.call('COPY', 'rq:results:' .. ARGV[1], 'rq:results:' .. id)
  if ARGV[2] == 'queued' then
    redis.call('RPUSH', 'rq:queue:default', id)
  else
    redis.call('ZADD', 'rq:finished:default', ARGV[5], id)
  end
end
"""
"""Copies of one job, with its result if it has one. Arguments: its id, queued or finished, first, last, expiry."""


def measure(lab: Lab, worker: Worker) -> dict[str, float]:
    count = lab.sizes.scale_jobs
    lab.server.empty()
    lab.drive(worker.peer, "fill", count)
    empty = follow(lab, worker, 0, count, LIMIT)
    finished = _crowd(lab, worker)
    crowded = follow(lab, worker, finished, finished + count, LIMIT)
    lab.server.empty()
    return {
        "crowd": lab.sizes.crowd,
        "ratio": round(crowded["jobs_per_s"] / empty["jobs_per_s"], 3),
        **{f"empty_{name}": figure for name, figure in empty.items()},
        **{f"crowded_{name}": figure for name, figure in crowded.items()},
    }


def _crowd(lab: Lab, worker: Worker) -> int:
    """Multiply one job that the worker has finished, and one that is queued; how many are finished."""
    redis = lab.server.client
    lab.server.empty()
    lab.drive(worker.peer, "fill", 1)
    follow(lab, worker, 0, 1, LIMIT)
    lab.drive(worker.peer, "fill", 1)
    (done,), (queued,) = redis.zrange("rq:finished:default", 0, -1), redis.lrange("rq:queue:default", 0, -1)
    redis.expire(b"rq:job:" + done, KEEP)
    redis.expire(b"rq:results:" + done, KEEP)
    copy, expiry = redis.register_script(COPY), redis.time()[0] + KEEP
    for first in range(1, lab.sizes.crowd, STEP):
        last = min(first + STEP, lab.sizes.crowd) - 1
        copy(args=[done, "finished", first, last, expiry])
        copy(args=[queued, "queued", first, last, expiry])
    return redis.zcard("rq:finished:default")

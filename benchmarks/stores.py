"""What each peer's own result store says of finished jobs: a drain counts only if it accounts for all of them."""

from collections.abc import Callable
from dataclasses import dataclass

from rq.job import Job
from rq.serializers import JSONSerializer

from benchmarks.lab import wait_until
from benchmarks.server import Server

SAMPLE = 200  # of RQ's jobs are read back in full

Count = Callable[[Server, int], int]
"""Finished jobs, of a total."""


@dataclass(frozen=True)
class Store:
    """`finished` is cheap, for use while jobs run, and one command; `kept` is exact once they are done."""

    finished: Count
    kept: Count


def _expiring(server: Server, _: int) -> int:
    return server.expiring()


def _keys(pattern: str, kind: str | None = None) -> Count:
    return lambda server, _: server.count(pattern, kind)


def _gone_from(key: str) -> Count:
    return lambda server, total: total - server.client.zcard(key)


def _saq(server: Server, _: int) -> int:
    return server.count("saq:job:default:*") - server.client.zcard("saq:default:incomplete")


def _rq_finished(server: Server, _: int) -> int:
    return server.client.zcard("rq:finished:default")


def _huey(server: Server, _: int) -> int:
    return server.client.hlen("huey.results.peer")


def _bullmq(server: Server, _: int) -> int:
    return server.client.zcard("bull:default:completed")


def _sidekiq_taken(server: Server, total: int) -> int:
    """Jobs that were taken from the queue: up to one for each thread may still run."""
    return total - server.client.llen("queue:default")


def _sidekiq_processed(server: Server, _: int) -> int:
    """Jobs that have ended, as the worker says when it stops; those that failed are no success."""
    return int(server.client.get("stat:processed") or 0) - int(server.client.get("stat:failed") or 0)


def _rq_kept(server: Server, total: int) -> int:
    """The finished registry, if nothing is queued or started and a sample of the jobs has the right result."""
    left = server.client.llen("rq:queue:default") + server.client.zcard("rq:wip:default")
    ids = [job_id.decode() for job_id in server.client.zrange("rq:finished:default", 0, -1)]
    for job in Job.fetch_many(ids[:: max(1, total // SAMPLE)], connection=server.client, serializer=JSONSerializer):
        if job is None or job.get_status(refresh=False) != "finished" or [job.return_value()] != list(job.args):
            return 0
    return len(ids) - left


RQ = Store(_rq_finished, _rq_kept)
STORES = {
    "jobline": RQ,
    "jobline_async": RQ,
    "limit": RQ,
    "rq": RQ,
    "celery": Store(_expiring, _keys("celery-task-meta-*")),
    "huey": Store(_huey, _huey),
    "arq": Store(_gone_from("arq:queue"), _keys("arq:result:*")),
    "saq": Store(_gone_from("saq:default:incomplete"), _saq),
    "taskiq": Store(_expiring, _keys("res:*")),
    "dramatiq": Store(_expiring, _keys("?" * 32, "list")),
    "streaq": Store(_expiring, _keys("streaq:default:task:results:*")),
    "bullmq": Store(_bullmq, _bullmq),
    "sidekiq": Store(_sidekiq_taken, _sidekiq_processed),
    "ardiq": Store(_expiring, _keys("ardiq:peer:task:results:*")),
}


def confirm(server: Server, peer: str, total: int) -> None:
    """Raises RuntimeError if not exactly `total` results are kept within 5 seconds."""
    store = STORES[peer]
    if wait_until(lambda: store.kept(server, total) == total, 5, every=0.2) is None:
        raise RuntimeError(f"{store.kept(server, total)} results are kept, of {total} jobs")

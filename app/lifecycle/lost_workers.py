"""Find workers that died, and recover what they ran.

Each worker has a lease: a count in `jobline:leases` that its parent increases every LEASE_RENEWAL_SECONDS. All workers
and the scheduler process sweep. A sweeper gives a worker up when its count did not change in LOOKS_BEFORE_LOST looks,
SWEEP_INTERVAL_SECONDS apart. So no clocks of two machines are compared, and nobody is given up because Redis was away
or a machine slept.
A sweeper begins each look with a write: while Redis takes none (its memory or disk is full, it is a replica), workers
cannot beat either, and nobody is given up.
"""

import time

import redis
import structlog

from app.lifecycle import callback_processes
from app.lifecycle.executions import MARK_LENGTH, Execution, executions, held_by, mark_of
from app.lifecycle.recovery import EXECUTION_TTL_SECONDS, LOST, policy, recover
from app.redis.keys import LEASES, WORKERS, job_key, worker_key

LEASE_RENEWAL_SECONDS = 3.0
SWEEP_INTERVAL_SECONDS = 2.5
LOOKS_BEFORE_LOST = 5

log = structlog.get_logger("jobline.recovery")


class Sweeper:
    """Finds lost workers, and recovers their jobs."""

    def __init__(self, connection: redis.Redis) -> None:
        self.connection = connection
        self._seen: dict[str, tuple[float, int]] = {}
        """Maps each worker with a lease to its lease count, and the number of sweeps since that count changed."""
        self._overdue: dict[str, tuple[float, float]] = {}
        """Maps each overdue execution whose worker may live to its `ends_at`, and when a sweep first saw this value
        (time.monotonic)."""
        self._next_at = 0.0

    def sweep(self) -> None:
        """Look once, unless the last look was less than SWEEP_INTERVAL_SECONDS ago. Call it often.

        Raises:
            redis.RedisError: and then every worker is looked at anew.
        """
        if time.monotonic() < self._next_at:
            return
        self._next_at = time.monotonic() + SWEEP_INTERVAL_SECONDS
        callback_processes.reap()
        try:
            self.connection.zadd(LEASES, {"": 0}, xx=True)  # changes nothing, and is refused as any write is
            counts = {name.decode(): count for name, count in self.connection.zrange(LEASES, 0, -1, withscores=True)}
            self._seen = {name: (count, self._looks(name, count)) for name, count in counts.items()}
            for name, (_, looks) in list(self._seen.items()):
                if looks > LOOKS_BEFORE_LOST:
                    self._remove_worker(name)
            self._expire()
        except redis.RedisError:
            self._seen.clear()
            self._overdue.clear()
            raise

    def _looks(self, name: str, count: float) -> int:
        known, looks = self._seen.get(name, (count, 0))
        return looks + 1 if known == count else 0

    def _remove_worker(self, name: str) -> None:
        """Recover what a dead worker held, then remove the worker. The next sweep repeats it if this process dies."""
        for execution in held_by(self.connection, name):
            self._recover_lost(execution)
        forget(self.connection, name)
        self._seen.pop(name, None)
        log.warning("worker lost", worker=name)

    def _expire(self) -> None:
        """Recover executions past the time that RQ gives them: those of stock workers that died.

        A live worker renews its own. Its clock, this one or Redis's may have jumped: then the time is over, and the job
        still runs. So where the worker may live (it has a lease, or for a stock worker RQ's hash), they are recovered
        only if they are not renewed for as long by this process's monotonic clock.
        """
        live = {mark_of(name) for name in self._seen}
        monotonic, overdue = time.monotonic(), dict[str, tuple[float, float]]()
        for execution in executions(self.connection, ends_by=time.time()):
            known, since = self._overdue.get(execution.id, (execution.ends_at, monotonic))
            since = since if known == execution.ends_at else monotonic
            lives = execution.id[:MARK_LENGTH] in live or self._is_registered(execution.job_id)
            if lives and monotonic - since < EXECUTION_TTL_SECONDS:
                overdue[execution.id] = execution.ends_at, since
            else:
                self._recover_lost(execution)
        self._overdue = overdue

    def _is_registered(self, job_id: str) -> bool:
        """Whether the worker of a job is known to RQ, stock ones too."""
        try:
            name = self.connection.hget(job_key(job_id), "worker_name")
        except redis.ResponseError:  # no hash
            return False
        return bool(name) and bool(self.connection.exists(worker_key(name.decode(errors="replace"))))

    def _recover_lost(self, execution: Execution) -> None:
        recover(self.connection, execution, LOST, policy)


def forget(connection: redis.Redis, worker_name: str) -> None:
    """Remove a worker from RQ's sets and from the leases. If it lives after all, its next beat registers it again."""
    key = worker_key(worker_name)
    queues = (connection.hget(key, "queues") or b"").decode()
    with connection.pipeline() as pipeline:
        for queue in queues.split(","):
            pipeline.srem(f"rq:workers:{queue}", key)
        pipeline.srem(WORKERS, key)
        pipeline.delete(key)
        pipeline.zrem(LEASES, worker_name)
        pipeline.execute()

"""A worker without a process: it registers, and its scripts are called one by one."""

import time
from datetime import UTC, datetime
from itertools import count
from typing import Any

import redis
from rq.worker import WorkerStatus

from app.catalog.catalog import Catalog
from app.enqueue import new_job, write
from app.redis.client import rq_timestamp
from app.redis.pipelined import PipelinedConnection
from app.settings import get_settings
from app.worker import Worker
from app.worker.claimed import Claimed, Finished, Nothing
from app.worker.horse_monitor import BEAT
from app.worker.redis_session import EXECUTION_TTL_SECONDS, RedisSession

CATALOG = Catalog()


ARGUMENTS: dict[str, list[Any]] = {"demo.add": [1, 2], "demo.fail": ["no"]}


def put(connection: redis.Redis, job_id: str, function: str = "demo.add", *args: Any, **said: Any) -> str:
    """Enqueue a job; its id."""
    called = list(args) or ARGUMENTS[function]
    job = new_job.prepare(CATALOG.get(function), get_settings(), called, {}, id=job_id, **said)
    return write.enqueue(connection, [job]).ids[0]


def put_by_path(connection: redis.Redis, path: str, *args: object, **fields: Any) -> str:
    """Enqueue a job of a function that only the worker has to know, by its import path; its id."""
    kept = {"timeout": 60, "result_ttl": 500, "failure_ttl": 500, **fields}
    return write.enqueue(connection, [new_job.NewJob(path, list(args), {}, "default", **kept)]).ids[0]


class Hand:
    """One worker's. `client` sends the scripts of its horse, and `connection` all else."""

    def __init__(
        self, connection: redis.Redis, name: str = "w", queues: tuple[str, ...] = ("default",), client: Any = None
    ) -> None:
        self.connection, self.name, self.queues = connection, name, list(queues)
        self.worker = Worker(self.queues, name=name, connection=connection)
        self.worker.register_birth()
        self.worker.set_state(WorkerStatus.STARTED)
        tries = count()
        client = connection if client is None else client
        connection_class = getattr(client, "connection_class", PipelinedConnection)
        self.session = RedisSession(client, name, give_up=lambda: next(tries) > 20, connection_class=connection_class)

    @property
    def key(self) -> str:
        return f"rq:worker:{self.name}"

    def ask(self, wanted: int = 1) -> list[Claimed] | Nothing:
        return self.session.claim(self.queues, self.session.new_executions(wanted))

    def claim(self, wanted: int = 1) -> list[Claimed]:
        found = self.ask(wanted)
        assert isinstance(found, list)
        return found

    def begin(self, claimed: Claimed, now: float | None = None) -> None:
        self.session.begins(claimed, time.time() if now is None else now)
        self.session.settle()

    def finish(
        self, claimed: Claimed, result: bytes | None = b"3", ttl: int | None = None, ran: float = 0.001
    ) -> Finished:
        """After it ran for `ran` seconds."""
        now = time.time()
        ttl = int(claimed.result_ttl or 500) if ttl is None else ttl
        finished = Finished(claimed, result, ttl, now - ran, now)
        self.session.ended(finished)
        self.session.settle()
        return finished

    def release(self, claimed: Claimed) -> None:
        self.session.releases(claimed)
        self.session.settle()

    def beat(self, claimed: Claimed | None = None, ran: float = 5.0, now: float | None = None) -> list[int]:
        """As the parent does, whose horse has run the job for `ran` seconds."""
        return beat(self.connection, self.name, claimed, ran, now)

    def run(self, wanted: int = 1) -> list[Claimed]:
        """Claim jobs, and begin the first."""
        claimed = self.claim(wanted)
        self.begin(claimed[0])
        return claimed


def beat(
    connection: redis.Redis, name: str, claimed: Claimed | None = None, ran: float = 5.0, now: float | None = None
) -> list[int]:
    at = datetime.fromtimestamp(now or time.time(), UTC)
    answer: list[int] = BEAT(
        connection,
        [claimed.queue, claimed.id, claimed.execution_id, ran] if claimed else [],
        worker=name,
        now=rq_timestamp(at),
        worker_kept=480,
        horse_moves=1,
        now_seconds=at.timestamp(),
        execution_kept=EXECUTION_TTL_SECONDS,
    )
    return answer

"""A worker and a Redis within this process: the production work horse on fakeredis."""

import contextlib
import signal
import socket
import threading
from collections import deque
from collections.abc import Iterator
from typing import Any, Protocol

import fakeredis
import hiredis
import redis
from redis.exceptions import ResponseError

from app.redis.pipelined import PipelinedConnection
from app.worker import Worker
from app.worker.horse import Horse, Limits
from app.worker.prefetched import PrefetchedExecutions
from app.worker.shared_status import SharedStatus
from app.worker.timeouts import ThreadAlarm


class Service(Protocol):
    """What a fake Redis does instead of waiting."""

    def run(self) -> None: ...
    def advance(self, *, milliseconds: float) -> None: ...


def run_burst(connection: redis.Redis, queues: list[str], errors: list[tuple[str, BaseException]]) -> int:
    """Run jobs like a worker in burst mode. Returns the number of attempts; appends (job id, exception) to `errors`."""
    if not queues:
        return 0
    worker = _Worker(queues, connection=connection)
    worker.errors = errors
    worker.register_birth()
    parent_end, horse_end = socket.socketpair()
    with parent_end, horse_end, contextlib.closing(PrefetchedExecutions()) as box, _restored_alarm():
        horse = Horse(worker, SharedStatus(), box, horse_end, Limits(burst=True))
        horse.run()
    worker.register_death()
    return horse.performed


class Redis(fakeredis.FakeRedis):
    """A fake Redis whose blocking reads run jobs, then move the clock, instead of waiting (as `Prefer: wait` does)."""

    def __init__(self, service: Service) -> None:
        super().__init__(server=fakeredis.FakeServer())
        self._service = service

    def xread(self, streams: Any, count: int | None = None, block: int | None = None) -> Any:
        if block is not None:
            self._service.run()
        entries = super().xread(streams, count)
        if block is None or entries:
            return entries
        self._service.advance(milliseconds=block)
        return super().xread(streams, count)


class _FakeConnection(PipelinedConnection):
    """The pipelined connection of the work horse, to the fake Redis."""

    def __init__(self, client: redis.Redis, retry_connect: bool = True, read_timeout: float = 0) -> None:  # noqa: ARG002
        self._client, self._answers = client, deque[Any]()

    def send(self, commands: bytes) -> None:
        reader = hiredis.Reader()
        reader.feed(commands)
        while words := reader.gets():
            try:
                self._answers.append(self._client.execute_command(*words))
            except ResponseError as error:
                self._answers.append(error)

    def close(self) -> None:
        pass

    def read(self) -> Any:
        answer = self._answers.popleft()
        if isinstance(answer, ResponseError):
            raise answer
        return answer


class _Worker(Worker):
    connection_class = _FakeConnection
    errors: list[tuple[str, BaseException]]

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if threading.current_thread() is not threading.main_thread():
            self.death_penalty_class = ThreadAlarm  # SIGALRM is delivered to the main thread only

    def handle_exception(self, job: Any, *exc_info: Any) -> None:
        self.errors.append((job.id, exc_info[1]))
        super().handle_exception(job, *exc_info)


@contextlib.contextmanager
def _restored_alarm() -> Iterator[None]:
    """Restore the test's own SIGALRM handler and timer: a plugin may limit its time by them."""
    handler, timer = signal.getsignal(signal.SIGALRM), signal.getitimer(signal.ITIMER_REAL)
    yield
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, *timer)

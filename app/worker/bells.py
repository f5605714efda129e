"""Waiting for a job without taking it: what rings is a blocking move of a queue's first id to its own place.

`BLMOVE queue queue LEFT LEFT` blocks while the queue is empty and changes nothing when it is not, so that the id is
in its queue until the claim takes it (a blocking pop would hold it nowhere). Each queue has a connection of its own.
"""

import select
import time

import redis
from redis.exceptions import ConnectionError, ResponseError

from app.worker.wire import Wire, pack

BLOCK = 5  # seconds; an answer at least so often proves that the connection lives
SLACK = 5.0


class Bell:
    """One queue's."""

    def __init__(self, client: redis.Redis, queue: str) -> None:
        key = f"rq:queue:{queue}"
        self._command = pack("BLMOVE", key, key, "LEFT", "LEFT", BLOCK)
        self._wire = Wire(client)
        self._armed_at = 0.0

    def arm(self) -> int:
        """Listen, if it does not yet; the file to wait for. Raises ConnectionError."""
        now = time.monotonic()
        if self._armed_at and now - self._armed_at > BLOCK + SLACK:
            raise ConnectionError("the line is silent")
        if not self._armed_at:
            self._wire.send(self._command)
            self._armed_at = now
        return self._wire.fileno()

    def answer(self) -> bool:
        """Whether the queue had a job."""
        self._armed_at = 0.0
        try:
            return self._wire.read() is not None
        except ResponseError:  # no list: the other queues are asked all the same
            return False

    def reset(self) -> None:
        self._armed_at = 0.0
        self._wire.reconnect()


class Bells:
    """Those of all queues of a worker, and of its parent."""

    def __init__(self, client: redis.Redis, queues: list[str], parent: int) -> None:
        self.bells = [Bell(client, queue) for queue in queues]
        self.parent = parent

    def wait(self, seconds: float, queues: bool) -> bool:
        """Up to `seconds`, or a word of the parent, for a queue (if `queues`) that has a job: whether there is one.

        Raises:
            ConnectionError: when Redis is away.
        """
        poll = select.poll()
        poll.register(self.parent, select.POLLIN)
        try:
            by_file = {bell.arm(): bell for bell in self.bells} if queues else {}
            for file in by_file:
                poll.register(file, select.POLLIN)
            rung = [by_file[file].answer() for file, _ in poll.poll(1000 * seconds) if file in by_file]
        except ConnectionError:
            for bell in self.bells:
                bell.reset()
            raise
        return any(rung)

"""Waiting for a job without taking it: what rings is a blocking move of a queue's first id to its own place.

`BLMOVE queue queue LEFT LEFT` blocks while the queue is empty and changes nothing when it is not, so that the id is
in its queue until the claim takes it (a blocking pop would hold it nowhere). Each queue has a connection of its own.
"""

import contextlib
import select
import time

import redis
from redis.exceptions import ConnectionError, RedisError, TimeoutError

BLOCK = 5  # seconds; an answer at least so often proves that the connection lives
SLACK = 5.0


class Bell:
    """One queue's."""

    def __init__(self, connection: redis.Redis, queue: str) -> None:
        self.key = f"rq:queue:{queue}"
        self._line = connection.connection_pool.get_connection()
        self._armed_at = 0.0

    def fileno(self) -> int:
        return int(self._line._sock.fileno())

    def arm(self) -> None:
        if self._armed_at and time.monotonic() - self._armed_at > BLOCK + SLACK:
            self.reset()
        if not self._armed_at:
            self._line.send_command("BLMOVE", self.key, self.key, "LEFT", "LEFT", BLOCK, check_health=False)
            self._armed_at = time.monotonic()

    def answer(self) -> bool:
        """Whether the queue had a job."""
        self._armed_at = 0.0
        return self._line.read_response() is not None

    def reset(self) -> None:
        self._armed_at = 0.0
        self._line.disconnect()


class Bells:
    """Those of all queues of a worker, and of its parent."""

    def __init__(self, connection: redis.Redis, queues: list[str], parent: int) -> None:
        self.bells = [Bell(connection, queue) for queue in queues]
        self.parent = parent

    def wait(self, seconds: float, queues: bool) -> bool:
        """Up to `seconds` for a queue that has a job (if `queues`), or a word of the parent: false if the time ran out.

        Raises:
            ConnectionError: when Redis is away.
        """
        poll = select.poll()
        poll.register(self.parent, select.POLLIN)
        by_file = {}
        try:
            for bell in self.bells if queues else []:
                bell.arm()
                by_file[bell.fileno()] = bell
                poll.register(bell.fileno(), select.POLLIN)
            rung = False
            for file, _ in poll.poll(1000 * seconds):
                rung = by_file[file].answer() or rung if file in by_file else True
        except (RedisError, OSError) as error:
            for bell in self.bells:
                with contextlib.suppress(RedisError, OSError):
                    bell.reset()
            if isinstance(error, ConnectionError | TimeoutError | OSError):
                raise ConnectionError(str(error)) from error
            return False  # a key of another type in a queue's place: the others are asked all the same
        return rung

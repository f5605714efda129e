"""Waiting for a job: the moment one is queued, Redis claims it for the horse that waits, in no further round trip.

`BLMOVE queue queue LEFT LEFT` blocks while the queue is empty, and changes nothing when it is not: the id is in its
queue all the time, where a blocking pop would hold it nowhere. The claim is sent along behind it, and runs when it
returns. Each queue has a connection of its own; only the first that rings claims, for then the horse is no longer idle.
"""

import select
import time

import redis
import structlog
from redis.exceptions import ConnectionError, ResponseError

from app.lifecycle import queues
from app.redis.pipelined import PipelinedConnection, pack
from app.worker.redis_session import Claimed, Claims, Nothing

BLOCK = 5  # seconds; an answer at least so often proves that the connection lives
SLACK = 5.0
PAUSE_LOOK = 0.5  # seconds between two looks whether a queue is still paused

log = structlog.get_logger("jobline.worker")


class Bell:
    """One queue's."""

    def __init__(self, client: redis.Redis, queue: str, wire_class: type[PipelinedConnection]) -> None:
        key = f"rq:queue:{queue}"
        self._command = pack("BLMOVE", key, key, "LEFT", "LEFT", BLOCK)
        self.queue, self._wire = queue, wire_class(client)
        self._armed_at = self._deaf_until = 0.0
        self.execution_id = ""

    @property
    def deaf(self) -> bool:
        """Its queue is not listened to for a while."""
        return time.monotonic() < self._deaf_until

    def deafen(self, seconds: float) -> None:
        self._deaf_until = time.monotonic() + seconds

    def arm(self, claims: Claims, queues: list[str]) -> int:
        """Listen, if it does not yet; the file to wait for. Raises ConnectionError."""
        now = time.monotonic()
        if self._armed_at and now - self._armed_at > BLOCK + SLACK:
            raise ConnectionError("the line is silent")
        if not self._armed_at:
            self.execution_id, self._queues = claims.new_executions(1)[0], queues
            self._wire.send(self._command + claims.command(queues, [self.execution_id], only_if_idle=True))
            self._armed_at = now
        return self._wire.fileno()

    def answer(self, claims: Claims) -> list[Claimed] | Nothing:
        """What was claimed when it rang."""
        try:
            self._wire.read()
        except ResponseError as error:
            log.error("a queue cannot be listened to", queue=self.queue, error=str(error))  # noqa: TRY400 - a key of a wrong type
            self.deafen(BLOCK)
        found = claims.understand(self._queues, self._wire.read())
        self._armed_at, self.execution_id = 0.0, ""
        return found

    def cut(self) -> None:
        self._armed_at = 0.0
        self._wire.cut()

    def connect(self) -> None:
        self.execution_id = ""
        self._wire.connect()


class Bells:
    """Those of all queues of a worker, and the line of its parent."""

    def __init__(
        self,
        client: redis.Redis,
        claims: Claims,
        queues: list[str],
        parent: int,
        wire_class: type[PipelinedConnection] = PipelinedConnection,
    ) -> None:
        self.client, self.claims, self.parent = client, claims, parent
        self.bells = [Bell(client, queue, wire_class) for queue in queues]

    def wait(self, seconds: float, names: list[str]) -> list[Claimed] | Nothing:
        """Up to `seconds`, or a word of the parent, for a job of these queues, in this order.

        Raises:
            ConnectionError: Redis was away; what it may have claimed is given back.
        """
        poll = select.poll()
        poll.register(self.parent, select.POLLIN)
        try:
            hearing = [bell for bell in self.bells if names and not bell.deaf]
            by_file = {bell.arm(self.claims, names): bell for bell in hearing}
            for file in by_file:
                poll.register(file, select.POLLIN)
            answers = [by_file[file].answer(self.claims) for file, _ in poll.poll(1000 * seconds) if file in by_file]
        except ConnectionError:
            self._give_back()
            raise
        if Nothing.PAUSED in answers:
            self._leave_out_paused()
        claimed = [one for answer in answers if isinstance(answer, list) for one in answer]
        others = [answer for answer in answers if isinstance(answer, Nothing)]
        return claimed or next((answer for answer in others if answer is not Nothing.BUSY), Nothing.EMPTY)

    def _leave_out_paused(self) -> None:
        """The bell of a paused queue rings without end while there are jobs in it."""
        paused = queues.paused(self.client)
        for bell in self.bells:
            if bell.queue in paused:
                bell.deafen(PAUSE_LOOK)

    def _give_back(self) -> None:
        executions = [bell.execution_id for bell in self.bells if bell.execution_id]
        for bell in self.bells:
            bell.cut()
        self.claims.give_back(executions)
        for bell in self.bells:
            bell.connect()

"""Wait until a job is queued, and claim it in the same round trip.

`BLMOVE queue queue LEFT LEFT` blocks while the queue is empty. When a job arrives, it moves the head of the queue to
the head of the same queue, which changes nothing: the id never leaves its queue, as it would with a blocking pop. The
claim is pipelined behind it and runs as soon as it returns. Each queue has a connection of its own. Only the first
claim takes jobs, because the worker is no longer idle after it.
"""

import select
import time

import redis
import structlog
from redis.exceptions import ConnectionError, ResponseError

from app.lifecycle import queues
from app.redis.pipelined import PipelinedConnection, pack
from app.worker.claimed import Claimed, Nothing
from app.worker.redis_session import RedisSession

BLOCK_SECONDS = 5  # an answer at least so often proves that the connection works
SLACK_SECONDS = 5.0
PAUSE_CHECK_SECONDS = 0.5  # between two checks whether a queue is still paused

log = structlog.get_logger("jobline.worker")


class QueueWatch:
    """The blocking read of one queue, with a claim behind it."""

    def __init__(self, client: redis.Redis, queue: str, connection_class: type[PipelinedConnection]) -> None:
        key = f"rq:queue:{queue}"
        self._command = pack("BLMOVE", key, key, "LEFT", "LEFT", BLOCK_SECONDS)
        self.queue, self._connection = queue, connection_class(client)
        self._started_at = self._muted_until = 0.0
        self.execution_id = ""

    @property
    def is_muted(self) -> bool:
        return time.monotonic() < self._muted_until

    def mute(self, seconds: float) -> None:
        """Do not watch the queue for a while."""
        self._muted_until = time.monotonic() + seconds

    def start(self, session: RedisSession, queues: list[str]) -> int:
        """Send the read and, if there are `queues`, the claim, unless they are under way. Returns the file to poll.

        Raises:
            redis.ConnectionError: Redis has not answered for too long.
        """
        now = time.monotonic()
        if self._started_at and now - self._started_at > BLOCK_SECONDS + SLACK_SECONDS:
            raise ConnectionError("the connection is silent")
        if not self._started_at:
            self.execution_id, self._queues = session.new_executions(1)[0], queues
            claim = session.claim_command(queues, [self.execution_id], only_if_idle=True) if queues else b""
            self._connection.send(self._command + claim)
            self._started_at = now
        return self._connection.fileno()

    def answer(self, session: RedisSession) -> list[Claimed] | Nothing:
        """Read what the claim took. Raises redis.ConnectionError."""
        try:
            self._connection.read()
        except ResponseError as error:
            log.error("a queue cannot be watched", queue=self.queue, error=str(error))  # noqa: TRY400 - a key of a wrong type
            self.mute(BLOCK_SECONDS)
        claimed = session.parse_claim(self._queues, self._connection.read()) if self._queues else Nothing.EMPTY
        self._started_at, self.execution_id = 0.0, ""
        return claimed

    def disconnect(self) -> None:
        self._started_at = 0.0
        self._connection.cut()

    def connect(self) -> None:
        """Raises redis.ConnectionError."""
        self.execution_id = ""
        self._connection.connect()


class IdleWait:
    """Waits on all queues of a worker, and on the socket of the horse's parent."""

    def __init__(
        self,
        client: redis.Redis,
        session: RedisSession,
        queues: list[str],
        parent: int,
        connection_class: type[PipelinedConnection] = PipelinedConnection,
    ) -> None:
        """`parent` is a file descriptor: the wait ends when something can be read there."""
        self.client, self.session, self.parent = client, session, parent
        self.watches = [QueueWatch(client, queue, connection_class) for queue in queues]

    def wait(self, seconds: float, queues: list[str]) -> list[Claimed] | Nothing:
        """Wait up to `seconds`, or until the parent writes, for a job of these queues in their order.

        Raises:
            redis.ConnectionError: Redis was away. What it may have claimed is given back.
        """
        poll = select.poll()
        poll.register(self.parent, select.POLLIN)
        try:
            active = [watch for watch in self.watches if queues and not watch.is_muted]
            by_file = {watch.start(self.session, queues): watch for watch in active}
            for file in by_file:
                poll.register(file, select.POLLIN)
            ready = [by_file[file] for file, _ in poll.poll(1000 * seconds) if file in by_file]
            answers = [watch.answer(self.session) for watch in ready]
        except ConnectionError:
            self._give_back()
            raise
        if Nothing.PAUSED in answers:
            self.mute_paused()
        claimed = [job for answer in answers if isinstance(answer, list) for job in answer]
        others = [answer for answer in answers if isinstance(answer, Nothing)]
        return claimed or next((answer for answer in others if answer is not Nothing.BUSY), Nothing.EMPTY)

    def wait_for_arrival(self, seconds: float, queues: list[str], file: int) -> bool:
        """Wait up to `seconds`, until the parent writes or `file` can be read, for a job in a queue. Claims nothing.

        Returns:
            whether the parent has written.

        Raises:
            redis.ConnectionError
        """
        poll = select.poll()
        poll.register(self.parent, select.POLLIN)
        poll.register(file, select.POLLIN)
        try:
            by_file = {
                watch.start(self.session, []): watch
                for watch in self.watches
                if watch.queue in queues and not watch.is_muted
            }
            for descriptor in by_file:
                poll.register(descriptor, select.POLLIN)
            ready = {descriptor for descriptor, _ in poll.poll(1000 * seconds)}
            for descriptor in ready & by_file.keys():
                by_file[descriptor].answer(self.session)
        except ConnectionError:
            self._give_back()
            raise
        return self.parent in ready

    def mute_paused(self) -> None:
        """Do not watch paused queues for a while: a read returns at once, again and again, while jobs are in them."""
        paused = queues.paused(self.client)
        for watch in self.watches:
            if watch.queue in paused:
                watch.mute(PAUSE_CHECK_SECONDS)

    def _give_back(self) -> None:
        executions = [watch.execution_id for watch in self.watches if watch.execution_id]
        for watch in self.watches:
            watch.disconnect()
        self.session.give_back(executions)
        for watch in self.watches:
            watch.connect()

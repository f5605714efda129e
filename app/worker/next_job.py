"""Select the next job to run. Short jobs are claimed in batches, and the next batch while the current one runs."""

from collections.abc import Sequence

from rq.worker import DequeueStrategy

from app.worker.claimed import Claimed, Nothing
from app.worker.idle_wait import IdleWait
from app.worker.prefetched import PrefetchedExecutions
from app.worker.redis_session import RedisSession
from app.worker.rq_worker import RqWorker

MAX_BATCH_SIZE = 32  # jobs claimed in one round trip
BATCH_SECONDS = 0.005  # that a batch should take


class NextJob:
    """The source of jobs of one horse.

    Jobs claimed beyond the next one are in `prefetched`, from where the parent can give them back too.
    """

    def __init__(
        self,
        worker: RqWorker,
        session: RedisSession,
        prefetched: PrefetchedExecutions,
        parent: int,
        one_by_one: bool,
    ) -> None:
        """`parent` is a file descriptor: a wait ends when something can be read there."""
        self.worker, self.session, self.prefetched = worker, session, prefetched
        self.one_by_one = one_by_one or worker._dequeue_strategy != DequeueStrategy.DEFAULT
        names = [queue.name for queue in worker.queues]
        self.idle_wait = IdleWait(worker.connection, session, names, parent, worker.connection_class)
        self._claimed: dict[str, Claimed] = {}
        """By execution: jobs claimed and not begun."""
        self.reset_batch()

    def reset_batch(self) -> None:
        """Begin with one job again: nothing is known of how long the next jobs take."""
        self._batch_size, self._seconds_per_job, self._began_at = 1, BATCH_SECONDS, 0.0

    def next(self) -> Claimed | Nothing:
        """The next job, or why there is none. Raises as `RedisSession.claim`."""
        job = self._take_prefetched()
        return job or self._keep_others(self.session.claim(self.queues(), self._new_executions()))

    def wait(self, seconds: float, claiming: bool) -> Claimed | Nothing:
        """Wait up to `seconds`, or until the parent writes, for a job to be queued. Raises as `IdleWait.wait`."""
        return self._keep_others(self.idle_wait.wait(seconds, self.queues() if claiming else []))

    def begins(self, now: float) -> None:
        """The current job begins at `now` (seconds since 1970): request the next batch while it runs."""
        if self._began_at:
            self._seconds_per_job += (max(1e-6, now - self._began_at) - self._seconds_per_job) / 4
        self._began_at = now
        if self._claimed and not self.session.has_pending_claim:
            executions = self._new_executions()
            self.session.request_claim(self.queues(), executions)
            self.prefetched.put(executions)

    def _take_prefetched(self) -> Claimed | None:
        """The next of those that were claimed together, unless the parent has taken them to give them back."""
        while self._claimed or self.session.has_pending_claim:
            execution = self.prefetched.take()
            if execution not in self._claimed and self.session.has_pending_claim:
                answer = self.session.claim_answer()
                self._claimed |= {job.execution_id: job for job in answer} if isinstance(answer, list) else {}
            if execution is None:
                self._claimed = {}
                self.reset_batch()
            elif execution in self._claimed:
                return self._claimed.pop(execution)
        return None

    def _keep_others(self, answer: Sequence[Claimed] | Nothing) -> Claimed | Nothing:
        """The first of the claimed jobs; the others are kept for later."""
        if isinstance(answer, Nothing):
            return answer
        first, *others = answer
        self.reorder(first.queue)
        if others:
            self._claimed = {job.execution_id: job for job in others}
            self.prefetched.put(list(self._claimed))
        return first

    def reorder(self, queue: str) -> None:
        """A job of this queue was claimed: with the strategies `round_robin` and `random`, others come first now."""
        self.worker.reorder_queues(next(known for known in self.worker.queues if known.name == queue))

    def queues(self) -> list[str]:
        """The names of the queues, in the order in which jobs are taken from them."""
        return [queue.name for queue in self.worker._ordered_queues]

    def _new_executions(self) -> list[str]:
        """Ids for as many jobs as are wanted: more while jobs are so short that a batch takes BATCH_SECONDS."""
        if self.one_by_one:
            return self.session.new_executions(1)
        self._batch_size = max(1, min(2 * self._batch_size, MAX_BATCH_SIZE, int(BATCH_SECONDS / self._seconds_per_job)))
        return self.session.new_executions(self._batch_size)

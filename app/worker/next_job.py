"""Which job is next. Jobs are claimed in batches while they prove short, and the next batch while one is run."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rq.worker import DequeueStrategy

from app.worker.idle_wait import Bells
from app.worker.prefetched import Box
from app.worker.redis_session import Claimed, Claims, Nothing

if TYPE_CHECKING:
    from app.worker.parent import Worker

MOST_AT_ONCE = 32  # jobs claimed in one round trip
BATCH_TIME = 0.005  # seconds that a batch takes


class Intake:
    """Of one horse. What is claimed beyond the next job lies in the box, where the parent too can take it."""

    def __init__(self, worker: "Worker", claims: Claims, box: Box, parent: int, one_by_one: bool) -> None:
        """`parent` is a file: what comes there ends a wait."""
        self.worker, self.claims, self.box = worker, claims, box
        self.one_by_one = one_by_one or worker._dequeue_strategy != DequeueStrategy.DEFAULT
        names = [queue.name for queue in worker.queues]
        self.bells = Bells(worker.connection, claims, names, parent, worker.wire_class)
        self._stowed: dict[str, Claimed] = {}
        self.rest()

    def rest(self) -> None:
        """Nothing is known of the jobs to come: begin with one."""
        self._batch, self._pace, self._began_at = 1, BATCH_TIME, 0.0  # seconds from one beginning to the next

    def next(self) -> Claimed | Nothing:
        """The next job, or why there is none. Raises as `Claims.claim`."""
        claimed = self._take()
        return claimed or self._first(self.claims.claim(self._queues(), self._executions()))

    def wait(self, seconds: float, claiming: bool) -> Claimed | Nothing:
        """Up to `seconds`, or a word of the parent, for a job to be queued. Raises as `Bells.wait`."""
        return self._first(self.bells.wait(seconds, self._queues() if claiming else []))

    def begins(self, now: float) -> None:
        """The job that came last begins, while others are stowed: the next batch is asked for meanwhile."""
        if self._began_at:
            self._pace += (max(1e-6, now - self._began_at) - self._pace) / 4
        self._began_at = now
        if self._stowed and not self.claims.asked:
            executions = self._executions()
            self.claims.ask(self._queues(), executions)
            self.box.put(executions)

    def _take(self) -> Claimed | None:
        """The next of those that were claimed together, unless the parent has taken them to give them back."""
        while self._stowed or self.claims.asked:
            execution = self.box.take()
            if execution not in self._stowed and self.claims.asked:
                found = self.claims.answer()
                self._stowed |= {one.execution_id: one for one in found} if isinstance(found, list) else {}
            if execution is None:
                self._stowed = {}
                self.rest()
            elif execution in self._stowed:
                return self._stowed.pop(execution)
        return None

    def _first(self, found: Sequence[Claimed] | Nothing) -> Claimed | Nothing:
        """The others are stowed."""
        if isinstance(found, Nothing):
            return found
        first, *others = found
        self.worker.reorder_queues(next(queue for queue in self.worker.queues if queue.name == first.queue))
        if others:
            self._stowed = {one.execution_id: one for one in others}
            self.box.put(list(self._stowed))
        return first

    def _queues(self) -> list[str]:
        return [queue.name for queue in self.worker._ordered_queues]

    def _executions(self) -> list[str]:
        """So many as jobs are wanted: one, and more while they prove so short that a batch is over in BATCH_TIME."""
        if self.one_by_one:
            return self.claims.new_executions(1)
        self._batch = max(1, min(2 * self._batch, MOST_AT_ONCE, int(BATCH_TIME / self._pace)))
        return self.claims.new_executions(self._batch)

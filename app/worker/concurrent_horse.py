"""A work horse that runs up to CONCURRENCY jobs at once.

Plain functions run in threads, one for each place; `async def` functions on one event loop. The main thread alone talks
to Redis about claims, starts and ends, and runs no code of jobs. No more jobs are claimed than there are free places.
"""

import sys
import time
import traceback
import zlib
from typing import Any

import redis
import structlog
from rq.job import _job_stack

from app.author import place
from app.catalog.catalog import function_name
from app.lifecycle import recovery
from app.rq_adapter import shared_loop
from app.rq_adapter.rq_parts import catalog
from app.worker.claimed import Claimed, Nothing
from app.worker.horse import CHECK_INTERVAL_SECONDS, Horse
from app.worker.next_job import MAX_BATCH_SIZE
from app.worker.places import Mailbox, Place
from app.worker.shared_status import Leaving
from app.worker.timeouts import ThreadAlarm

SWITCH_INTERVAL_SECONDS = 0.001  # for the interpreter to change threads: a fifth of Python's own
LOOK_INTERVAL_SECONDS = 0.5  # between two looks at the parent and the event loop, at least
REDIS_RETRY_SECONDS = 0.05
BLOCKED_AFTER_SECONDS = 1.0  # without a turn of the event loop, the job that holds it up is logged
WATCHED = (Nothing.EMPTY, Nothing.BUSY, Nothing.PAUSED)
"""Answers to a claim after which the arrival of a job is waited for."""

logger = structlog.get_logger("jobline.worker")


class ConcurrentHorse(Horse):
    """A Horse that runs each job in a free place. The main thread alone writes the places of `status_board`."""

    def __init__(self, worker: Any, *args: Any, **kwargs: Any) -> None:
        super().__init__(worker, *args, **kwargs)
        worker.death_penalty_class = ThreadAlarm
        _job_stack.__ident_func__ = place.key
        self._loop = shared_loop.share()
        self.mailbox = Mailbox(self._loop)
        self._free = list[Place]()
        self._running = dict[int, Claimed]()
        """Maps the number of each busy place to the job that runs there."""
        self._places = dict[int, Place]()
        self._is_blocked = False
        self._is_draining = False
        """Whether no job is claimed until those that run have ended: the next one wants to be alone."""
        self._runs_alone = False
        """Whether the job that runs wants no others beside it."""
        self._next_look_at = 0.0

    def _work(self) -> Leaving:
        sys.setswitchinterval(SWITCH_INTERVAL_SECONDS)
        for number in range(1, self.settings.concurrency + 1):
            self._places[number] = Place(
                number, self.worker, self._loop, self.mailbox, self.reporter, lambda: self.status_board.stop_ordered
            )
        self._free = list(reversed(self._places.values()))
        self.threads += len(self._places) + 1  # the one that lets alarms go off
        leaving: Leaving | None = None
        while True:
            self._take_messages()
            leaving = leaving or self._reason_to_leave()
            if leaving:
                self._give_back_pending()
                self.status_board.leaving = leaving  # the next horse may begin
            if leaving and not self._running:
                break
            if leaving or not self._free or self._waits_for_its_jobs():
                self._wait(None)
            else:
                found = self._claim()
                if isinstance(found, Nothing):
                    leaving = self._leave_burst(found)
                    if not leaving:
                        self._wait(found)
        self.session.settle()
        return leaving

    def _reason_to_leave(self) -> Leaving | None:
        if self._running:
            self.idle_since = time.monotonic()
        return super()._reason_to_leave()

    def _leave_burst(self, found: Nothing) -> Leaving | None:
        if not self.limits.burst or self._running or found in (Nothing.UNLEASED, Nothing.AGAIN):
            return None
        return Leaving.SUSPENDED if found is Nothing.SUSPENDED else Leaving.EMPTY

    def _claim(self) -> Nothing | None:
        """Start as many jobs as there are free places, at most a batch. Returns why there is none.

        The next batch is asked for before the jobs of this one are started.
        """
        if not self.session.has_pending_claim:
            self._request_claim()
        found = self.session.claim_answer()
        if not isinstance(found, list):
            is_stale = self.session.others_run and not self._running  # the jobs that ran may have queued others
            return Nothing.AGAIN if found is None or is_stale else found
        if catalog().is_stale():  # the next horse runs them
            recovery.give_back(self.connection, [claimed.execution_id for claimed in found])
            return None
        self.next_job.reorder(found[0].queue)
        if catalog().has_lone_functions:
            found = self._keep_alone(found)
        now = time.time()
        started = [(claimed, begun) for claimed in found if (begun := self._begin(claimed, now))]
        if self._free and len(found) > 1 and not self._waits_for_its_jobs():
            self._request_claim()
        self.session.flush()
        for claimed, (free, timeout) in started:
            free.start(claimed, timeout, now)
        return None

    def _keep_alone(self, found: list[Claimed]) -> list[Claimed]:
        """Return those of the claimed jobs that may run now: a job of a function with `alone` runs with no other.

        The others go back to their queue: another worker may take them, this one when its jobs have ended.
        """
        lone = next((number for number, claimed in enumerate(found) if _is_lone(claimed)), None)
        self._is_draining = self._runs_alone = False
        if lone is None:
            return found
        self._runs_alone = lone == 0 and not self._running
        self._is_draining = not self._runs_alone
        kept = 1 if self._runs_alone else lone
        recovery.give_back(self.connection, [claimed.execution_id for claimed in found[kept:]])
        return found[:kept]

    def _waits_for_its_jobs(self) -> bool:
        return bool(self._running) and (self._is_draining or self._runs_alone)

    def _request_claim(self) -> None:
        one = self._is_draining or self.next_job.one_by_one
        wanted = 1 if one else min(len(self._free), MAX_BATCH_SIZE)
        self.session.others_run = bool(self._running)
        self.session.request_claim(self.next_job.queues(), self.session.new_executions(wanted))

    def _give_back_pending(self) -> None:
        """Give back what the last claim takes."""
        if self.session.has_pending_claim:
            found = self.session.claim_answer()
            if isinstance(found, list):
                recovery.give_back(self.connection, [claimed.execution_id for claimed in found])

    def _begin(self, claimed: Claimed, now: float) -> tuple[Place, int] | None:
        """Give a claimed job a place, and report its start. Returns both the place and the job's timeout in seconds.

        None: the job cannot be read.
        """
        self.performed += 1
        free = self._free[-1]
        timeout = self._show(claimed, free.number - 1)
        if timeout is None:
            return None
        self._free.pop()
        self._running[free.number] = claimed
        self.session.queue_begin(claimed, now)
        return free, timeout

    def _take_messages(self) -> None:
        while message := self.mailbox.take():
            name, argument = message
            if name == "done":
                self._running.pop(argument.number)
                self._free.append(argument)
                self.status_board.clear(argument.number - 1)
                self.idle_since = time.monotonic()
            elif name == "settle":
                self.session.settle()
                argument.set()
            else:
                getattr(self.session, name)(argument)

    def _wait(self, found: Nothing | None) -> None:
        """Wait for a message, the parent, or a job where `found` says that there was none; a second at most."""
        try:
            self.session.flush()
            if not self.mailbox.may_wait():
                return
            if found is Nothing.PAUSED:
                self.next_job.idle_wait.mute_paused()
            queues = self.next_job.queues() if found in WATCHED else []
            if found is not Nothing.AGAIN and self.next_job.idle_wait.wait_for_arrival(
                CHECK_INTERVAL_SECONDS, queues, self.mailbox.fileno()
            ):
                self._heed_parent()
        except redis.RedisError:
            time.sleep(REDIS_RETRY_SECONDS)  # what is asked next waits for Redis
        self.mailbox.drain()
        if time.monotonic() >= self._next_look_at:
            self._next_look_at = time.monotonic() + LOOK_INTERVAL_SECONDS
            self._heed_parent()
            self._look_at_loop()

    def _heed_parent(self) -> None:
        if not self._parent_lives():
            self.status_board.order_to_stop()
        self._abort_jobs()

    def _abort_jobs(self) -> None:
        for number in self.status_board.aborted():
            if number + 1 not in self._running or self._places[number + 1].abort():
                self.status_board.clear_abort(number)

    def _look_at_loop(self) -> None:
        """Show that the horse is alive, unless a job blocks the event loop: then log which code it is in."""
        loop, blocked = self._loop, self._loop.seconds_blocked()
        if blocked < BLOCKED_AFTER_SECONDS:
            self._is_blocked = False
            self.status_board.tick()
        elif not self._is_blocked:
            self._is_blocked = True
            frame = sys._current_frames().get(loop.thread.ident or 0)
            claimed = self._running.get(loop.place_inside())
            logger.warning(
                "a job blocks the event loop: all coroutines of this worker wait for it",
                job_id=claimed and claimed.id,
                stack="".join(traceback.format_stack(frame)[-3:]),
            )


def _is_lone(claimed: Claimed) -> bool:
    try:
        function = catalog().functions.get(function_name(claimed.call()[0]))
    except (zlib.error, ValueError, LookupError, TypeError):  # unreadable: its runner says so
        return False
    return function is not None and function.options.alone

"""One event loop for the coroutines of many jobs, in a thread of its own. coroutines.py says what a job is promised."""

import asyncio
import contextlib
import contextvars
import signal
import threading
import time
from collections import deque
from collections.abc import Coroutine
from queue import SimpleQueue
from typing import Any

import structlog

from app.author import place
from app.rq_adapter import coroutines
from app.rq_adapter.coroutines import (
    CANCEL_TIMEOUT_SECONDS,
    CLOSE_TIMEOUT_SECONDS,
    Ring,
    Run,
    end_tasks_and_generators,
    raise_in,
)

log = structlog.get_logger("jobline.worker")


def share() -> "SharedLoop":
    """Have all coroutines of this process run on one loop."""
    coroutines.shared = loop = SharedLoop()
    return loop


class SharedLoop:
    """An event loop in a thread of its own. Where it says "from another thread", it is safe to call from any."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.loop.set_task_factory(self._new_task)
        self._spawned = deque[tuple[Coroutine[Any, Any, None], contextvars.Context]]()
        self._is_start_due = False
        self._supervisors = set[asyncio.Task[None]]()
        self._runs: dict[int, Run] = {}
        """Maps each place to the coroutine of its job."""
        self._tasks: dict[int, set[asyncio.Task[Any]]] = {}
        """Maps each place to the unfinished tasks of its job, including the task that runs its coroutine."""
        self._asked_at: float | None = None
        """When the loop was asked for a sign of life (time.monotonic) that it has not given yet."""
        self._is_closing = False
        self.thread = threading.Thread(target=self._run_forever, daemon=True, name="event loop")
        self.thread.start()

    def spawn(self, coroutine: Coroutine[Any, Any, None], context: contextvars.Context) -> None:
        """Start a coroutine that is no part of a job and never raises, from another thread."""
        self._spawned.append((coroutine, context))
        if not self._is_start_due:
            self._is_start_due = True
            self.loop.call_soon_threadsafe(self._start_spawned)  # wakes the loop, which costs more than all else here

    def run(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run the coroutine of a job to its end, from another thread; what it returns or raises."""
        ended = SimpleQueue[tuple[Any, BaseException | None]]()
        self.spawn(self._pass_on(coroutine, ended), contextvars.copy_context())
        result, error = ended.get()
        if error:
            raise error
        return result

    async def run_here(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run the coroutine of a job to its end, on the loop; what it returns or raises."""
        run = Run(coroutine, self.loop, contextvars.copy_context())
        self._runs[run.place] = run
        ended = self.loop.create_future()
        run.task.add_done_callback(lambda _: ended.set_result(None))
        await ended
        run.over = True
        del self._runs[run.place]
        if left := self._tasks.get(run.place):
            await _cancel(left)
        return run.outcome()

    def run_outside_jobs(self, coroutine: Coroutine[Any, Any, Any]) -> Any:
        """Run a coroutine to its end, from another thread. Tasks that it leaves behind go on."""
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result()

    def ring(self, error: BaseException, place: int) -> Ring:
        """Raise an error in the coroutine of a place, from another thread. RAISE if there is none.

        If it is called again, and code of this job has not let the loop go on since, that is interrupted.
        """
        run = self._runs.get(place)
        if run is None:
            return Ring.RAISE
        if run.is_told or run.over:
            return Ring.DONE
        if run.rang:
            task = asyncio.current_task(self.loop)
            if run.is_inside or (task and task in self._tasks.get(run.place, ())):
                run.is_told = True
                raise_in(self.thread.ident or 0, type(error))
        else:
            run.rang = True
            self.loop.call_soon_threadsafe(self._cancel, place, error)
        return Ring.AGAIN

    def seconds_blocked(self) -> float:
        """Seconds for which a callback or a step of a coroutine has not let the loop go on. Call it often."""
        if self._asked_at is None:
            self._asked_at = time.monotonic()
            self.loop.call_soon_threadsafe(self._beat)
        asked_at = self._asked_at  # the loop may answer at any moment
        return 0.0 if asked_at is None else time.monotonic() - asked_at

    def place_inside(self) -> int:
        """The place whose coroutine makes a step at this moment; 0: none does."""
        runs = list(self._runs.values())
        return next((run.place for run in runs if run.is_inside), 0)

    def close(self) -> None:
        """End the loop, after its tasks and async generators have ended."""
        closing = asyncio.run_coroutine_threadsafe(end_tasks_and_generators(), self.loop)
        try:
            closing.result(CLOSE_TIMEOUT_SECONDS)
        except Exception as error:
            log.warning("async generators were left open", error=type(error).__name__)
        self._is_closing = True
        self.loop.call_soon_threadsafe(self.loop.stop)

    def _run_forever(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())  # they are the main thread's
        asyncio.set_event_loop(self.loop)
        while not self._is_closing:
            try:
                self.loop.run_forever()
            except BaseException:  # of a timeout whose job has just let the loop go on
                log.exception("the event loop was interrupted")

    def _beat(self) -> None:
        self._asked_at = None

    def _cancel(self, place: int, error: BaseException) -> None:
        if run := self._runs.get(place):
            run.cancel(error)

    def _new_task(self, loop: asyncio.AbstractEventLoop, coroutine: Any, **options: Any) -> "asyncio.Task[Any]":
        task = asyncio.Task(coroutine, loop=loop, **options)
        context: contextvars.Context | None = options.get("context")
        tasks = self._tasks.setdefault(context.get(place.current, 0) if context else place.current.get(), set())
        tasks.add(task)
        task.add_done_callback(tasks.discard)
        return task

    def _start_spawned(self) -> None:
        self._is_start_due = False
        with contextlib.suppress(IndexError):
            while True:
                coroutine, context = self._spawned.popleft()
                supervisor = asyncio.Task(coroutine, loop=self.loop, context=context)
                self._supervisors.add(supervisor)
                supervisor.add_done_callback(self._supervisors.discard)

    async def _pass_on(
        self, coroutine: Coroutine[Any, Any, Any], ended: SimpleQueue[tuple[Any, BaseException | None]]
    ) -> None:
        """Run the coroutine of a job, and put what it returns or raises where a thread waits for it."""
        try:
            ended.put((await self.run_here(coroutine), None))
        except BaseException as error:
            ended.put((None, error))


async def _cancel(left: set[asyncio.Task[Any]]) -> None:
    """Cancel the tasks that a job has left behind: nobody would look at their end."""
    for task in left:
        task.cancel()
    log.warning("tasks that the job has left behind are cancelled", tasks=sorted(t.get_name() for t in left)[:10])
    await asyncio.wait(set(left), timeout=CANCEL_TIMEOUT_SECONDS)
    if left:
        log.error("a task does not end when it is cancelled: it stays on the event loop")
        left.clear()  # no later job of the place waits for it

"""Runs the coroutines of `async def` jobs: on one event loop, kept between jobs, with timeouts that reach the job.

What a job opens on the loop, such as a pool of connections, the next job may use. Tasks that it leaves behind are
cancelled. A timeout is raised in the job where it awaits, so that it may catch it, and await while it tidies up.
"""

import asyncio
import contextlib
import contextvars
import ctypes
import enum
import inspect
import threading
import types
import weakref
from collections.abc import Coroutine, Generator
from typing import Any, Protocol

import structlog

from app.author import place

RETRY_TIMEOUT_SECONDS = 0.1  # seconds for the loop to pass a timeout on, before what holds it up is interrupted
CANCEL_TIMEOUT_SECONDS = 1.0  # seconds for tasks that were left behind to end
CLOSE_TIMEOUT_SECONDS = 2.0  # seconds for tasks and async generators to end

log = structlog.get_logger("jobline.worker")

shared: "Shared | None" = None
"""Where coroutines of several jobs run at once (app/rq_adapter/shared_loop.py); None: each thread has its own loop."""
_loops: dict[int, asyncio.AbstractEventLoop] = {}  # by thread: tests run jobs in any
_runs: dict[int, "Run"] = {}
_lasting = weakref.WeakSet[asyncio.Task[Any]]()
"""Tasks that belong to no job."""


class Ring(enum.Enum):
    """What an alarm has to do."""

    RAISE = enum.auto()
    """Raise its exception, in the thread of the job."""
    AGAIN = enum.auto()
    """Ring again after RETRY_TIMEOUT_SECONDS: the job has not been told yet."""
    DONE = enum.auto()


def raise_in(thread: int, exception: type[BaseException] | None) -> None:
    """Raise an exception in a thread, at its next bytecode. None: not any more."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(
        ctypes.c_ulong(thread), ctypes.py_object(exception) if exception else None
    )


class Shared(Protocol):
    """A loop for the coroutines of many threads."""

    def run(self, coroutine: Coroutine[Any, Any, Any], /) -> Any: ...
    def run_outside_jobs(self, coroutine: Coroutine[Any, Any, Any], /) -> Any: ...
    def close(self) -> None: ...
    def ring(self, error: BaseException, place: int, /) -> Ring: ...


def run(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a job's coroutine to its end; what it returns or raises. On this thread's loop, or on the shared one."""
    if shared:
        return shared.run(coroutine)
    thread, loop = threading.get_ident(), _loop()
    _runs[thread] = job = Run(coroutine, loop)
    try:
        return job.result()
    finally:
        job.over = True
        try:
            _cancel_what_is_left(thread, loop)
        finally:
            del _runs[thread]
            with contextlib.suppress(RuntimeError):  # it refuses
                coroutine.close()


def run_outside_jobs(coroutine: Coroutine[Any, Any, Any]) -> Any:
    """Run a coroutine to its end on the same loop, without a timeout. Tasks that it leaves behind go on."""
    if shared:
        return shared.run_outside_jobs(coroutine)
    loop = _loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        _lasting.update(asyncio.all_tasks(loop))


def _loop() -> asyncio.AbstractEventLoop:
    """The loop of this thread."""
    thread = threading.get_ident()
    if thread not in _loops:
        _loops[thread] = asyncio.new_event_loop()
    return _loops[thread]


def ring(error: BaseException, key: int | None = None) -> Ring:
    """The timeout of the job that runs in this thread is over; from another thread, give the job's `place.key()`.

    RAISE if no coroutine runs there, or if code of the job holds the loop up.
    """
    if shared and key:
        return shared.ring(error, key)
    job = _runs.get(key or threading.get_ident())
    return job.ring(error, at_once=key is None) if job else Ring.RAISE


def close() -> None:
    """Close this thread's loop, or the shared one, after its tasks and async generators have ended."""
    global shared
    if shared:
        shared.close()
        shared = None
    loop = _loops.pop(threading.get_ident(), None)
    if loop is None:
        return
    try:
        loop.run_until_complete(end_tasks_and_generators())
    except Exception as error:
        log.warning("async generators were left open", error=type(error).__name__)
    finally:
        loop.close()


async def end_tasks_and_generators() -> None:
    """Cancel the tasks of the running loop, and close its async generators. Raises TimeoutError."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    async with asyncio.timeout(CLOSE_TIMEOUT_SECONDS):
        if others:
            await asyncio.wait(others)
        await asyncio.get_running_loop().shutdown_asyncgens()


class Run:
    """One job's coroutine, driven step by step as the main task of the loop."""

    def __init__(
        self,
        coroutine: Coroutine[Any, Any, Any],
        loop: asyncio.AbstractEventLoop,
        context: contextvars.Context | None = None,
    ) -> None:
        self.coroutine, self.loop, self.place = coroutine, loop, context.get(place.current, 0) if context else 0
        self.over = self.rang = False
        self.is_inside = False  # whether a step of the coroutine is being made
        self._alarm: BaseException | None = None
        self._exit: BaseException | None = None
        self.is_told = self._raised_elsewhere = False  # is_told: the error of an alarm has been raised in the coroutine
        self.task = loop.create_task(self._main(), context=context or contextvars.copy_context())

    def result(self) -> Any:
        try:
            with contextlib.suppress(asyncio.CancelledError):
                self.loop.run_until_complete(self.task)
            return self.outcome()
        finally:
            if self.task.done() and not self.task.cancelled():
                self.task.exception()  # it is known: asyncio need not complain that nobody has asked

    def outcome(self) -> Any:
        """What the ended coroutine has returned. Raises what it has raised."""
        if self._exit:
            raise self._exit
        if self.task.cancelled() and self._alarm and not self.is_told:
            raise self._alarm  # it rang before the first step
        return self.task.result()

    def ring(self, error: BaseException, at_once: bool) -> Ring:
        """`at_once`: this is the thread of the job, so that what is raised here is raised in the code that runs."""
        if self.over or self.is_told:
            return Ring.DONE
        rang_before, self._alarm = self._alarm is not None, error
        if self.is_inside and (at_once or rang_before):
            self.is_told = True
            return Ring.RAISE
        if not rang_before:
            self.loop.call_soon_threadsafe(self.cancel, error)
        elif not self._raised_elsewhere and asyncio.current_task(self.loop):
            self._raised_elsewhere = True  # another task of the job does not let the loop go on
            return Ring.RAISE
        return Ring.AGAIN

    def cancel(self, error: BaseException) -> None:
        """Raise an error in the coroutine, where it awaits. Called on the loop, between two steps."""
        if not (self.over or self.is_told):
            self._alarm = error
            self.task.cancel()

    async def _main(self) -> Any:
        try:
            return await self._steps()
        except (SystemExit, KeyboardInterrupt) as error:
            self._exit = error  # asyncio would end the loop

    @types.coroutine
    def _steps(self) -> Generator[Any, Any, Any]:
        """Await the coroutine; what is raised here while it waits is raised in it."""
        value: Any = None
        error: BaseException | None = None
        while True:
            try:
                self.is_inside = True
                waits_for = self.coroutine.throw(error) if error else self.coroutine.send(value)
                self.is_inside = False
                error = None
                value = yield waits_for
            except StopIteration as end:
                return end.value
            except GeneratorExit:
                raise
            except BaseException as raised:
                if inspect.getcoroutinestate(self.coroutine) == inspect.CORO_CLOSED:
                    raise
                error = self._meant_by(raised)
            finally:
                self.is_inside = False

    def _meant_by(self, raised: BaseException) -> BaseException:
        """The cancellation that an alarm has made stands for its exception."""
        if isinstance(raised, asyncio.CancelledError) and self._alarm and not self.is_told:
            self.is_told = True
            self.task.uncancel()
            return self._alarm
        return raised


def _cancel_what_is_left(thread: int, loop: asyncio.AbstractEventLoop) -> None:
    """Cancel the tasks that a job leaves behind: nobody would look at their end. One that refuses costs the loop."""
    left = asyncio.all_tasks(loop) - set(_lasting)
    if not left:
        return
    for task in left:
        task.cancel()
    loop.run_until_complete(asyncio.wait(left, timeout=CANCEL_TIMEOUT_SECONDS))
    log.warning("tasks that the job has left behind are cancelled", tasks=sorted(task.get_name() for task in left)[:10])
    for task in left:
        if task.done() and not task.cancelled() and task.exception():
            log.warning("a cancelled task has failed", error=type(task.exception()).__name__)
    if not all(task.done() for task in left):
        log.error("a task does not end when it is cancelled: the next job gets another event loop")
        del _loops[thread]

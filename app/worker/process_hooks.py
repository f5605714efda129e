"""Runs the hooks of `jobs/` around the jobs of a process."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence

import structlog

from app.author import hooks
from app.author.hooks import Context
from app.catalog.hook import Hook
from app.rq_adapter import coroutines

TICK_INTERVAL_SECONDS = 1.0

log = structlog.get_logger("jobline.worker")


@contextlib.contextmanager
def process_hooks(
    declared: Sequence[Hook], tick: Callable[[], None] = lambda: None, context: Context | None = None
) -> Iterator[None]:
    """Run the `on_start` hooks, then the block, then the `on_stop` hooks in reverse order.

    Args:
        tick: called every second while the first run, since what they load may take minutes.
        context: that of the process meanwhile; None: a new one.

    Raises:
        Exception: what an `on_start` hook has raised, with the name of the hook in a note.
    """
    hooks.context = context = context or Context()
    with _ticking(tick):
        for hook in declared:
            if hook.declaration.moment == "start":
                _start(hook, context)
    try:
        yield
    finally:
        for hook in reversed(declared):
            if hook.declaration.moment == "stop":
                _stop(hook, context)
        hooks.context = Context()


def _start(hook: Hook, context: Context) -> None:
    try:
        _call(hook, context)
    except Exception as error:
        error.add_note(f"raised by the on_start hook {hook.name}: this work horse runs no job")
        raise


def _stop(hook: Hook, context: Context) -> None:
    try:
        _call(hook, context)
    except Exception:
        log.exception("an on_stop hook has failed", hook=hook.name)


def _call(hook: Hook, context: Context) -> None:
    result = hook.call(context)
    if asyncio.iscoroutine(result):
        coroutines.run_outside_jobs(result)


@contextlib.contextmanager
def _ticking(tick: Callable[[], None]) -> Iterator[None]:
    """Call `tick` every second, in a thread."""
    over = threading.Event()

    def run() -> None:
        while not over.wait(TICK_INTERVAL_SECONDS):
            tick()

    thread = threading.Thread(target=run, daemon=True, name="on_start")
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join()

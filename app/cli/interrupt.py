"""Ctrl-C that is never lost: KeyboardInterrupt is raised again until the command ends.

Python can lose one in two ways. A KeyboardInterrupt raised in a destructor or a weakref callback (every import runs
some) is printed and dropped. A signal that arrives just before a blocking read starts is noticed when the read ends.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

EXIT_INTERRUPTED = 130  # as a shell: 128 + SIGINT
RETRY_SECONDS = 0.5  # for the command to clean up and exit
MAX_TRIES = 4  # then the process is ended with os._exit


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """A context in which Ctrl-C (SIGINT) is sure to end the command.

    It raises KeyboardInterrupt, again every RETRY_SECONDS until the context is left, and at last ends the process.

    No effect outside of the main thread, or where SIGINT is ignored, as in a background job of a shell.
    """
    previous_handler = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or previous_handler in (signal.SIG_IGN, None):
        yield
        return
    receiver, sender = socket.socketpair()
    sender.setblocking(False)
    exited = threading.Event()
    with receiver, sender:
        previous_fd = signal.set_wakeup_fd(sender.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        watcher = threading.Thread(target=_repeat_interrupt, args=(receiver, exited), daemon=True)
        watcher.start()
        try:
            yield
        finally:
            exited.set()
            signal.set_wakeup_fd(previous_fd)
            signal.signal(signal.SIGINT, previous_handler)
            sender.close()
            watcher.join()


def _repeat_interrupt(signals: socket.socket, exited: threading.Event) -> None:
    """Interrupt the main thread until it exits. Python's wakeup fd writes each signal number to `signals` at once."""
    while signal.SIGINT not in (numbers := signals.recv(64)):
        if not numbers:
            return
    for _ in range(MAX_TRIES):
        if exited.wait(RETRY_SECONDS):
            return
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    if not exited.wait(RETRY_SECONDS):
        os._exit(EXIT_INTERRUPTED)

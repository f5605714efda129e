"""Ctrl-C that is never lost: KeyboardInterrupt is raised again until the command ends.

Python loses one in two ways. A KeyboardInterrupt that is raised in a destructor or a weakref callback (every import has
some) is printed and dropped. And a signal that comes just before a blocking read begins is noticed when the read ends.
"""

import contextlib
import os
import signal
import socket
import threading
from collections.abc import Iterator

INTERRUPTED = 130  # exit code, as a shell has it
AGAIN_AFTER = 0.5  # seconds for the command to clean up and end
TRIES = 4  # then the process is ended as it is


@contextlib.contextmanager
def interruptible() -> Iterator[None]:
    """Inside, SIGINT raises KeyboardInterrupt until the block is left.

    Nothing changes in a thread, nor where SIGINT is ignored, as in a background job of a shell.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before in (signal.SIG_IGN, None):
        yield
        return
    ours, pythons = socket.socketpair()
    pythons.setblocking(False)
    left = threading.Event()
    with ours, pythons:
        others = signal.set_wakeup_fd(pythons.fileno(), warn_on_full_buffer=False)
        signal.signal(signal.SIGINT, signal.default_int_handler)
        watching = threading.Thread(target=_insist, args=(ours, left), daemon=True)
        watching.start()
        try:
            yield
        finally:
            left.set()
            signal.set_wakeup_fd(others)
            signal.signal(signal.SIGINT, before)
            pythons.close()
            watching.join()


def _insist(signals: socket.socket, left: threading.Event) -> None:
    """Of the main thread: Python writes the number of each signal to `signals` at the moment it comes."""
    while signal.SIGINT not in (numbers := signals.recv(64)):
        if not numbers:
            return
    for _ in range(TRIES):
        if left.wait(AGAIN_AFTER):
            return
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
    if not left.wait(AGAIN_AFTER):
        os._exit(INTERRUPTED)

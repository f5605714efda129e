"""How a process sleeps: until the time is over, a signal comes (its child's end is one), or somebody rings."""

import contextlib
import select
import signal
import socket
from types import TracebackType


class Wake:
    """Within it, signals end a `wait` at once. `ring` may be called by any thread."""

    def __enter__(self) -> "Wake":
        self._ear, self._bell = socket.socketpair()
        for end in (self._ear, self._bell):
            end.setblocking(False)
        self._old_file = signal.set_wakeup_fd(self._bell.fileno(), warn_on_full_buffer=False)
        self._old_handler = signal.signal(signal.SIGCHLD, lambda *_: None)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._old_file)
        signal.signal(signal.SIGCHLD, self._old_handler)
        self._ear.close()
        self._bell.close()

    def ring(self) -> None:
        with contextlib.suppress(OSError):
            self._bell.send(b"!")

    def wait(self, seconds: float, file: int | None = None) -> bool:
        """Sleep; whether it was ended by `file`, which can be read."""
        files = [self._ear.fileno()] + ([] if file is None else [file])
        heard, _, _ = select.select(files, [], [], max(0.0, seconds))
        if self._ear.fileno() in heard:
            with contextlib.suppress(BlockingIOError):
                self._ear.recv(4096)
            return False
        return bool(heard)

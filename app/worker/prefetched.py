"""Prefetched executions, shared between one work horse and its parent: whoever takes one owns it.

The horse takes the next one to run it. The parent takes the rest to give them back when the horse is held up by a long
job. The store is a pipe of records of one length, which the kernel hands out whole and once.
"""

import contextlib
import os

RECORD = 32  # bytes: an execution's id


class PrefetchedExecutions:
    """The pipe. Both processes read from it; the horse alone writes."""

    def __init__(self) -> None:
        self._out, self._in = os.pipe()
        os.set_blocking(self._out, False)

    def fileno(self) -> int:
        return self._out

    def put(self, execution_ids: list[str]) -> None:
        os.write(self._in, "".join(execution_ids).encode())

    def take(self) -> str | None:
        """Take the next execution id; None if there is none."""
        with contextlib.suppress(BlockingIOError):
            return os.read(self._out, RECORD).decode()
        return None

    def take_all(self) -> list[str]:
        return list(iter(self.take, None))

    def close(self) -> None:
        os.close(self._out)
        os.close(self._in)

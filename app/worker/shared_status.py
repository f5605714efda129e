"""What a work horse is doing, in memory shared with its parent. It needs no round trip and outlives the horse."""

import enum
import mmap
import struct
import time
from dataclasses import dataclass

import orjson

HEAD = struct.Struct("<QQI")  # writes, jobs begun, length of the text of the job at work (0: none)
ORDER, LEAVING = 32, 33  # offsets of a byte each
TEXTS, TEXT = 64, 8 * 1024  # where the two texts begin, and the room for each: they are written in turns


class Order(enum.IntEnum):
    """What the parent orders the horse to do."""

    WORK = 0
    STOP = 1
    """Finish the running job, take no other, and exit."""


class Leaving(enum.IntEnum):
    """Why a horse exited. A horse that died has not set it."""

    DIED = 0
    STOPPED = 1
    RECYCLED = 2
    EMPTY = 3
    IDLE = 4
    ENOUGH = 5
    SUSPENDED = 6


@dataclass(frozen=True, slots=True)
class Running:
    """The running job; `since` is its start by the monotonic clock, `timeout` is seconds, none if not positive."""

    queue: str
    job_id: str
    execution_id: str
    since: float
    timeout: float


class SharedStatus:
    """The status of one horse, which the horse writes, and the order to it, which the parent writes."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, TEXTS + 2 * TEXT)
        self._writes = self._begun = 0

    def order_to_stop(self) -> None:
        self._memory[ORDER] = Order.STOP

    @property
    def stop_ordered(self) -> bool:
        return self._memory[ORDER] == Order.STOP

    @property
    def leaving(self) -> Leaving:
        return Leaving(self._memory[LEAVING])

    @leaving.setter
    def leaving(self, leaving: Leaving) -> None:
        self._memory[LEAVING] = leaving

    def show(self, queue: str, job_id: str, execution_id: str, timeout: float) -> None:
        """Record the job that begins. Raises ValueError: its names are too long; TypeError: they are not UTF-8."""
        text = orjson.dumps((queue, job_id, execution_id, time.monotonic(), timeout))
        if len(text) > TEXT:
            raise ValueError("the names of this job are too long")
        self._begun += 1
        start = TEXTS + TEXT * ((self._writes + 1) % 2)
        self._memory[start : start + len(text)] = text
        self._head(len(text))

    def clear(self) -> None:
        """Record that no job runs, and that the horse is alive."""
        self._head(0)

    def _head(self, length: int) -> None:
        self._writes += 1
        HEAD.pack_into(self._memory, 0, self._writes, self._begun, length)

    @property
    def begun(self) -> int:
        """Number of jobs that this horse has begun."""
        return int(HEAD.unpack_from(self._memory)[1])

    @property
    def ticks(self) -> int:
        """A number that changes whenever the horse moves."""
        return int(HEAD.unpack_from(self._memory)[0])

    @property
    def running(self) -> Running | None:
        """The running job. Two texts are written in turns, so one that changes while it is read is read again."""
        while True:
            head = HEAD.unpack_from(self._memory)
            start = TEXTS + TEXT * (head[0] % 2)
            text = bytes(self._memory[start : start + head[2]])
            if HEAD.unpack_from(self._memory) == head:
                return Running(*orjson.loads(text)) if text else None

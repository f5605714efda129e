"""What a work horse is doing, in memory that it shares with its parent: no round trip, and it outlives the horse."""

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
    """What the parent wants of the horse."""

    WORK = 0
    STOP = 1
    """Finish the job that runs, take no other, and leave."""


class Leaving(enum.IntEnum):
    """Why a horse ended in good order; a horse that died has said nothing."""

    DIED = 0
    STOPPED = 1
    RECYCLED = 2
    EMPTY = 3
    IDLE = 4
    ENOUGH = 5
    SUSPENDED = 6


@dataclass(frozen=True, slots=True)
class Running:
    """A job at work: since when by the machine's monotonic clock, and its timeout in seconds (none if not positive)."""

    queue: str
    job_id: str
    execution_id: str
    since: float
    timeout: float


class Board:
    """One horse's. The horse writes what it does, the parent its order; each reads the other's."""

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
        """A job begins. Raises ValueError if its names do not fit."""
        text = orjson.dumps((queue, job_id, execution_id, time.monotonic(), timeout))
        if len(text) > TEXT:
            raise ValueError("the names of this job are too long")
        self._begun += 1
        start = TEXTS + TEXT * ((self._writes + 1) % 2)
        self._memory[start : start + len(text)] = text
        self._head(len(text))

    def clear(self) -> None:
        """No job runs; and a sign that the horse moves."""
        self._head(0)

    def _head(self, length: int) -> None:
        self._writes += 1
        HEAD.pack_into(self._memory, 0, self._writes, self._begun, length)

    @property
    def begun(self) -> int:
        """How many jobs this horse has begun."""
        return int(HEAD.unpack_from(self._memory)[1])

    @property
    def ticks(self) -> int:
        """A number that changes whenever the horse moves."""
        return int(HEAD.unpack_from(self._memory)[0])

    @property
    def running(self) -> Running | None:
        """The job at work. A text stays whole until the write after the next: what changed meanwhile is read again."""
        while True:
            head = HEAD.unpack_from(self._memory)
            start = TEXTS + TEXT * (head[0] % 2)
            text = bytes(self._memory[start : start + head[2]])
            if HEAD.unpack_from(self._memory) == head:
                return Running(*orjson.loads(text)) if text else None

"""What a work horse is doing, in memory that it shares with its parent: no round trip, and it outlives the horse."""

import enum
import mmap
import struct
import time
from dataclasses import dataclass

import orjson

SIZE = 16 * 1024
COUNTS = struct.Struct("<QQQ")  # writes (odd while one is under way), jobs begun, ticks
LENGTH = struct.Struct("<I")
ORDER, LEAVING, TEXT = 24, 25, 32  # offsets of a byte each, and of the length and text of what runs


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
        self._memory = mmap.mmap(-1, SIZE)
        self._writes = self._begun = self._ticks = 0

    @property
    def order(self) -> Order:
        return Order(self._memory[ORDER])

    @order.setter
    def order(self, order: Order) -> None:
        self._memory[ORDER] = order

    @property
    def leaving(self) -> Leaving:
        return Leaving(self._memory[LEAVING])

    @leaving.setter
    def leaving(self, leaving: Leaving) -> None:
        self._memory[LEAVING] = leaving

    def show(self, queue: str, job_id: str, execution_id: str, timeout: float) -> None:
        """A job begins. Raises ValueError if its names do not fit."""
        text = orjson.dumps((queue, job_id, execution_id, time.monotonic(), timeout))
        if len(text) > SIZE - TEXT - LENGTH.size:
            raise ValueError("the names of this job are too long")
        self._begun += 1
        self._write(text)

    def clear(self) -> None:
        """No job runs."""
        self._write(b"")

    def tick(self) -> None:
        """The horse moves, though it has no job."""
        self._ticks += 1
        COUNTS.pack_into(self._memory, 0, self._writes, self._begun, self._ticks)

    def _write(self, text: bytes) -> None:
        self._ticks += 1
        COUNTS.pack_into(self._memory, 0, self._writes + 1, self._begun, self._ticks)
        LENGTH.pack_into(self._memory, TEXT, len(text))
        start = TEXT + LENGTH.size
        self._memory[start : start + len(text)] = text
        self._writes += 2
        COUNTS.pack_into(self._memory, 0, self._writes, self._begun, self._ticks)

    @property
    def begun(self) -> int:
        """How many jobs this horse has begun."""
        return int(COUNTS.unpack_from(self._memory)[1])

    @property
    def ticks(self) -> int:
        """A number that changes whenever the horse moves."""
        return int(COUNTS.unpack_from(self._memory)[2])

    @property
    def running(self) -> Running | None:
        """The job at work, as a whole: a write that comes between is waited out."""
        for _ in range(1000):
            before = COUNTS.unpack_from(self._memory)[0]
            (length,) = LENGTH.unpack_from(self._memory, TEXT)
            text = bytes(self._memory[TEXT + LENGTH.size : TEXT + LENGTH.size + length])
            if before % 2 == 0 and COUNTS.unpack_from(self._memory)[0] == before:
                return Running(*orjson.loads(text)) if text else None
        return None  # it died in the middle of a write: what it began is in Redis, not here

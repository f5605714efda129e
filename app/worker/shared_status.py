"""What a work horse is doing, in memory shared with its parent. It needs no round trip and outlives the horse."""

import enum
import mmap
import struct
import time
from dataclasses import dataclass

import orjson

from app.metrics.shared_counters import SharedCounters

STOP_ORDERED, LEAVING = 0, 1  # offsets of a byte each
PLACES = 64  # offset of the first place
HEAD = struct.Struct("<QQI")  # of a place: writes, jobs begun, length of the text of its job (0: none)
ABORT = struct.Struct("<Q")  # at ABORT_OFFSET of a place: the number of writes at which its job is to be aborted
ABORT_OFFSET, TEXTS, TEXT = 32, 64, 8 * 1024  # within a place; the two texts are written in turns
PLACE = TEXTS + 2 * TEXT  # bytes


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
    """A running job; `since` is its start by the monotonic clock, `timeout` is seconds, none if not positive."""

    queue: str
    job_id: str
    execution_id: str
    since: float
    timeout: float


class SharedStatus:
    """The status of one horse, which one thread of the horse writes, and the orders to it, which the parent writes.

    Each job that runs has a place, from 0.
    """

    def __init__(self, places: int = 1) -> None:
        self.counters = SharedCounters()
        self._memory = mmap.mmap(-1, PLACES + places * PLACE)
        self._writes, self._begun = [0] * places, [0] * places

    def order_to_stop(self) -> None:
        """Order the horse to finish its jobs, take no others, and exit."""
        self._memory[STOP_ORDERED] = 1

    @property
    def stop_ordered(self) -> bool:
        return self._memory[STOP_ORDERED] == 1

    @property
    def leaving(self) -> Leaving:
        return Leaving(self._memory[LEAVING])

    @leaving.setter
    def leaving(self, leaving: Leaving) -> None:
        self._memory[LEAVING] = leaving

    def show(self, queue: str, job_id: str, execution_id: str, timeout: float, place: int = 0) -> None:
        """Record the job that begins. Raises ValueError: its names are too long; TypeError: they are not UTF-8."""
        text = orjson.dumps((queue, job_id, execution_id, time.monotonic(), timeout))
        if len(text) > TEXT:
            raise ValueError("the names of this job are too long")
        at, writes, begun = PLACES + place * PLACE, self._writes[place] + 1, self._begun[place] + 1
        start = at + TEXTS + TEXT * (writes % 2)
        self._memory[start : start + len(text)] = text
        HEAD.pack_into(self._memory, at, writes, begun, len(text))
        self._writes[place], self._begun[place] = writes, begun

    def clear(self, place: int = 0) -> None:
        """Record that no job runs in a place, and that the horse is alive."""
        self._writes[place] = writes = self._writes[place] + 1
        HEAD.pack_into(self._memory, PLACES + place * PLACE, writes, self._begun[place], 0)

    def tick(self) -> None:
        """Record that the horse is alive."""
        writes, begun, length = self._read_head(0)
        self._writes[0] = writes + 2  # an even number: the text stays where it is
        HEAD.pack_into(self._memory, PLACES, writes + 2, begun, length)

    @property
    def begun(self) -> int:
        """Number of jobs that this horse has begun."""
        return sum(int(self._read_head(place)[1]) for place in range(len(self._begun)))

    @property
    def ticks(self) -> int:
        """A number that changes whenever the horse moves."""
        return sum(int(self._read_head(place)[0]) for place in range(len(self._begun)))

    @property
    def running(self) -> list[Running]:
        """The running jobs, the oldest first."""
        jobs = (self._job(place) for place in range(len(self._begun)))
        return sorted((job for job in jobs if job), key=lambda job: job.since)

    def abort(self, execution_id: str) -> None:
        """Ask the horse to abort this execution, if it runs."""
        for place in range(len(self._begun)):
            writes = self._read_head(place)[0]
            job = self._job(place)
            if job and job.execution_id == execution_id:
                ABORT.pack_into(self._memory, PLACES + place * PLACE + ABORT_OFFSET, writes)

    def aborted(self) -> list[int]:
        """The places whose job is to be aborted."""
        return [
            place
            for place, writes in enumerate(self._writes)
            if writes and ABORT.unpack_from(self._memory, PLACES + place * PLACE + ABORT_OFFSET)[0] == writes
        ]

    def clear_abort(self, place: int) -> None:
        """Record that the job of a place has been aborted."""
        ABORT.pack_into(self._memory, PLACES + place * PLACE + ABORT_OFFSET, 0)

    def _read_head(self, place: int) -> tuple[int, int, int]:
        writes, begun, length = HEAD.unpack_from(self._memory, PLACES + place * PLACE)
        return writes, begun, length

    def _job(self, place: int) -> Running | None:
        """The job of a place. Two texts are written in turns, so one that changes while it is read is read again."""
        while True:
            head = self._read_head(place)
            start = PLACES + place * PLACE + TEXTS + TEXT * (head[0] % 2)
            text = bytes(self._memory[start : start + head[2]])
            if self._read_head(place) == head:
                return Running(*orjson.loads(text)) if text else None

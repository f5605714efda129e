"""Counts and durations of one work horse, in memory shared with its parent: they outlive a horse that is killed.

The horse counts each end without a system call. Its parent reads what has been added since it last looked.
"""

import mmap
import uuid
from collections.abc import Iterator

import redis

from app.metrics import store
from app.metrics.histogram import FIRST_BUCKET, LAST_BUCKET, Histogram, bucket_of
from app.metrics.measures import OUTCOMES, Measures
from app.metrics.store import Series

MAX_SERIES = 512  # of a function in a queue; the rest is counted as OTHER
OTHER = "other"
NAMES_BYTES = 512
BUCKETS = LAST_BUCKET - FIRST_BUCKET + 1
# A series: its names, then numbers of 8 bytes: outcomes; sum, maximum and buckets of run times; the same of waits.
NUMBERS = NAMES_BYTES // 8
RUN = NUMBERS + len(OUTCOMES)
WAIT = RUN + 2 + BUCKETS
SERIES = WAIT + 2 + BUCKETS
OUTCOME_OFFSET = {outcome: NUMBERS + n for n, outcome in enumerate(OUTCOMES)}


class SharedCounters:
    """Counters of up to MAX_SERIES pairs of function and queue. One thread of the horse writes them."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8 + 8 * SERIES * MAX_SERIES)  # pages that are not used take no memory
        view = memoryview(self._memory)
        self._integers: memoryview[int] = view.cast("Q")
        self._floats: memoryview[float] = view.cast("d")
        self._offsets = dict[tuple[str, str], int]()

    def count(self, function: str, queue: str, outcome: str | None, run: float | None, wait: float | None) -> None:
        """Count an end. `outcome`: None if a script counts it; `run`, `wait`: seconds, None if they are not known."""
        at = self._offsets.get((function, queue)) or self._new_series(function, queue)
        integers, floats = self._integers, self._floats
        if outcome:
            integers[at + OUTCOME_OFFSET[outcome]] += 1
        for offset, seconds in ((RUN, run), (WAIT, wait)):
            if seconds is not None:
                times = at + offset
                floats[times] += seconds
                if seconds > floats[times + 1]:
                    floats[times + 1] = seconds
                integers[times + 2 - FIRST_BUCKET + bucket_of(seconds)] += 1

    def _new_series(self, function: str, queue: str) -> int:
        number = self._integers[0]
        names = f"{function}\t{queue}".encode(errors="replace")
        if number >= MAX_SERIES - 1 or len(names) >= NAMES_BYTES:
            function, queue, names = OTHER, "", f"{OTHER}\t".encode()
            if (function, queue) in self._offsets:
                return self._offsets[function, queue]
        at = 1 + number * SERIES
        self._memory[8 * at : 8 * at + len(names)] = names
        self._integers[0] = number + 1
        self._offsets[function, queue] = at
        return at

    def read(self) -> Iterator[tuple[str, str, list[int], list[float]]]:
        """Function, queue and numbers of each series: as integers, and the same memory as floats."""
        for number in range(self._integers[0]):
            at = 1 + number * SERIES
            names = bytes(self._memory[8 * at : 8 * at + NAMES_BYTES]).rstrip(b"\0").decode(errors="replace")
            function, _, queue = names.partition("\t")
            numbers = slice(at + NUMBERS, at + SERIES)
            yield function, queue, list(self._integers[numbers]), list(self._floats[numbers])


class CountersReader:
    """The parent's side: reads what a horse has counted, and writes it to Redis."""

    def __init__(self, counters: SharedCounters) -> None:
        self._counters = counters
        self._known = dict[Series, tuple[list[int], list[float]]]()
        self._unwritten = dict[Series, Measures]()
        self._batch = ""

    def write(self, connection: redis.Redis) -> None:
        """Write what was counted since the last call. Raises redis.RedisError: the next call writes it."""
        if not self._unwritten:
            self._unwritten, self._batch = self._new(), uuid.uuid4().hex
        store.add(connection, self._unwritten, self._batch)
        self._unwritten = {}

    def _new(self) -> dict[Series, Measures]:
        """What was counted since the last call."""
        added = {}
        for function, queue, integers, floats in self._counters.read():
            old = self._known.get((function, queue))
            if old is None or old[0] != integers:
                self._known[function, queue] = (integers, floats)
                added[function, queue] = _difference(
                    integers, floats, *(old or ([0] * len(integers), [0.0] * len(floats)))
                )
        return added


def _difference(integers: list[int], floats: list[float], old_integers: list[int], old_floats: list[float]) -> Measures:
    measures = Measures()
    for n, outcome in enumerate(OUTCOMES):
        if integers[n] != old_integers[n]:
            measures.counts[outcome] = integers[n] - old_integers[n]
    for offset, histogram in ((RUN - NUMBERS, measures.run), (WAIT - NUMBERS, measures.wait)):
        _subtract(histogram, offset, integers, floats, old_integers, old_floats)
    return measures


def _subtract(
    histogram: Histogram,
    at: int,
    integers: list[int],
    floats: list[float],
    old_integers: list[int],
    old_floats: list[float],
) -> None:
    for n in range(BUCKETS):
        added = integers[at + 2 + n] - old_integers[at + 2 + n]
        if added:
            histogram.counts[FIRST_BUCKET + n] = added
    if histogram.counts:
        histogram.sum = floats[at] - old_floats[at]
        histogram.max = floats[at + 1]

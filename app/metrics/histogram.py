"""Histograms of durations on a logarithmic grid. They are exact to a factor of 2**(1/4) at worst, and can be merged.

Bucket k holds durations of more than 2**((k - 1) / 4) and up to 2**(k / 4) seconds, which is scale 2 of OpenTelemetry's
exponential histograms. The first and the last bucket also hold what is shorter or longer.
"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

FIRST_BUCKET, LAST_BUCKET = -56, 68  # up to 61 microseconds, and up to 36 hours
BUCKETS_PER_DOUBLING = 4
DIGITS = 6  # decimals of seconds that are kept and shown: microseconds
_SHORTEST, _LONGEST = 2 ** (FIRST_BUCKET / BUCKETS_PER_DOUBLING), 2 ** (LAST_BUCKET / BUCKETS_PER_DOUBLING)


def bucket_of(seconds: float) -> int:
    """The number of the bucket that holds a duration."""
    if seconds <= _SHORTEST:
        return FIRST_BUCKET
    if seconds >= _LONGEST:
        return LAST_BUCKET
    return math.ceil(BUCKETS_PER_DOUBLING * math.log2(seconds))


def upper_bound(bucket: int) -> float:
    """The longest duration in a bucket, in seconds."""
    return float(2 ** (bucket / BUCKETS_PER_DOUBLING))


@dataclass
class Histogram:
    """Durations in seconds. Redis keeps one as a JSON array: sum, maximum, number of the first bucket, counts."""

    sum: float = 0.0
    max: float = 0.0
    counts: Counter[int] = field(default_factory=Counter)
    """Maps the number of a bucket to how many durations it holds."""

    @property
    def count(self) -> int:
        return self.counts.total()

    def as_array(self) -> list[float]:
        first, last = min(self.counts), max(self.counts)
        counts = (self.counts[bucket] for bucket in range(first, last + 1))
        return [round(self.sum, DIGITS), float(f"{self.max:.4g}"), first, *counts]

    def merge_array(self, array: Sequence[float]) -> None:
        """Add what `as_array` has made. A page of statistics reads thousands of them."""
        total, longest, first, *added = array
        self.sum += total
        self.max = max(self.max, longest)
        counts, bucket = self.counts, int(first)
        for count in added:
            if count:
                counts[bucket] = counts.get(bucket, 0) + int(count)
            bucket += 1

    def merge(self, other: "Histogram") -> None:
        self.sum += other.sum
        self.max = max(self.max, other.max)
        self.counts.update(other.counts)

    def quantile(self, share: float) -> float | None:
        """The duration that this share of all does not exceed; None without any. Interpolates within a bucket."""
        rank, below = share * self.count, 0
        for bucket in sorted(self.counts):
            count = self.counts[bucket]
            if below + count >= rank and count:
                within = (rank - below) / count
                return min(self.max, upper_bound(bucket) * 2 ** ((within - 1) / BUCKETS_PER_DOUBLING))
            below += count
        return None

    def cumulative(self, step: int = BUCKETS_PER_DOUBLING) -> Iterator[tuple[float, int]]:
        """Each `step`-th upper bound in seconds, and how many durations do not exceed it."""
        total, bucket = 0, FIRST_BUCKET
        for bound in range(FIRST_BUCKET, LAST_BUCKET, step):
            while bucket <= bound:
                total += self.counts[bucket]
                bucket += 1
            yield upper_bound(bound), total

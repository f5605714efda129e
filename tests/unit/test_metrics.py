"""Histograms, the memory that a work horse shares with its parent, and what is read of Redis."""

import random
from collections import Counter

import fakeredis
import pytest
import redis

from app.errors import Invalid
from app.metrics import histogram, shared_counters, stats, store
from app.metrics.histogram import Histogram, bucket_of, upper_bound
from app.metrics.measures import Measures
from app.metrics.shared_counters import CountersReader, SharedCounters

NOW = 1_790_000_005.0
DISTRIBUTIONS = {
    "exponential": lambda rng: rng.expovariate(10),
    "lognormal": lambda rng: rng.lognormvariate(-4, 1.5),
    "uniform": lambda rng: rng.uniform(0.01, 5),
    "constant": lambda rng: 0.25,
    "two values": lambda rng: rng.choice([0.001, 3.0]),
}
WORST = 2**0.25


@pytest.fixture
def connection() -> redis.Redis:
    return fakeredis.FakeRedis()


def of(*durations: float) -> Histogram:
    return Histogram(sum(durations), max(durations), Counter(map(bucket_of, durations)))


@pytest.mark.parametrize("seconds", [0.0, 1e-9, 2**-14, 0.001, 0.25, 1.0, 1.1, 60.0, 2.0**17, 1e9])
def test_a_bucket_holds_what_is_up_to_its_bound(seconds: float) -> None:
    bucket = bucket_of(seconds)
    assert seconds <= upper_bound(bucket) * (1 + 1e-12) or bucket == histogram.LAST_BUCKET
    assert seconds > upper_bound(bucket - 1) * (1 - 1e-12) or bucket == histogram.FIRST_BUCKET


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("share", [0.5, 0.95, 0.99, 1.0])
def test_percentiles_are_within_a_bucket_of_the_exact_ones(name: str, share: float) -> None:
    rng = random.Random(7)
    durations = sorted(DISTRIBUTIONS[name](rng) for _ in range(5000))
    exact, found = durations[int(share * len(durations)) - 1], of(*durations).quantile(share)
    assert found
    assert exact / WORST <= found <= exact * WORST


def test_percentiles_of_smooth_distributions_are_within_nine_percent() -> None:
    rng = random.Random(7)
    durations = sorted(rng.lognormvariate(-4, 1.5) for _ in range(20_000))
    for share in (0.5, 0.95, 0.99):
        found = of(*durations).quantile(share)
        assert found == pytest.approx(durations[int(share * len(durations)) - 1], rel=0.09)


def test_nothing_has_no_percentile_and_no_percentile_exceeds_the_maximum() -> None:
    assert Histogram().quantile(0.5) is None
    assert of(0.2, 0.21).quantile(1.0) == 0.21


def test_a_histogram_survives_being_stored_and_merged() -> None:
    one, other = of(0.001, 0.5, 3.0), of(0.2, 100.0)
    stored = Histogram()
    stored.merge_array(one.as_array())
    assert stored == one
    stored.merge_array(other.as_array())
    assert (stored.counts, stored.max, stored.count) == (of(0.001, 0.5, 3.0, 0.2, 100.0).counts, 100.0, 5)


def test_cumulative_counts_end_with_all_that_are_no_longer_than_the_last_bound() -> None:
    bounds = dict(of(0.0001, 0.3, 0.3, 2.0, 1e9).cumulative())
    assert bounds[2**-14] == 0
    assert (bounds[0.25], bounds[0.5], bounds[2.0], bounds[2.0**16]) == (1, 3, 4, 4)


def test_a_parent_reads_what_its_horse_has_counted_since_it_last_looked(connection: redis.Redis) -> None:
    counters = SharedCounters()
    reader = CountersReader(counters)
    counters.count("demo.add", "default", "finished", 0.1, 0.2)
    counters.count("demo.add", "default", "finished", 0.3, None)
    counters.count("demo.add", "high", "failed", None, 2.0)
    assert reader._new() == {
        ("demo.add", "default"): Measures(Counter(finished=2), of(0.1, 0.3), of(0.2)),
        ("demo.add", "high"): Measures(Counter(failed=1), Histogram(), of(2.0)),
    }
    assert reader._new() == {}
    counters.count("demo.add", "high", "failed", None, 1.0)
    [(series, measures)] = reader._new().items()
    assert (series, measures.wait.counts) == (("demo.add", "high"), Counter([bucket_of(1.0)]))


def test_functions_beyond_the_memory_and_names_beyond_their_length_are_counted_together() -> None:
    counters = SharedCounters()
    for number in range(shared_counters.MAX_SERIES + 10):
        counters.count(f"module.f{number}", "default", "finished", 1.0, 1.0)
    counters.count("f" * 600, "default", "finished", 1.0, 1.0)
    counted = CountersReader(counters)._new()
    assert len(counted) == shared_counters.MAX_SERIES
    assert counted["other", ""].counts == {"finished": 12}


def test_what_could_not_be_written_is_written_later_and_once(
    connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    counters = SharedCounters()
    reader, write = CountersReader(counters), store.ADD
    counters.count("demo.add", "default", "finished", 0.1, 0.2)

    def lose_the_answer(*args: object, **kwargs: object) -> None:
        write(*args, **kwargs)  # type: ignore[arg-type]
        raise redis.ConnectionError("the answer was lost")

    monkeypatch.setattr(store, "ADD", lose_the_answer)
    with pytest.raises(redis.ConnectionError):
        reader.write(connection)
    monkeypatch.undo()
    counters.count("demo.add", "default", "finished", 0.1, 0.2)
    for _ in range(3):
        reader.write(connection)
    assert store.totals(connection)["demo.add", "default"].counts == {"finished": 2}


def test_intervals_are_merged_into_longer_ones_and_totals(
    connection: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    measures = Measures(Counter(finished=1), of(0.5), of(0.1))
    for number in range(3):
        store.add(connection, {("demo.add", "default"): measures, ("demo.mul", "high"): measures}, str(number))
    before = store.totals(connection)
    [start] = store._unmerged(connection)
    monkeypatch.setattr(store, "seconds_now", lambda _: start + 9.9)
    store.sweep(connection)
    assert store._unmerged(connection) == [start]
    monkeypatch.setattr(store, "seconds_now", lambda _: start + 10)
    store.sweep(connection)
    assert store._unmerged(connection) == []
    assert store.totals(connection) == before
    assert before["demo.add", "default"] == Measures(Counter(finished=3), of(0.5, 0.5, 0.5), of(0.1, 0.1, 0.1))
    for length in store.KEPT_SECONDS:
        into = start - start % length
        read = {series: (found, text) for found, series, text in store.read(connection, length, [into], lambda _: True)}
        measures = Measures()
        measures.merge_json(read["demo.add", "default"][1])
        assert measures == before["demo.add", "default"]
        assert read.keys() == {("demo.add", "default"), ("demo.mul", "high"), ("", "default"), ("", "high")}
        assert {found for found, _ in read.values()} == {into}


def test_the_latest_interval_has_what_is_not_merged_yet(connection: redis.Redis) -> None:
    store.add(connection, {("demo.add", "default"): Measures(Counter(finished=2))}, "one")
    [start] = store._unmerged(connection)
    [found] = store.read(connection, 600, [start - start % 600], lambda series: series[0] == "demo.add")
    assert found == (start - start % 600, ("demo.add", "default"), b'{"c":{"finished":2}}')


def test_functions_beyond_the_first_500_are_counted_as_other(connection: redis.Redis) -> None:
    added = {(f"module.f{number}", "default"): Measures(Counter(finished=1)) for number in range(510)}
    store.add(connection, added, "one")
    counted = store.totals(connection)
    assert len(counted) == 501
    assert counted["other", "default"].counts == {"finished": 10}


@pytest.mark.parametrize(
    ("ago", "until", "step", "expected"),
    [
        (600, 0, None, (10, 61)),
        (3600, 0, None, (60, 61)),
        (8 * 3600, 0, None, (60, 481)),
        (72 * 3600, 0, None, (600, 433)),
        (72 * 3600, 0, 3600, (3600, 73)),
        (3600, 1800, 300, (300, 7)),
    ],
)
def test_a_range_has_the_shortest_intervals_that_reach_back(
    ago: int, until: int, step: int | None, expected: tuple[int, int]
) -> None:
    span = stats.Range.of(NOW - ago, NOW - until, NOW, step)
    assert (span.step, len(span.starts)) == expected
    assert span.start <= NOW - ago < span.start + span.step


@pytest.mark.parametrize(
    ("ago", "until", "step", "pointer"),
    [(0, 0, None, "#/from"), (60, 120, None, "#/from"), (3600, 0, 10, "#/step"), (8 * 3600, 0, 90, "#/step")],
)
def test_a_range_that_cannot_be_is_refused(ago: int, until: int, step: int | None, pointer: str) -> None:
    with pytest.raises(Invalid) as refusal:
        stats.Range.of(NOW - ago, NOW - until, NOW, step)
    assert refusal.value.errors
    assert refusal.value.errors[0]["pointer"] == pointer


def test_an_interval_that_redis_has_evicted_meanwhile_expires_too(connection: redis.Redis) -> None:
    store.add(connection, {("demo.add", "default"): Measures(Counter(finished=1))}, "one")
    [key] = connection.keys("jobline:metrics:10:*")
    connection.delete(key)
    store.add(connection, {("demo.add", "default"): Measures(Counter(finished=1))}, "two")
    assert all(connection.ttl(key) > 0 for key in connection.keys("jobline:metrics:10:*"))

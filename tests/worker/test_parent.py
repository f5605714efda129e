"""A worker's parent between two horses: when it goes on with another, and how long it waits before."""

from collections.abc import Callable
from types import SimpleNamespace

import pytest
import redis

from app.worker import parent
from app.worker.horse import Limits
from app.worker.shared_status import Leaving
from tests.scripts.hand import Hand

End = tuple[Leaving, int, int]
"""Why a horse left, how many jobs it began, and how many were given back."""
Work = Callable[..., tuple[int, list[float]]]


@pytest.fixture
def work(valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch) -> Work:
    """Keep horses that end so, one after the other; how many jobs they began, and the waits between them."""
    worker, waits = Hand(valkey).worker, list[float]()
    monkeypatch.setattr(worker.wake, "wait", waits.append)

    def work(*ends: End, jobs: int | None = None) -> tuple[int, list[float]]:
        left = iter(ends)

        def horse(*_: object) -> SimpleNamespace:
            leaving, begun, returned = next(left)
            process = SimpleNamespace(pid=0, settled=True)
            return SimpleNamespace(leaving=leaving, begun=begun, returned=returned, horse=process, step=lambda: True)

        monkeypatch.setattr(parent, "HorseMonitor", horse)
        done = worker._keep_a_horse(Limits(jobs=jobs))
        assert next(left, None) is None
        return done, waits

    return work


STOPPED: End = (Leaving.STOPPED, 0, 0)


@pytest.mark.parametrize("leaving", [Leaving.STOPPED, Leaving.EMPTY, Leaving.IDLE, Leaving.ENOUGH, Leaving.SUSPENDED])
def test_it_ends_with_a_horse_that_has_no_more_to_do(work: Work, leaving: Leaving) -> None:
    assert work((leaving, 3, 0)) == (3, [])


@pytest.mark.parametrize(("leaving", "returned"), [(Leaving.DIED, 0), (Leaving.RECYCLED, 0), (Leaving.EMPTY, 1)])
def test_it_goes_on_while_there_may_be_jobs(work: Work, leaving: Leaving, returned: int) -> None:
    """A horse that left as its queues were empty may have left before its own jobs were given back to them."""
    assert work((leaving, 3, returned), STOPPED) == (3, [0.0])


def test_a_horse_that_begins_nothing_is_replaced_later_and_later(work: Work) -> None:
    nothing: End = (Leaving.DIED, 0, 0)
    _, waits = work(*[nothing] * 9, (Leaving.DIED, 1, 0), nothing, STOPPED)
    assert waits[:3] == pytest.approx([0.1, 0.3, 0.7])
    assert waits[:9] == sorted(waits[:9])
    assert waits[8] == parent.MAX_BACKOFF_SECONDS
    assert waits[9:] == pytest.approx([0.0, 0.1])


@pytest.mark.parametrize(("begun", "goes_on"), [(1, True), (2, False)])
def test_the_jobs_of_all_horses_count(work: Work, begun: int, goes_on: bool) -> None:
    ends: list[End] = [(Leaving.RECYCLED, 1, 0), (Leaving.DIED, begun, 0), *([STOPPED] if goes_on else [])]
    done, _ = work(*ends, jobs=3)
    assert done == 1 + begun


def test_a_stop_that_comes_while_the_next_horse_begins_is_for_that_one(
    valkey: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Hand(valkey).worker
    horses = [StoppableHorse(Leaving.DIED), StoppableHorse(Leaving.STOPPED)]
    begun = iter(horses)

    def begin(*_: object) -> StoppableHorse:
        horse = next(begun)
        if horse is horses[1]:
            worker.handle_payload({"data": b'{"command": "stop-job", "job_id": "job"}'})
        return horse

    monkeypatch.setattr(parent, "HorseMonitor", begin)
    monkeypatch.setattr(worker.wake, "wait", lambda _: None)
    monkeypatch.setattr(worker.wake, "ring", lambda: None)
    worker._keep_a_horse(Limits())
    assert [horse.stopped for horse in horses] == [[], ["job"]]


class StoppableHorse:
    """The monitor of one that ends at its second step."""

    begun, returned, may_be_succeeded = 1, 0, False

    def __init__(self, leaving: Leaving) -> None:
        self.leaving, self.steps = leaving, iter([False, True])
        self.stopped = list[str]()
        self.horse = SimpleNamespace(pid=0, settled=True)

    def step(self) -> bool:
        return next(self.steps)

    def sleep(self) -> None: ...

    def stop(self, job_id: str) -> bool:
        self.stopped.append(job_id)
        return True

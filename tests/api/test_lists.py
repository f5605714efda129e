"""GET /jobs: newest first over all queues and states, at the cost of the page."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest

from app.testing import Jobs, run_jobs
from app.views import job_view, merge

START = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture
def jobs() -> Iterator[Jobs]:
    with run_jobs(at=START) as found:
        yield found


def listed(jobs: Jobs, query: str = "") -> list[str]:
    """The ids of all pages."""
    ids: list[str] = []
    cursor = ""
    while True:
        page = jobs.client.get(f"/api/v1/jobs?{query}&{cursor}").get_json()
        ids += [job["id"] for job in page["jobs"]]
        if not page["next_cursor"]:
            return ids
        cursor = f"cursor={page['next_cursor']}"


@pytest.fixture
def mixed(jobs: Jobs) -> list[str]:
    """The ids of jobs in all states and three queues, in the order of their making, a second apart."""
    made: list[str] = []

    def make(function: str, *args: object, **options: object) -> str:
        name = f"{len(made):02}-{function.partition('.')[2]}"
        jobs.enqueue_with({"id": name, **options}, function, *args)
        made.append(name)
        jobs._clock.shift(1)
        return name

    for round_ in range(3):
        for queue in ("low", "high", "default"):
            make("demo.add", 1, round_, queue=queue)
            make("demo.fail", "no", queue=queue)
            jobs.client.post(f"/api/v1/jobs/{make('demo.add', 1, 2, queue=queue)}/cancel")
            jobs.run()
        make("demo.add", 1, 2, delay=86_400 - 100 * round_, queue="low")
        make("demo.add", 1, 2, queue="low", depends_on=[made[-1]])
    for queue in ("low", "high", "low"):
        make("demo.add", 1, 2, queue=queue)
    return made


def test_jobs_of_all_states_and_queues_come_newest_first(jobs: Jobs, mixed: list[str]) -> None:
    states = {job["status"] for job in jobs.client.get("/api/v1/jobs").get_json()["jobs"]}
    assert states == {"queued", "scheduled", "deferred", "finished", "failed", "canceled"}
    assert sorted(listed(jobs)) == sorted(mixed)
    without_delays = [job_id for job_id in listed(jobs) if jobs.get(job_id)["status"] != "scheduled"]
    assert without_delays == [job_id for job_id in reversed(mixed) if job_id in without_delays]


@pytest.mark.parametrize("limit", [1, 2, 7])
def test_pages_hold_each_job_once_in_one_order(jobs: Jobs, mixed: list[str], limit: int) -> None:
    found = [job_id for job_id in listed(jobs, f"limit={limit}") if jobs.get(job_id)["status"] != "scheduled"]
    assert found == [job_id for job_id in reversed(mixed) if job_id in found]
    assert len(found) == len(mixed) - 3
    assert sorted(listed(jobs, f"limit={limit}")) == sorted(mixed)


@pytest.mark.parametrize("query", ["queue=low", "status=finished", "function=demo.fail"])
def test_a_filter_keeps_the_order(jobs: Jobs, mixed: list[str], query: str) -> None:
    name, _, value = query.partition("=")
    wanted = [job_id for job_id in reversed(mixed) if jobs.get(job_id)[name] == value]
    delayed = [job_id for job_id in wanted if jobs.get(job_id)["status"] == "scheduled"]
    assert [one for one in listed(jobs, f"{query}&limit=3") if one not in delayed] == [
        one for one in wanted if one not in delayed
    ]


def test_one_state_of_one_queue_is_in_its_own_order(jobs: Jobs) -> None:
    for name, options in (("first", {}), ("second", {}), ("urgent", {"at_front": True})):
        jobs.enqueue_with({"id": name, **options}, "demo.add", 1, 2)
        jobs._clock.shift(1)
    assert listed(jobs, "queue=default&status=queued") == ["second", "first", "urgent"]
    assert listed(jobs) == ["urgent", "second", "first"]


def test_a_job_that_is_requeued_is_new_again(jobs: Jobs) -> None:
    jobs.enqueue_with({"id": "old"}, "demo.fail", "no")
    jobs.run()
    jobs._clock.shift(10)
    jobs.enqueue_with({"id": "young", "queue": "low"}, "demo.add", 1, 2)
    assert listed(jobs) == ["young", "old"]
    jobs._clock.shift(10)
    jobs.client.post("/api/v1/jobs/old/requeue")
    assert listed(jobs) == ["old", "young"]


def test_a_job_that_ran_for_long_hides_no_younger_ones(jobs: Jobs) -> None:
    """It lies before them in its registry, which is sorted by the end."""
    jobs.enqueue_with({"id": "long"}, "demo.add", 1, 2)
    jobs.run()
    for number in range(30):
        jobs._clock.shift(1)
        jobs.enqueue_with({"id": f"short-{number:02}"}, "demo.add", 1, 2)
        jobs.run()
        jobs.enqueue_with({"id": f"waits-{number:02}", "queue": "low", "delay": 10_000 + number}, "demo.add", 1, 2)
    jobs.redis.zadd("rq:finished:default", {"long": 4_000_000_000})
    page = jobs.client.get("/api/v1/jobs?limit=20").get_json()["jobs"]
    assert {f"short-{number}" for number in range(25, 30)} <= {job["id"] for job in page}


def test_a_page_costs_the_page_however_many_jobs_there_are(jobs: Jobs, monkeypatch: pytest.MonkeyPatch) -> None:
    for queue in ("low", "high", "default"):
        call: dict[str, Any] = {"function": "demo.add", "args": [1, 2], "queue": queue}
        jobs.client.post("/api/v1/jobs/bulk", json={"jobs": [call] * 700})
    read: list[int] = []
    fetch = job_view.fetch
    monkeypatch.setattr(merge.job_view, "fetch", lambda c, ids: (read.append(len(ids)), fetch(c, ids))[1])
    page = jobs.client.get("/api/v1/jobs?limit=50").get_json()
    assert len(page["jobs"]) == 50
    assert sum(read) <= 200
    read.clear()
    rest = jobs.client.get(f"/api/v1/jobs?limit=50&cursor={page['next_cursor']}").get_json()["jobs"]
    assert len({job["id"] for job in (*page["jobs"], *rest)}) == 100
    assert sum(read) <= 200


def test_a_job_that_is_in_two_places_is_on_a_page_once(jobs: Jobs) -> None:
    """As one is that ends between two reads."""
    jobs.enqueue_with({"id": "moves"}, "demo.add", 1, 2)
    jobs.redis.zadd("rq:finished:default", {"moves": 4_000_000_000})
    assert listed(jobs) == ["moves"]
    assert listed(jobs, "limit=1")[0] == "moves"


def test_a_cursor_of_another_list_is_refused(jobs: Jobs) -> None:
    jobs.enqueue("demo.fail", "no")
    jobs.enqueue("demo.fail", "no")
    body = {"limit": 1, "dry_run": True, "status": "queued", "all": True}
    cursor = jobs.client.post("/api/v1/jobs/cancel", json=body).get_json()["next_cursor"]
    assert cursor
    assert jobs.client.get(f"/api/v1/jobs?cursor={cursor}").status_code == 400
    cursor = jobs.client.get("/api/v1/jobs?limit=1").get_json()["next_cursor"]
    assert jobs.client.post("/api/v1/jobs/cancel", json={**body, "cursor": cursor}).status_code == 400

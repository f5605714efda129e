"""Three real schedulers, one of them killed again and again: every due moment is run, and run once."""

import random
import subprocess
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import redis

from app.catalog.catalog import Catalog
from app.schedules import manage
from app.schedules.rule import Schedule
from app.settings import Settings
from app.views import job_view
from tests.conftest import Project

SCHEDULES, TICKS = 20, 50


def test_no_due_moment_is_doubled_or_dropped_whoever_is_killed(project: Project, valkey: redis.Redis) -> None:
    begin = datetime.now(UTC) + timedelta(seconds=2)
    end = begin + timedelta(seconds=0.2 * (TICKS - 1))
    for number in range(SCHEDULES):
        said = {"name": f"s{number}", "function": "demo.add", "args": [1, 2], "interval": 0.2, "catch_up": "all"}
        schedule = Schedule.model_validate({**said, "start": begin, "end": end})
        manage.put(valkey, Catalog(), Settings(), schedule, datetime.now(UTC), declared=False)
    crew = [project.start("scheduler.py", LOG_LEVEL="ERROR") for _ in range(3)]
    try:
        kill_until(crew, project, lambda: valkey.zcard("rq:scheduler:scheduled_jobs") == 1)  # the one of scheduler.py
    finally:
        for process in crew:
            process.kill()
            process.wait()
    ids = [job_id.decode() for job_id in valkey.lrange("rq:queue:default", 0, -1)]
    runs = Counter((job["schedule"], job["scheduled_for"]) for job in job_view.fetch(valkey, ids) if job)
    due = [(begin + timedelta(seconds=0.2 * n)).isoformat().replace("+00:00", "Z") for n in range(TICKS)]
    assert runs == Counter((f"s{number}", moment) for number in range(SCHEDULES) for moment in due)


def kill_until(crew: list[subprocess.Popen[bytes]], project: Project, over: Callable[[], bool]) -> None:
    dice, kills = random.Random(1), 0
    deadline = time.monotonic() + 90
    while not over():
        assert time.monotonic() < deadline
        place = dice.randrange(3)
        time.sleep(1.5)
        crew[place].kill()
        crew[place].wait()
        crew[place] = project.start("scheduler.py", LOG_LEVEL="ERROR")
        kills += 1
    assert kills > 3

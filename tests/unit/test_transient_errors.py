"""A read that Redis refuses for a moment is no answer: nothing is taken for missing, ended or unreadable."""

from collections.abc import Callable
from typing import Any

import pytest
import redis
from redis.client import Pipeline

from app.catalog.catalog import Catalog
from app.lifecycle.orphans import Orphans
from app.schedules import store
from app.schedules.lease import Lease
from app.schedules.runner import Runner
from app.settings import Settings
from app.views import job_view, listing
from app.views.selection import Selection

Read = Callable[[redis.Redis], object]
BUSY = redis.ResponseError("BUSY Redis is busy running a script")


def statuses_of_runs(connection: redis.Redis) -> object:
    return Runner(connection, Settings(), Catalog(), Lease(connection))._statuses(["job"])


READS: dict[str, tuple[str, Read]] = {
    "a job": ("HGETALL", lambda connection: job_view.fetch(connection, ["job"])),
    "when it is due": ("ZSCORE", lambda connection: job_view.fetch(connection, ["job"])),
    "a list of jobs": ("LRANGE", lambda connection: listing.jobs(connection, Selection(status="queued"), 5)),
    "a schedule": ("HGETALL", lambda connection: store.read(connection, ["s"])),
    "runs of schedules": ("HGET", statuses_of_runs),
    "jobs that may be orphans": ("HMGET", lambda connection: Orphans(connection)._queued(["job"])),
}


@pytest.mark.parametrize("name", READS)
def test_the_error_is_raised(fake: redis.Redis, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    command, read = READS[name]
    fake.hset("rq:job:job", mapping={"status": "scheduled", "origin": "default"})
    fake.zadd("rq:scheduled:default", {"job": 1})
    fake.sadd("rq:queues", "rq:queue:default")
    execute = Pipeline.execute

    def refused(pipeline: Pipeline, raise_on_error: bool = True) -> list[Any]:
        names = [entry[0][0] for entry in pipeline.command_stack]
        answers = execute(pipeline, raise_on_error)
        return [BUSY if name == command else answer for name, answer in zip(names, answers, strict=True)]

    monkeypatch.setattr(Pipeline, "execute", refused)
    with pytest.raises(redis.ResponseError, match="BUSY"):
        read(fake)

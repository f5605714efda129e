"""What the scripts that remove leftovers take, and what they leave."""

import pytest
import redis

from app.lifecycle.leftovers import FORGET, REMOVE
from tests.scripts.hand import put

PARTS = ("rq:results:{}", "rq:job:{}:dependents", "rq:job::{}:dependencies")


@pytest.mark.parametrize("part", PARTS)
def test_what_is_kept_of_a_job_that_is_gone_is_removed_unless_it_expires(valkey: redis.Redis, part: str) -> None:
    put(valkey, "there")
    keys = {job_id: part.format(job_id) for job_id in ("there", "gone", "expires")}
    for key in keys.values():
        valkey.set(key, "kept")
    valkey.expire(keys["expires"], 60)
    REMOVE(valkey, [word for job_id, key in keys.items() for word in (key, job_id)])
    assert {job_id for job_id, key in keys.items() if valkey.exists(key)} == {"there", "expires"}


def test_members_whose_keys_are_gone_are_forgotten(valkey: redis.Redis) -> None:
    put(valkey, "there")
    valkey.zadd("rq:canceled:default", {"there": 1, "gone": 2, "other": 3})
    FORGET(valkey, ["there", "gone"], key="rq:canceled:default", prefix="rq:job:")
    assert valkey.zrange("rq:canceled:default", 0, -1) == [b"there", b"other"]

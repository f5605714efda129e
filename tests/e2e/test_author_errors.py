"""What an author has written wrongly, as a worker finds it."""

import pytest
import redis
import rq
from rq.serializers import JSONSerializer

from app.views import job_view
from tests.conftest import Project

MODULE = """
import typing
from app import Retry, job

if typing.TYPE_CHECKING:
    from shop import Order

@job(timeout="soon")
def act() -> None: ...

def helper(order: "Order") -> None: ...

def good() -> int:
    return 1

def again(wait: str) -> object:
    return Retry(max=2, intervals=(wait,))

def renamed() -> object:
    return Retry(max=2, longest=5)
"""


@pytest.mark.parametrize(
    ("name", "args", "error"),
    [
        ("act", [], "Function 'shop.act' is set aside: jobs/shop.py:8: timeout='soon': Input should be seconds"),
        ("helper", [], "jobs/shop.py:11: the annotation 'Order' of parameter order cannot be read"),
        ("again", ["later"], "retry.intervals.0='later': Input should be seconds"),
        ("renamed", [], "retry: Retry() got an unexpected keyword argument 'longest'"),
    ],
)
def test_its_job_fails_with_the_reason_and_the_others_run(
    project: Project, valkey: redis.Redis, name: str, args: list[str], error: str
) -> None:
    project.write("shop", MODULE)
    queue = rq.Queue("default", connection=valkey, serializer=JSONSerializer)
    queue.enqueue(f"jobs.shop.{name}", *args, job_id="wrong")
    queue.enqueue("jobs.shop.good", job_id="good")
    output = project.work()
    wrong, good = job_view.fetch(valkey, ["wrong", "good"])
    assert wrong
    assert good
    assert (wrong["status"], good["status"], good["result"]) == ("failed", "finished", 1)
    assert error in wrong["error"]["message"]
    assert "shop.act is set aside: jobs/shop.py:8" in output


def test_a_retry_that_is_returned_may_say_its_waits_as_text(project: Project, valkey: redis.Redis) -> None:
    project.write("shop", MODULE)
    queue = rq.Queue("default", connection=valkey, serializer=JSONSerializer)
    queue.enqueue("jobs.shop.again", "1h", job_id="again")
    project.work()
    [job] = job_view.fetch(valkey, ["again"])
    assert job
    assert (job["status"], job["error"]) == ("scheduled", None)

"""The outbox: what follows an end is there once, whoever comes by and however often; and what a message says."""

import threading
from base64 import b64encode
from datetime import UTC, datetime
from typing import Any

import orjson
import pytest
import redis

from app.author.options import JOB_EVENTS, JobEvent, Webhook
from app.catalog.catalog import Catalog
from app.enqueue import new_job, write
from app.lifecycle import actions, outbox
from app.settings import Settings
from app.views import job_view
from app.webhooks import webhook_delivery
from tests.receiver import OTHER_SECRET, SECRET

URL = "https://example.com/hook"


def enqueued(connection: redis.Redis, *events: JobEvent, **said: Any) -> str:
    webhook = Webhook(URL, events or JOB_EVENTS, OTHER_SECRET)
    function, settings = Catalog().get("demo.add"), Settings(webhook_secret=SECRET)
    job = new_job.prepare(function, settings, [1, 2], {}, webhook=webhook, **said)
    write.enqueue(connection, [job])
    return job.id


def canceled(connection: redis.Redis, **said: Any) -> str:
    job_id = enqueued(connection, **said)
    actions.cancel(connection, job_id)
    return job_id


def deliveries(connection: redis.Redis) -> list[Any]:
    ids = [job_id.decode() for job_id in connection.lrange("rq:queue:webhooks", 0, -1)]
    return job_view.fetch(connection, ids)


def test_an_end_is_followed_by_one_delivery(fake: redis.Redis) -> None:
    job_id = canceled(fake, tags=["red"])
    assert fake.xlen("jobline:outbox") == 1
    assert [outbox.follow_up(fake) for _ in range(3)] == [1, 0, 0]
    [delivery] = deliveries(fake)
    url, message = delivery["args"]
    assert (delivery["function"], delivery["queue"], delivery["tags"]) == ("webhooks.deliver", "webhooks", ["webhook"])
    assert delivery["description"] == f"job.canceled of job {job_id}"
    assert (url, message["type"]) == (URL, "job.canceled")
    assert message["data"] == job_view.fetch(fake, [job_id])[0]
    assert message["timestamp"] == message["data"]["ended_at"]
    assert message["data"]["webhook"] == {"url": URL, "events": list(JOB_EVENTS)}
    assert fake.hget(f"rq:job:{delivery['id']}", "delivery_secret").decode() == OTHER_SECRET
    assert OTHER_SECRET not in str(delivery)
    assert "." not in delivery["id"]


def test_a_delivery_is_retried_by_the_schedule_of_the_specification(fake: redis.Redis) -> None:
    canceled(fake)
    outbox.follow_up(fake)
    [delivery] = deliveries(fake)
    waits = orjson.loads(fake.hget(f"rq:job:{delivery['id']}", "retry_intervals"))
    hour = 3600
    ladder = [5, 300, 1800, 2 * hour, 5 * hour, 10 * hour, 14 * hour, 20 * hour, 24 * hour]
    assert all(0.9 * meant - 1 <= wait <= 1.1 * meant + 1 for wait, meant in zip(waits, ladder, strict=True))
    assert {tuple(webhook_delivery.retry_waits()) for _ in range(2)} != {tuple(waits)}


def test_each_end_of_a_job_that_is_requeued_is_told(fake: redis.Redis) -> None:
    job_id = canceled(fake)
    actions.requeue(fake, job_id)
    actions.cancel(fake, job_id)
    assert outbox.follow_up(fake) == 2
    assert len({delivery["id"] for delivery in deliveries(fake)}) == 2


def test_an_event_that_is_not_wanted_is_not_delivered(fake: redis.Redis) -> None:
    job_id = enqueued(fake, "job.finished")
    actions.cancel(fake, job_id)
    outbox.follow_up(fake)
    assert fake.xlen("jobline:outbox") == 0
    assert deliveries(fake) == []


def test_a_job_without_a_webhook_leaves_nothing(fake: redis.Redis) -> None:
    job = new_job.prepare(Catalog().get("demo.add"), Settings(), [1, 2], {})
    write.enqueue(fake, [job])
    actions.cancel(fake, job.id)
    assert not fake.exists("jobline:outbox")


def test_what_was_deleted_since_is_told_all_the_same(fake: redis.Redis) -> None:
    job_id = canceled(fake)
    actions.delete(fake, job_id)
    outbox.follow_up(fake)
    assert deliveries(fake)[0]["args"][1]["data"]["id"] == job_id


def test_an_entry_that_cannot_be_read_holds_no_other_up(fake: redis.Redis) -> None:
    for field, value in (("webhook", "{"), ("webhook", "[]"), ("webhook", "{}")):
        job_id = enqueued(fake)
        fake.hset(f"rq:job:{job_id}", field, value)
        actions.cancel(fake, job_id)
    good = canceled(fake)
    outbox.follow_up(fake)
    assert [delivery["args"][1]["data"]["id"] for delivery in deliveries(fake)] == [good]
    assert fake.xlen("jobline:outbox") == 0


def test_a_transaction_that_is_sent_twice_notes_one_end(fake: redis.Redis) -> None:
    """As redis-py does when the answer is lost."""
    job_id = enqueued(fake)
    with fake.pipeline() as pipeline:
        outbox.record_end(pipeline, job_id, "finished", datetime.now(UTC))
        pipeline.command_stack *= 2
        pipeline.execute()
    assert fake.xlen("jobline:outbox") == 1


def test_many_who_come_by_at_once_make_one_delivery_an_end(valkey: redis.Redis, valkey_url: str) -> None:
    ids = [canceled(valkey) for _ in range(100)]
    start = threading.Barrier(4)

    def come_by() -> None:
        connection = redis.Redis.from_url(valkey_url)
        start.wait()
        while outbox.follow_up(connection):
            pass

    threads = [threading.Thread(target=come_by) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(delivery["args"][1]["data"]["id"] for delivery in deliveries(valkey)) == sorted(ids)
    assert valkey.xlen("jobline:outbox") == 0


def test_whoever_dies_in_between_leaves_the_end_in_the_outbox(
    fake: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    canceled(fake)

    def dies(*_: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as death:
        death.setattr(write, "add", dies)
        with pytest.raises(KeyboardInterrupt):
            outbox.follow_up(fake)
    assert (fake.xlen("jobline:outbox"), len(deliveries(fake))) == (1, 0)
    outbox.follow_up(fake)
    assert (fake.xlen("jobline:outbox"), len(deliveries(fake))) == (0, 1)


def as_ended(connection: redis.Redis, job_id: str, **fields: Any) -> Any:
    """The message of an end with these fields."""
    for entry, raw in connection.xrange("jobline:outbox"):
        raw |= {name.encode(): value for name, value in fields.items()}
        delivery = outbox._follow_up_job(entry.decode(), raw)
        assert delivery
        return delivery.args[1]
    raise AssertionError(f"{job_id} is not in the outbox")


def test_a_message_that_would_be_too_large_leaves_out_and_says_what(fake: redis.Redis) -> None:
    job_id = canceled(fake, description="x" * 1000)
    for result, omitted in (("y" * 10_000, None), ("y" * 20_000, ["result"])):
        message = as_ended(fake, job_id, status=b"finished", type=b"1", return_value=b64encode(orjson.dumps(result)))
        assert len(orjson.dumps(message)) <= webhook_delivery.MAX_MESSAGE_BYTES
        assert message["data"].get("omitted") == omitted
        assert message["data"]["result"] == (None if omitted else result)
        assert message["data"]["links"]["self"] == f"/api/v1/jobs/{job_id}"
    job: Any = job_view.fetch(fake, [job_id])[0]
    huge = {
        "result": "r" * 99_999, "args": ["a" * 64_000], "kwargs": {"k": "v" * 64_000}, "tags": ["é" * 64] * 32,
        "error": {"type": "E" * 9000, "message": "m" * 99_999, "traceback": "t" * 99_999}, "description": "d" * 90_000,
        "progress": {"current": 1, "total": 2, "percent": 50.0, "message": "p" * 99_999},
        "depends_on": ["i" * 128] * 1000,
    }  # fmt: skip
    message = webhook_delivery.message("job.failed", {**job, **huge})
    assert len(orjson.dumps(message)) <= webhook_delivery.MAX_MESSAGE_BYTES
    assert message["data"]["omitted"][0] == "result"
    assert message["data"]["error"]["message"] == "m" * 1000
    assert message["data"]["id"] == job_id

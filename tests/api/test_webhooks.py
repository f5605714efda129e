"""Where a webhook may be said, what is refused, and what is never shown, on a fake Redis."""

from typing import Any

import fakeredis
import pytest
from flask.testing import FlaskClient

from app.api.application import create_app
from app.author import options
from app.author.options import JOB_EVENTS, Webhook
from app.catalog.catalog import Function
from app.rq_adapter.rq_parts import Job
from app.settings import Settings, get_settings
from tests.receiver import OTHER_SECRET, SECRET

URL = "https://example.com/hook"
CALL = {"function": "demo.add", "args": [1, 2]}


def client_on(fake: fakeredis.FakeRedis, **said: Any) -> FlaskClient:
    return create_app(Settings(**said), fake, has_workers=False).test_client()


@pytest.fixture
def client(fake: fakeredis.FakeRedis) -> FlaskClient:
    return client_on(fake, webhook_secret=SECRET)


def enqueued(client: FlaskClient, **said: Any) -> Any:
    answer = client.post("/api/v1/jobs", json={**CALL, **said})
    assert answer.status_code == 202
    return answer.get_json()


def test_a_job_shows_its_webhook_and_never_its_secret(client: FlaskClient, fake: fakeredis.FakeRedis) -> None:
    job = enqueued(client, webhook={"url": URL, "events": ["job.failed"], "secret": OTHER_SECRET})
    assert job["webhook"] == {"url": URL, "events": ["job.failed"]}
    assert client.get(job["links"]["self"]).get_json() == job
    assert fake.hget(f"rq:job:{job['id']}", "webhook_secret").decode() == OTHER_SECRET
    pages = ("/api/v1/jobs", job["links"]["self"], job["links"]["dashboard"], f"/dashboard/0/data/job/{job['id']}.json")
    answers = [client.get(path) for path in pages]
    assert {answer.status_code for answer in answers} == {200}
    shown = [answer.get_data(as_text=True) for answer in answers]
    shown += [str(Job.fetch(job["id"], connection=fake).to_dict()), repr(Webhook(URL, secret=OTHER_SECRET))]
    assert not [text for text in shown if OTHER_SECRET.removeprefix("whsec_") in text]


def test_every_event_is_told_unless_some_are_chosen(client: FlaskClient) -> None:
    assert enqueued(client, webhook={"url": URL})["webhook"]["events"] == list(JOB_EVENTS)
    assert enqueued(client)["webhook"] is None


def test_jobs_of_a_bulk_have_webhooks_of_their_own(client: FlaskClient, fake: fakeredis.FakeRedis) -> None:
    answer = client.post("/api/v1/jobs/bulk", json={"jobs": [{**CALL, "webhook": {"url": URL}}, CALL]})
    shown = [client.get(f"/api/v1/jobs/{one}").get_json()["webhook"] for one in answer.get_json()["ids"]]
    assert [one and one["url"] for one in shown] == [URL, None]


def test_the_most_specific_webhook_wins(fake: fakeredis.FakeRedis) -> None:
    client = client_on(fake, webhook_secret=SECRET, webhook_url="https://example.com/all")
    assert enqueued(client)["webhook"]["url"] == "https://example.com/all"
    functions = client.application.extensions["jobline"].catalog.refresh().functions

    @options.job(webhook=Webhook("https://example.com/function", secret=OTHER_SECRET))
    def add(a: int, b: int) -> int: ...

    functions["demo.add"] = Function("demo.add", add)
    job = enqueued(client)
    assert job["webhook"]["url"] == "https://example.com/function"
    assert fake.hget(f"rq:job:{job['id']}", "webhook_secret").decode() == OTHER_SECRET
    shown = client.get("/api/v1/functions/demo.add")
    assert shown.get_json()["options"]["webhook"] == {"url": "https://example.com/function", "events": list(JOB_EVENTS)}
    assert OTHER_SECRET not in shown.get_data(as_text=True)
    job = enqueued(client, webhook={"url": "https://example.com/job"})
    assert job["webhook"]["url"] == "https://example.com/job"
    assert fake.hget(f"rq:job:{job['id']}", "webhook_secret") is None


@pytest.mark.parametrize(
    ("webhook", "pointer"),
    [
        ({"url": "ftp://example.com/"}, "url"),
        ({"url": "https://user:word@example.com/"}, "url"),
        ({"url": "https://exa mple.com/"}, "url"),
        ({"url": "https://[::1/"}, "url"),
        ({"url": "https://example.com/\r\nX: y"}, "url"),
        ({"url": "https://example.com/" + "x" * 2000}, "url"),
        ({"url": "http://127.0.0.1/"}, "url"),
        ({"url": "http://[::1]:8000/"}, "url"),
        ({"url": "http://LocalHost./"}, "url"),
        ({"url": "http://169.254.169.254/latest"}, "url"),
        ({"events": ["job.finished"]}, "url"),
        ({"url": URL, "events": ["job.started"]}, "events/0"),
        ({"url": URL, "events": []}, "events"),
        ({"url": URL, "secret": "hunter2hunter2hunter2hunter2"}, "secret"),
        ({"url": URL, "method": "GET"}, "method"),
    ],
)
def test_a_bad_webhook_is_named_by_pointer_and_enqueues_nothing(
    client: FlaskClient, fake: fakeredis.FakeRedis, webhook: dict[str, Any], pointer: str
) -> None:
    for path, body, start in (
        ("/api/v1/jobs", {**CALL, "webhook": webhook}, "#/webhook"),
        ("/api/v1/jobs/bulk", {"jobs": [CALL, {**CALL, "webhook": webhook}]}, "#/jobs/1/webhook"),
    ):
        answer = client.post(path, json=body)
        assert answer.status_code == 422
        assert [error["pointer"] for error in answer.get_json()["errors"]] == [f"{start}/{pointer}"]
        assert "hunter2" not in answer.get_data(as_text=True)
    assert fake.keys() == []


def test_without_a_secret_anywhere_a_webhook_is_refused(fake: fakeredis.FakeRedis) -> None:
    client = client_on(fake)
    answer = client.post("/api/v1/jobs", json={**CALL, "webhook": {"url": URL}})
    assert answer.status_code == 422
    [error] = answer.get_json()["errors"]
    assert error["pointer"] == "#/webhook/secret"
    assert "unsigned" in error["detail"]
    assert fake.keys() == []
    enqueued(client, webhook={"url": URL, "secret": SECRET})


def test_private_hosts_are_reached_by_name(fake: fakeredis.FakeRedis) -> None:
    client = client_on(fake, webhook_secret=SECRET, webhook_allow_hosts="hooks.internal, 127.0.0.1, fd00::1, [fd00::2]")
    for host in ("127.0.0.1", "[fd00::1]", "[fd00::2]"):
        enqueued(client, webhook={"url": f"http://{host}:9000/hook"})
    refused = client.post("/api/v1/jobs", json={**CALL, "webhook": {"url": "http://[fd00::3]/hook"}})
    assert refused.status_code == 422


def test_disabled_urls_are_listed_and_enabled(client: FlaskClient, fake: fakeredis.FakeRedis) -> None:
    fake.zadd("jobline:webhooks:disabled", {URL: 4_000_000_000, "https://old.example/": 1})
    shown = client.get("/api/v1/webhooks/disabled").get_json()
    assert shown == {"disabled": [{"url": URL, "since": "2096-10-02T07:06:40Z"}]}
    for status in (204, 404):
        assert client.delete("/api/v1/webhooks/disabled", query_string={"url": URL}).status_code == status
    assert client.get("/api/v1/webhooks/disabled").get_json() == {"disabled": []}


def test_webhooks_are_delivered_by_default() -> None:
    assert get_settings().queue_names[-1] == "webhooks"

"""Web pages of other sites reach nothing: neither by a foreign Host, nor from a foreign origin."""

import pytest
import redis
from flask.testing import FlaskClient

from app.access import api_keys
from app.api.application import create_app
from app.settings import Settings

KEY, ENTRY = api_keys.new("ops", ["admin"])


def client(fake: redis.Redis, **settings: str) -> FlaskClient:
    return create_app(Settings(**settings), fake).test_client()


@pytest.mark.parametrize("path", ["/", "/livez", "/docs", "/dashboard/", "/api/v1/jobs", "/nowhere"])
def test_a_name_that_was_rebound_to_our_address_is_refused(fake: redis.Redis, path: str) -> None:
    answer = client(fake).get(path, headers={"Host": "evil.example:8000", "Origin": "http://evil.example:8000"})
    assert (answer.status_code, answer.content_type) == (421, "application/problem+json")


@pytest.mark.parametrize(
    ("settings", "hosts"),
    [
        ({}, ["localhost", "localhost:8000", "LOCALHOST:8000", "127.0.0.1:8000", "[::1]:8000"]),
        ({"host": "10.1.2.3", "api_keys": str(ENTRY)}, ["10.1.2.3:8000", "localhost:8000"]),
        ({"host": "0.0.0.0", "api_keys": str(ENTRY)}, ["10.1.2.3:8000", "[fe80::1]:8000"]),
        ({"allowed_hosts": "jobs.example.com, api"}, ["jobs.example.com", "Jobs.Example.Com:443", "api:8000"]),
        ({"allowed_hosts": "*"}, ["anything.example"]),
        ({"allowed_hosts": "jobs.example.com, *"}, ["jobs.example.com", "anything.example"]),
    ],
)
def test_the_service_answers_by_its_own_names(fake: redis.Redis, settings: dict[str, str], hosts: list[str]) -> None:
    answers = [client(fake, **settings).get("/livez", headers={"Host": host}) for host in hosts]
    assert [answer.status_code for answer in answers] == [200] * len(hosts)


@pytest.mark.parametrize(
    ("settings", "host"),
    [
        ({}, "10.1.2.3:8000"),
        ({}, "localhost.evil.example"),
        ({}, "evil.example@localhost:8000"),
        ({}, "[::1"),
        ({"host": "0.0.0.0", "api_keys": str(ENTRY)}, "evil.example:8000"),
        ({"allowed_hosts": "jobs.example.com"}, "evil.jobs.example.com"),
    ],
)
def test_and_by_no_other(fake: redis.Redis, settings: dict[str, str], host: str) -> None:
    assert client(fake, **settings).get("/livez", headers={"Host": host}).status_code == 421


UNSAFE = [
    ("POST", "/api/v1/queues/default/empty"),
    ("POST", "/api/v1/jobs"),
    ("PUT", "/api/v1/schedules/s"),
    ("PATCH", "/api/v1/jobs/a"),
    ("DELETE", "/api/v1/jobs/a"),
    ("POST", "/dashboard/job/a/delete"),
    ("POST", "/nowhere"),
]
FOREIGN = [
    {"Origin": "https://evil.example", "Sec-Fetch-Site": "cross-site"},
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "null"},
    {"Sec-Fetch-Site": "cross-site"},
    {"Sec-Fetch-Site": "same-site", "Origin": "http://localhost"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
@pytest.mark.parametrize(("method", "path"), UNSAFE)
def test_a_page_of_another_origin_changes_nothing(
    fake: redis.Redis, method: str, path: str, headers: dict[str, str]
) -> None:
    before = fake.dbsize()
    answer = client(fake).open(path, method=method, headers=headers, json={"function": "demo.add", "args": [1, 2]})
    assert (answer.status_code, answer.content_type, fake.dbsize()) == (403, "application/problem+json", before)


def test_a_browser_that_is_logged_in_is_no_tool_of_another_page(fake: redis.Redis) -> None:
    ours = client(fake, api_keys=str(ENTRY))
    answer = ours.post("/api/v1/queues/default/empty", auth=("", KEY), headers={"Origin": "https://evil.example"})
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "headers",
    [{}, {"Origin": "http://localhost", "Sec-Fetch-Site": "same-origin"}, {"Sec-Fetch-Site": "none"}],
    ids=str,
)
def test_programs_and_our_own_pages_may(fake: redis.Redis, headers: dict[str, str]) -> None:
    answer = client(fake).post("/api/v1/jobs", json={"function": "demo.add", "args": [1, 2]}, headers=headers)
    assert answer.status_code == 202

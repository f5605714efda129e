"""Callers who ask too much."""

import redis

from app.access import api_keys
from app.api.application import create_app
from app.settings import Settings


def test_each_caller_has_so_many_requests_and_is_told_how_many_are_left(fake: redis.Redis) -> None:
    pairs = [api_keys.new(name, ["read"]) for name in ("one", "two")]
    settings = Settings(api_keys=",".join(str(entry) for _, entry in pairs), request_limit="3/d")
    client = create_app(settings, fake).test_client()
    one, two = ({"Authorization": f"Bearer {key}"} for key, _ in pairs)
    answers = [client.get("/api/v1/queues", headers=one) for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["RateLimit"].split(";")[1] for answer in answers] == ["r=2", "r=1", "r=0", "r=0"]
    assert answers[0].headers["RateLimit-Policy"] == '"requests";q=3;w=86400'
    assert answers[3].content_type == "application/problem+json"
    assert 0 < int(answers[3].headers["Retry-After"]) <= 86_400
    assert client.get("/api/v1/queues", headers=two).status_code == 200
    assert client.get("/livez").status_code == 200


def test_without_a_limit_nothing_is_counted(fake: redis.Redis) -> None:
    answer = create_app(Settings(), fake).test_client().get("/api/v1/queues")
    assert "RateLimit" not in answer.headers
    assert fake.keys() == []

"""Each weakness is shown on the stock dashboard first, then that it is closed on ours."""

import pickle
import zlib
from base64 import b64encode
from pathlib import Path

import pytest

from app import errors

STATES = ("queued", "started", "failed", "finished", "deferred", "scheduled", "canceled")
PAGES = ["/", "/0/", "/0/view/queues", "/0/view/workers", "/0/view/jobs", "/favicon.ico"]
PAGES += [f"/0/view/jobs/default/{state}/8/asc/1" for state in STATES] + [f"/0/view/job/{state}" for state in STATES]
DATA = ["/0/data/queues.json", "/0/data/workers.json"]
DATA += [f"/0/data/jobs/default/{state}/8/{order}/1.json" for state in STATES for order in ("asc", "dsc")]
DATA += [f"/0/data/job/{state}.json" for state in STATES]
SAME = {"Origin": "http://localhost"}


class Touch:
    """A pickle that creates a file when it is read."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def get(client, path):
    """As a server answers: an exception is a 500."""
    client.application.config["PROPAGATE_EXCEPTIONS"] = False
    return client.get(f"/dashboard{path}", follow_redirects=True)


@pytest.mark.parametrize("path", PAGES + DATA)
def test_every_page_and_endpoint_answers(client, jobs, scopes, path):
    assert get(client, path).status_code == 200
    assert scopes == ["read"]


def test_lists_show_their_job(client, jobs):
    for state in STATES:
        rows = get(client, f"/0/data/jobs/default/{state}/8/asc/1.json").json["jobs"]
        assert [row["id"] for row in rows] == [state]
    assert get(client, "/0/data/job/deferred.json").json["depends_on_status"].count("expired") == 1


def test_running_job_on_the_workers_page(client, jobs):
    assert get(client, "/0/data/workers.json").json["workers"][0]["current_job"]["job_id"] == "started"


def test_stock_workers_page_fails_on_json(stock, jobs):
    assert get(stock, "/0/data/workers.json").status_code == 500


def poison(redis, target):
    bomb = pickle.dumps(Touch(target))
    redis.hset("rq:job:started", mapping={"meta": bomb, "data": zlib.compress(bomb), "result": bomb})
    redis.delete("rq:results:started")
    redis.xadd("rq:results:started", {"type": 1, "return_value": b64encode(bomb)})


@pytest.mark.parametrize(("registry", "status"), [("started", 409), ("queued", 200)])
def test_running_jobs_are_not_emptied(client, redis, registry, status):
    before = redis.zrange("rq:wip:default", 0, -1)
    headers = {"Origin": "http://localhost"}
    assert client.post(f"/dashboard/queue/default/{registry}/empty", headers=headers).status_code == status
    assert redis.zrange("rq:wip:default", 0, -1) == before


@pytest.mark.parametrize("path", ["/0/view/job/started", "/0/data/job/started.json", "/0/data/workers.json"])
def test_stock_runs_a_pickle(stock, jobs, redis, tmp_path, path):
    poison(redis, tmp_path / "ran")
    get(stock, path)
    assert (tmp_path / "ran").exists()


def test_nothing_is_unpickled(client, jobs, redis, tmp_path):
    poison(redis, tmp_path / "ran")
    assert {path: get(client, path).status_code for path in PAGES + DATA} == dict.fromkeys(PAGES + DATA, 200)
    statuses = {"/job/started/requeue": 409, "/job/started/delete": 409, "/requeue/default": 200}
    assert {path: client.post(f"/dashboard{path}", headers=SAME).status_code for path in statuses} == statuses
    assert not (tmp_path / "ran").exists()
    assert get(client, "/0/data/job/started.json").json["result"] is not None


def test_requeue_keeps_meta(client, jobs, redis):
    meta = redis.hget("rq:job:failed", "meta")
    assert client.post("/dashboard/job/failed/requeue", headers=SAME).json == {"status": "OK"}
    assert redis.hget("rq:job:failed", "meta") == meta
    assert redis.lrange("rq:queue:default", 0, -1) == [b"queued", b"failed"]


def test_stock_requeue_writes_a_pickle(stock, jobs, redis):
    stock.post("/dashboard/job/failed/requeue")
    assert redis.hget("rq:job:failed", "meta").startswith(b"\x80")


def test_stock_get_requeues(stock, jobs, redis):
    assert get(stock, "/requeue/default").status_code == 200
    assert redis.zcard("rq:failed:default") == 0


def test_get_changes_nothing(client, jobs, redis):
    redis.rpush("rq:queue:default", "gone")
    assert get(client, "/requeue/default").status_code == 405
    before = {key: redis.dump(key) for key in redis.scan_iter()}
    for path in PAGES + DATA:
        get(client, path)
    assert {key: redis.dump(key) for key in redis.scan_iter()} == before


POSTS = ["/requeue/default", "/job/failed/requeue", "/job/queued/delete", "/queue/default/compact"]
POSTS += [f"/queue/default/{registry}/empty" for registry in ("queued", "failed", "finished", "canceled")]


@pytest.mark.parametrize("path", POSTS)
def test_post_from_the_same_origin(client, jobs, scopes, path):
    assert client.post(f"/dashboard{path}", headers=SAME).json["status"] == "OK"
    assert client.post(f"/dashboard{path.replace('default', 'none')}", headers={"Origin": "null"}).status_code == 403
    assert scopes == ["admin"]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Origin": "null"},
        {"Origin": "http://evil.example"},
        {"Origin": "http://localhost:81"},
        {"Origin": "http://[bad"},
        {"Referer": "http://evil.example/localhost"},
        {"Authorization": "Bearer x"},
        {**SAME, "Sec-Fetch-Site": "cross-site"},
    ],
)
def test_foreign_post(client, jobs, redis, headers):
    assert client.post("/dashboard/requeue/default", headers=headers).status_code == 403
    assert redis.zcard("rq:failed:default") == 1


def test_stock_takes_a_foreign_post(stock, jobs):
    assert stock.post("/dashboard/job/queued/delete", headers={"Origin": "http://evil.example"}).status_code == 200


@pytest.mark.parametrize("path", ["/", "/0/data/job/queued.json", "/static/css/main.css", "/favicon.ico"])
def test_authorize_refuses(build, path):
    def refuse(scope):
        raise errors.Forbidden(scope)

    assert build(refuse).test_client().get(f"/dashboard{path}").status_code == 403


WRONG = {
    "/0/view/job/none": 404,
    "/0/data/job/none.json": 404,
    "/0/view/job/a b": 404,
    "/1/view/workers": 404,
    "/7/data/queues.json": 404,
    "/0/data/jobs/default/nonsense/8/asc/1.json": 404,
    "/0/data/jobs/default/failed/8/up/1.json": 404,
    "/0/data/jobs/default/failed/0/asc/1.json": 400,
    "/0/data/jobs/default/failed/8/asc/x.json": 400,
    "/0/data/jobs/default/failed/-8/asc/1.json": 400,
}


@pytest.mark.parametrize(("path", "status"), WRONG.items())
def test_wrong_addresses(client, jobs, path, status):
    assert get(client, path).status_code == status


@pytest.mark.parametrize("path", [p for p in WRONG if "none" in p or "nonsense" in p or "/0/asc" in p or "x.json" in p])
def test_stock_fails_on_wrong_addresses(stock, jobs, path):
    assert get(stock, path).status_code == 500


REGISTRY_KEYS = ("wip", "finished", "failed", "deferred", "scheduled", "canceled")
BROKEN = {
    "date": lambda r: r.hset("rq:job:queued", "created_at", "yesterday"),
    "status": lambda r: r.hset("rq:job:queued", "status", "odd"),
    "text": lambda r: r.hset("rq:job:queued", "description", b"\xff\xfe"),
    "number": lambda r: r.hset("rq:job:queued", "timeout", "soon"),
    "no hash": lambda r: (r.delete("rq:job:queued"), r.set("rq:job:queued", "x")),
    "worker": lambda r: r.hset("rq:worker:w", "pid", "x"),
    "job of the worker": lambda r: r.delete("rq:job:started"),
    "queue": lambda r: r.sadd("rq:queues", "nonsense"),
    "execution": lambda r: r.zadd("rq:wip:default", {"odd": 2**31}),
    "id in the queue": lambda r: r.rpush("rq:queue:default", b"\xff"),
    "ids in registries": lambda r: [r.zadd(f"rq:{name}:default", {b"\xff": 2**31}) for name in REGISTRY_KEYS],
}


@pytest.mark.parametrize("how", BROKEN)
def test_unreadable_data(client, jobs, redis, how):
    BROKEN[how](redis)
    paths = [p for p in PAGES + DATA if not ("job/started" in p and how == "job of the worker")]
    assert {p: get(client, p).status_code for p in paths} == dict.fromkeys(paths, 200)


@pytest.mark.parametrize("how", ["date", "status", "text", "no hash", "id in the queue"])
def test_stock_fails_on_unreadable_data(stock, jobs, redis, how):
    BROKEN[how](redis)
    assert get(stock, "/0/data/jobs/default/queued/8/asc/1.json").status_code == 500


def test_queue_name_is_no_script(client, jobs):
    path = "/0/view/jobs/');alert(1);('/queued/8/asc/1"
    assert "$(this).val('');alert(1)" not in get(client, path).text


def test_stock_queue_name_is_a_script(stock):
    assert "$(this).val('');alert(1)" in get(stock, "/0/view/jobs/');alert(1);('/queued/8/asc/1").text


def test_templates_escape_and_scripts_have_the_nonce(client, jobs):
    for path in set(PAGES) - {"/favicon.ico"}:
        answer = get(client, path)
        policy = answer.headers["Content-Security-Policy"]
        nonce = policy.partition("'nonce-")[2].partition("'")[0]
        assert len(nonce) > 16
        assert "<%=" not in answer.text
        assert answer.text.count("<script") == answer.text.count(f'<script nonce="{nonce}"')
        assert answer.headers["X-Frame-Options"] == "DENY"


def test_redis_url_is_not_shown(client, app, jobs):
    assert "redis://" not in get(client, "/").text


def test_connection_keeps_its_time_limit(client, jobs, redis):
    before = redis.connection_pool.connection_kwargs.get("socket_timeout")
    get(client, "/0/data/workers.json")
    assert redis.connection_pool.connection_kwargs.get("socket_timeout") == before

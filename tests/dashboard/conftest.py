"""Jobs in every state with markup in every field, and the dashboard: ours, and the stock one as a control."""

import fakeredis
import pytest
import rq
import rq.registry
from flask import Flask, request
from rq.job import JobStatus
from rq.results import Result
from rq.serializers import DefaultSerializer, JSONSerializer
from rq_dashboard import web

from app import errors
from app.access.origin import OriginCheck
from app.api import dashboard
from app.settings import Settings

MARKUP = '<img src=x onerror="window.pwned=1">'
STATES = ("queued", "started", "failed", "finished", "deferred", "scheduled", "canceled")


def work(*args):
    """What the jobs call; never called."""


@pytest.fixture
def redis():
    return fakeredis.FakeRedis()


@pytest.fixture
def scopes():
    return []


@pytest.fixture
def build(redis):
    """Ours, on an app that answers as the API's does."""

    def build(authorize):
        app = Flask("ours", static_folder=None)
        app.register_error_handler(errors.JoblineError, lambda error: (error.detail, error.status))
        check = OriginCheck(Settings()).check
        app.before_request(lambda: check(request.method, request.path, request.headers))
        dashboard.mount(app, redis, authorize)
        return app

    return build


@pytest.fixture
def app(build, scopes):
    return build(scopes.append)


@pytest.fixture
def client(app):
    return app.test_client()


@pytest.fixture
def stock_app(redis, monkeypatch):
    """The blueprint as it comes, except that it uses the fake connection."""
    for name, part in {
        "Job": rq.job.Job,
        "Queue": rq.Queue,
        "Worker": rq.Worker,
        "requeue_job": rq.job.requeue_job,
        "StartedJobRegistry": rq.registry.StartedJobRegistry,
    }.items():
        monkeypatch.setattr(web, name, part)
    monkeypatch.setattr(web.config, "serializer", DefaultSerializer)
    app = Flask("stock")
    app.config["RQ_DASHBOARD_REDIS_URL"] = ("redis://user:secret@localhost",)
    app.redis_conn = redis
    app.register_blueprint(web.blueprint, url_prefix="/dashboard")
    app.before_request_funcs["rq_dashboard"] = []
    return app


@pytest.fixture
def stock(stock_app):
    return stock_app.test_client()


@pytest.fixture
def jobs(redis):
    """One job in each state, of queue `default`; the worker `w` runs the started one."""
    queue = rq.Queue("default", connection=redis, serializer=JSONSerializer)
    found = {}
    for state in STATES:
        job = queue.enqueue(work, MARKUP, job_id=state, description=MARKUP, meta={"note": MARKUP})
        found[state] = job
        if state != "queued":
            queue.remove(job)
            job.set_status(JobStatus(state))
        if state in ("failed", "finished", "deferred", "scheduled", "canceled"):
            getattr(queue, f"{state}_job_registry").add(job, 1000)
    redis.zadd("rq:wip:default", {"started:1": 2**31})
    redis.sadd("rq:job::deferred:dependencies", "queued", "gone")
    Result.create_failure(found["failed"], 1000, f"Traceback\nValueError: {MARKUP}")
    Result.create(found["finished"], Result.Type.SUCCESSFUL, 1000, return_value={"html": MARKUP})
    redis.sadd("rq:workers", "rq:worker:w")
    redis.hset("rq:worker:w", mapping={"queues": "default", "state": "busy", "current_job": "started", "pid": 1})
    return found

"""In a real browser: markup in a job runs on the stock dashboard, and is text on ours."""

import pickle
import zlib
from contextlib import ExitStack

import pytest
from rq.results import Result
from rq.serializers import PickleSerializer
from selenium.webdriver.support.ui import WebDriverWait

from tests.browser import chromium, served

SHOWN = 'onerror="window.pwned=1"'
pytestmark = pytest.mark.needs("browser")
PAGES = ["job/failed", "job/finished", "workers", "jobs/default/queued/8/asc/1", "jobs/default/failed/8/asc/1"]


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    with chromium(tmp_path_factory.mktemp("profile")) as driver:
        yield driver


@pytest.fixture
def serve():
    with ExitStack() as stack:
        yield lambda app: f"http://127.0.0.1:{stack.enter_context(served(app))}/dashboard"


def shows(text):
    return lambda driver: text in driver.execute_script("return document.body.innerText")


@pytest.mark.parametrize("page", PAGES)
def test_markup_is_text(browser, serve, app, jobs, page):
    browser.get(f"{serve(app)}/0/view/{page}")
    WebDriverWait(browser, 10).until(shows(SHOWN if page != "workers" else "onerror="))
    assert browser.execute_script("return typeof window.pwned") == "undefined"
    assert browser.execute_script("return document.images.length") == 0
    if page.startswith("job/"):  # description, metadata, and the result or the exception
        assert browser.execute_script("return document.body.innerText").count("<img") == 3


@pytest.mark.parametrize("part", ["description", "meta", "result", "exception"])
def test_stock_runs_markup(browser, serve, stock_app, redis, jobs, part):
    job = jobs["finished"]
    redis.hset(job.key, "description", "x")
    redis.hdel(job.key, "meta")
    redis.delete(f"rq:results:{job.id}")
    markup = "<img src=x onerror=window.pwned=1>"
    if part == "exception":
        Result.create_failure(job, 1000, markup)
    elif part == "result":
        job.serializer = PickleSerializer
        Result.create(job, Result.Type.SUCCESSFUL, 1000, return_value=markup)
    elif part == "meta":
        redis.hset(job.key, "meta", pickle.dumps({"note": markup}))
    else:
        redis.hset(job.key, "description", markup)
    browser.get(f"{serve(stock_app)}/0/view/job/finished")
    WebDriverWait(browser, 10).until(lambda driver: driver.execute_script("return window.pwned") == 1)


def test_stock_runs_markup_on_the_workers_page(browser, serve, stock_app, redis, jobs):
    call = pickle.dumps(("work", None, ("<img src=x onerror=window.pwned=1>",), {}))
    redis.hset("rq:job:started", mapping={"description": "x", "data": zlib.compress(call)})
    browser.get(f"{serve(stock_app)}/0/view/workers")
    WebDriverWait(browser, 10).until(lambda driver: driver.execute_script("return window.pwned") == 1)


def test_markup_alone_is_stopped_by_the_policy(browser, serve, app, jobs):
    browser.get(f"{serve(app)}/0/view/job/finished")
    WebDriverWait(browser, 10).until(shows(SHOWN[:8]))
    browser.execute_script(
        "window.blocked = 0; document.addEventListener('securitypolicyviolation', () => { window.blocked++ });"
        "document.getElementById('job-data').innerHTML += '<img src=x onerror=\"window.pwned=1\">'"
    )
    WebDriverWait(browser, 10).until(lambda driver: driver.execute_script("return window.blocked") > 0)
    assert browser.execute_script("return typeof window.pwned") == "undefined"


def test_buttons_work(browser, serve, app, jobs, redis):
    browser.get(f"{serve(app)}/0/view/job/failed")
    WebDriverWait(browser, 10).until(lambda d: d.find_element("id", "requeue-job-btn").is_displayed())
    browser.find_element("id", "requeue-job-btn").click()
    WebDriverWait(browser, 10).until(lambda _: redis.hget("rq:job:failed", "status") == b"queued")

"""In a real browser: what a page of another origin, or a name that was rebound to our address, reaches here."""

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest
import redis
from selenium.webdriver.support.ui import WebDriverWait

from app.access import api_keys, origin
from app.api.application import create_app
from app.settings import Settings
from tests.browser import chromium, served
from tests.conftest import until

pytestmark = pytest.mark.needs("browser")

KEY, ENTRY = api_keys.new("ops", ["admin"])
FOREIGN, REBOUND = "evil.test", "rebound.test"
EMPTY = "/api/v1/queues/default/empty"
DELETE = "/dashboard/job/job/delete"
ENQUEUE = "/api/v1/jobs"
DOCUMENT = '{"function": "demo.add", "args": [1, 2], "description": "'
"""The beginning of a body that a form sends as text/plain: the rest is its value."""

FORM = """
const [action, name] = arguments;
document.body.innerHTML = '<form method="post"><input></form>';
const form = document.forms[0];
form.action = action;
if (name) {
    form.enctype = "text/plain";
    form.elements[0].name = name;
    form.elements[0].value = '"}';
}
form.submit();
"""
FETCH = """
const [url, options, done] = arguments;
fetch(url, {credentials: "include", ...options}).then(
    async answer => done({status: answer.status, type: answer.type, text: await answer.text()}),
    error => done({error: String(error)}));
"""
ADD = json.dumps({"function": "demo.add", "args": [1, 2]})
JSON_BODY = {"headers": {"Content-Type": "application/json"}, "body": ADD}


class Site:
    """The service in a browser's reach, and what has come there."""

    def __init__(self, application: Any) -> None:
        self.application, self.requests = application, list[dict[str, Any]]()
        self.port = 0
        self.has_keys = bool(application.extensions["jobline"].api_keys)

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        seen = {
            "method": environ["REQUEST_METHOD"], "path": environ["PATH_INFO"], "origin": environ.get("HTTP_ORIGIN"),
            "site": environ.get("HTTP_SEC_FETCH_SITE"), "key": "HTTP_AUTHORIZATION" in environ,
        }  # fmt: skip

        def start(status: str, headers: Any, error: Any = None) -> Any:
            self.requests.append({**seen, "status": int(status[:3])})
            return start_response(status, headers, error)

        return self.application(environ, start)

    def url(self, path: str, host: str = "127.0.0.1", user: str = "") -> str:
        return f"http://{user}{host}:{self.port}{path}"

    def came(self, path: str, method: str = "POST", status: int = 0) -> dict[str, Any]:
        """The last such request, once it is there."""
        such: list[dict[str, Any]] = until(
            lambda: [
                one
                for one in self.requests
                if (one["path"], one["method"]) == (path, method) and status in (0, one["status"])
            ]
        )
        return such[-1]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """Every name of these is at 127.0.0.1: a stranger's web server there, and ours, which has another port."""
    rules = f"host-resolver-rules=MAP {FOREIGN} 127.0.0.1,MAP {REBOUND} 127.0.0.1"
    with chromium(tmp_path_factory.mktemp("profile"), rules) as driver:
        yield driver


Serve = Callable[..., Site]


@pytest.fixture
def serve(fake: redis.Redis) -> Iterator[Serve]:
    with ExitStack() as stack:

        def start(keys: bool) -> Site:
            settings = Settings(api_keys=str(ENTRY)) if keys else Settings()
            site = Site(create_app(settings, fake, has_workers=False))
            site.port = stack.enter_context(served(site))
            body = {"function": "demo.add", "args": [1, 2], "id": "job"}
            client = site.application.test_client()
            assert client.post(ENQUEUE, json=body, auth=("", KEY) if keys else None).status_code == 202
            return site

        yield start


@pytest.fixture
def stranger() -> Iterator[str]:
    """A page of another origin."""

    def page(_: Any, start_response: Any) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/html")])
        return [b"<!doctype html><title>stranger</title><body></body>"]

    with served(page) as port:
        yield f"http://{FOREIGN}:{port}/"


def log_in(browser: Any, site: Site) -> None:
    browser.get(site.url("/dashboard/", user=f"anyone:{KEY}@"))
    assert site.came("/dashboard/", "GET", 200)["key"]


@pytest.fixture(params=[False, True], ids=["no keys", "logged in"])
def site(request: pytest.FixtureRequest, browser: Any, serve: Serve) -> Site:
    """With keys the browser has logged in by Basic, and sends the key with whatever goes there."""
    found = serve(keys=request.param)
    if request.param:
        log_in(browser, found)
    return found


def jobs(connection: redis.Redis) -> int:
    return len(connection.lrange("rq:queue:default", 0, -1))


FORMS = [(EMPTY, ""), (DELETE, ""), ("/dashboard/queue/default/queued/empty", ""), (ENQUEUE, DOCUMENT)]


def test_a_form_of_a_stranger_changes_nothing(browser: Any, stranger: str, site: Site, fake: redis.Redis) -> None:
    for path, name in FORMS:
        browser.get(stranger)
        browser.execute_script(FORM, site.url(path), name)
        came = site.came(path)
        assert (came["status"], came["origin"], came["site"]) == (403, stranger.rstrip("/"), "cross-site"), path
        if site.has_keys and path.startswith("/dashboard/"):
            assert came["key"]  # elsewhere the browser waits to be asked for it
    assert jobs(fake) == 1


def test_without_the_check_such_a_form_would_change_something(
    browser: Any, stranger: str, site: Site, fake: redis.Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The attack is a real one: the browser sends it, and with it the key."""
    monkeypatch.setattr(origin.OriginCheck, "check", lambda *_: None)
    unchecked = Site(create_app(Settings(api_keys=str(ENTRY)) if site.has_keys else Settings(), fake))
    with served(unchecked) as unchecked.port:
        if site.has_keys:
            log_in(browser, unchecked)
        browser.get(stranger)
        browser.execute_script(FORM, unchecked.url(EMPTY), "")
        until(lambda: jobs(fake) == 0)
        came = unchecked.came(EMPTY, status=200)
        assert came["key"] is site.has_keys


FETCHES = [
    ("POST", EMPTY, {"mode": "no-cors"}),
    ("POST", DELETE, {"mode": "no-cors"}),
    ("POST", ENQUEUE, {"mode": "no-cors", "body": ADD}),
    ("POST", EMPTY, {}),
    ("POST", DELETE, {}),
    ("POST", ENQUEUE, JSON_BODY),
    ("DELETE", "/api/v1/jobs/job", {}),
    ("PATCH", "/api/v1/jobs/job", {"body": '{"queue": "low"}'}),
    ("PUT", "/api/v1/schedules/s", JSON_BODY),
    ("GET", ENQUEUE, {}),
    ("GET", "/dashboard/0/data/queues.json", {}),
    ("GET", "/openapi.json", {"mode": "no-cors"}),
]


def test_a_script_of_a_stranger_changes_nothing_and_reads_nothing(
    browser: Any, stranger: str, site: Site, fake: redis.Redis
) -> None:
    browser.get(stranger)
    for method, path, options in FETCHES:
        answer = browser.execute_async_script(FETCH, site.url(path), {"method": method, **options})
        assert "error" in answer or (answer["type"], answer["text"]) == ("opaque", ""), (method, path)
        if options.get("mode") == "no-cors" and method == "POST":
            assert site.came(path)["status"] == 403
    unsafe = [one for one in site.requests if one["method"] not in ("GET", "HEAD", "OPTIONS")]
    assert unsafe
    assert all(one["status"] == 403 for one in unsafe)
    assert not any(one["status"] == 204 or one["method"] == "PUT" for one in site.requests)  # no preflight is allowed
    assert jobs(fake) == 1


def test_a_name_that_was_rebound_to_our_address_reaches_nothing(browser: Any, site: Site, fake: redis.Redis) -> None:
    """To the browser it is the page's own origin: only the Host tells."""
    browser.get(site.url("/", REBOUND, user=f"anyone:{KEY}@"))
    browser.get(site.url("/", REBOUND))
    for method, path, options in FETCHES:
        plain = {name: value for name, value in options.items() if name != "mode"}
        answer = browser.execute_async_script(FETCH, path, {"method": method, **plain})
        assert (answer["status"], "demo.add" in answer["text"]) == (421, False), (method, path)
    for path, name in FORMS:
        browser.get(site.url("/", REBOUND))
        browser.execute_script(FORM, path, name)
        assert site.came(path)["status"] == 421
    assert jobs(fake) == 1


def test_our_own_pages_work(browser: Any, site: Site, fake: redis.Redis) -> None:
    """The documentation after a login, its requests, and the buttons of the dashboard."""
    browser.get(site.url("/docs"))
    WebDriverWait(browser, 20).until(lambda driver: "/api/v1/functions/demo.add/jobs" in driver.page_source)
    answer = browser.execute_async_script(FETCH, ENQUEUE, {"method": "POST", **JSON_BODY})
    assert (answer["status"], json.loads(answer["text"])["function"]) == (202, "demo.add")
    browser.get(site.url("/dashboard/0/view/jobs"))
    assert browser.execute_async_script(FETCH, DELETE, {"method": "POST"})["status"] == 200
    assert fake.exists("rq:job:job") == 0


def test_the_documentation_asks_for_a_key(browser: Any, serve: Serve) -> None:
    """A browser that has none is asked at the page, and sends the key with what the page loads."""
    site = serve(keys=True)
    browser.get(site.url("/docs", user=f"anyone:{KEY}@"))
    WebDriverWait(browser, 20).until(lambda driver: "/api/v1/functions/demo.add/jobs" in driver.page_source)
    assert [one["status"] for one in site.requests if one["path"] == "/docs"] == [401, 302]
    assert site.came("/openapi.json", "GET", 200)["key"]

"""What changes is shown as it happens, by one event stream for all tabs, and an outage is survived."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from threading import Thread
from typing import Any

import fakeredis
import pytest
from werkzeug.serving import make_server

from app.redis.keys import job_key, log_key
from app.settings import Settings
from tests.console.conftest import ATTACK, SHOWN, Console, application, post, shown

pytestmark = pytest.mark.needs("browser")
SOON = 5.0  # seconds; without events a list is loaded every ten


class Counted:
    """A WSGI application that counts its requests by their path."""

    def __init__(self, inner: Any) -> None:
        self.inner, self.requests = inner, Counter[str]()

    def __call__(self, environ: dict[str, Any], start: Callable[..., Any]) -> Iterable[bytes]:
        self.requests[environ["PATH_INFO"]] += 1
        return self.inner(environ, start)  # type: ignore[no-any-return]


@pytest.fixture
def live(browser: Any) -> Iterator[Console]:
    with shown(browser, fakeredis.FakeRedis(), Settings()) as console:
        console.app.wsgi_app = Counted(console.app.wsgi_app)  # type: ignore[method-assign]
        yield console


def listeners(console: Console) -> int:
    return len(console.app.extensions["jobline"].events._listeners)


def new_job(console: Console) -> str:
    return str(post(console.api, "/jobs", {"function": "demo.add", "args": [1, 2]})["id"])


def test_an_empty_service_says_what_to_do(live: Console) -> None:
    for path in ("/", "/jobs", "/queues"):
        live.open(path)
        live.see("curl -s", "/api/v1/functions/demo.add/jobs")
    for path in ("/failures", "/schedules", "/workflows", "/webhooks", "/workers", "/audit", "/functions"):
        live.open(path)
        live.settled()
        assert live.violations() == [], path


def test_a_change_is_shown_at_once(live: Console) -> None:
    live.open("/jobs")
    live.see("There is no job yet")
    live.wait(lambda: live.find(".live").text == "live")
    begun = time.monotonic()
    job_id = new_job(live)
    live.see(job_id)
    live.driver.get(f"{live.address}/jobs/{job_id}")
    live.see("queued")
    live.wait(lambda: live.find(".live").text == "live")
    post(live.api, f"/jobs/{job_id}/cancel")
    live.see("canceled")
    assert time.monotonic() - begun < 2 * SOON


def test_all_tabs_share_a_stream_and_hidden_ones_hold_none(live: Console) -> None:
    driver = live.driver
    live.open("/jobs")
    live.wait(lambda: listeners(live) == 1)
    first = driver.current_window_handle
    driver.switch_to.new_window("window")
    try:
        live.open("/jobs")
        live.see("There is no job yet")
        job_id = new_job(live)
        live.see(job_id)
        assert listeners(live) == 1
        hide(driver)
        driver.switch_to.window(first)
        hide(driver)
        new_job(live)  # a stream notices that nobody reads it when it has something to tell
        live.wait(lambda: [new_job(live), listeners(live) == 0][1], 20)
    finally:
        for window in driver.window_handles:
            if window != first:
                driver.switch_to.window(window)
                driver.close()
        driver.switch_to.window(first)


def hide(driver: Any) -> None:
    """Tell the page that it is hidden; headless windows never are."""
    driver.execute_script(
        "Object.defineProperty(document, 'hidden', {value: true, configurable: true});"
        "document.dispatchEvent(new Event('visibilitychange'))"
    )


def test_a_flood_of_events_does_not_become_a_flood_of_requests(live: Console) -> None:
    live.open("/jobs")
    live.see("There is no job yet")
    live.wait(lambda: listeners(live) == 1)
    counted: Counted = live.app.wsgi_app  # type: ignore[assignment]
    before, begun = counted.requests["/api/v1/jobs"], time.monotonic()
    for _ in range(3):
        jobs = [{"function": "demo.add", "args": [number, 1]} for number in range(1000)]
        post(live.api, "/jobs/bulk", {"jobs": jobs})
    live.see("queued 3,000")
    asked = counted.requests["/api/v1/jobs"] - before
    assert asked <= time.monotonic() - begun + 2


def test_a_service_that_goes_away_and_comes_back(browser: Any) -> None:
    with application(fakeredis.FakeRedis(), Settings()) as app, ExitStack() as stack:
        server = serve(app, 0, stack)
        console = Console(browser, f"http://127.0.0.1:{server.port}", app)
        console.open("/queues")
        console.see("There is no queue yet")
        hub = app.extensions["jobline"].events
        server.shutdown()
        server.server_close()
        hub.closing = lambda: True
        console.see("The service does not answer")
        hub.closing = lambda: False
        post(console.api, "/jobs", {"function": "demo.add", "args": [1, 2]})
        serve(app, server.port, stack)
        console.wait(lambda: "does not answer" not in console.text, 40)
        console.see("default")
        browser.get("about:blank")


def serve(app: Any, port: int, stack: ExitStack) -> Any:
    server = make_server("127.0.0.1", port, app, threaded=True)
    thread = Thread(target=server.serve_forever, args=[0.05], daemon=True)
    thread.start()
    stack.callback(server.server_close)
    stack.callback(server.shutdown)
    return server


def test_the_log_of_a_job_grows(live: Console) -> None:
    job_id, redis = new_job(live), live.app.extensions["jobline"].redis
    redis.hset(job_key(job_id), "status", "started")
    write_log(redis, job_id, 1, f"one {ATTACK}", None)
    live.open(f"/jobs/{job_id}")
    live.see(f"one {SHOWN}")
    write_log(redis, job_id, 2, "two", "WARNING")
    live.see("two", "2 lines")
    assert live.violations() == []


def write_log(redis: Any, job_id: str, number: int, text: str, level: str | None) -> None:
    line = {"at": time.time(), "source": "stdout" if level is None else "jobs.demo", "level": level, "text": text}
    redis.xadd(log_key(job_id), {"attempt": 1, "number": number, "line": json.dumps(line)})

"""The console in a browser: an application with jobs in every state on a fake Redis, and a reader of it."""

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fakeredis
import pytest
from flask import Flask
from redis import Redis
from selenium.common.exceptions import ElementNotInteractableException, StaleElementReferenceException
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

from app.access import api_keys
from app.api.application import create_app
from app.settings import Settings
from app.testing import Jobs, run_jobs
from app.testing.service import CATALOG
from app.views import health
from tests.browser import chromium, served
from tests.conftest import until

AXE = Path(__file__).parent / "vendor" / "axe.js"
ATTACK = '<img src=x onerror="window.pwned=1">\x1b[31m'
SHOWN = '<img src=x onerror="window.pwned=1">\\x1b[31m'
BIG = 9007199254740993
NETWORK_ERROR = "Failed to load resource"
FLOW = {
    "name": "import",
    "jobs": [
        {"name": "fetch", "function": "demo.add", "args": [1, 2]},
        {"name": "parts", "function": "demo.add", "kwargs": {"b": 1}, "each": [], "after": ["fetch"]},
        {"name": "broken", "function": "demo.fail", "args": ["no"], "after": ["fetch"]},
        {"name": "sum", "function": "demo.add", "args": [3, 4], "after": ["parts"]},
    ],
}
RULE = {"function": "demo.add", "args": [1, 2], "cron": "15 */4 * * *"}


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with chromium(tmp_path_factory.mktemp("profile"), "window-size=1300,900") as driver:
        yield driver


@dataclass
class Scene:
    """The data of a service, and the ids of some of its jobs."""

    redis: Redis
    ids: dict[str, str] = field(default_factory=dict)


def fill(jobs: Jobs) -> dict[str, str]:
    """Make jobs in every state; the attack in every field that a caller can fill."""
    ids: dict[str, str] = {}
    tags = [ATTACK]

    def job(name: str, function: str, *args: Any, **options: Any) -> None:
        given = {"tags": tags, "description": ATTACK, **options}
        ids[name] = jobs.enqueue_with({**given}, function, *args).id

    jobs.answer_webhooks("https://example.com/gone", 410)
    job("finished", "demo.add", BIG, 2**63)
    job("failed", "demo.fail", ATTACK, webhook={"url": "https://example.com/hook"})
    job("gone", "demo.fail", "no", webhook={"url": "https://example.com/gone"})
    ids["workflow"] = post(jobs.client, "/workflows", with_parts(FLOW))["id"]
    jobs.run()
    job("retried", "demo.fail", ATTACK, retry={"max": 3, "intervals": [600]})
    jobs.run()
    job("scheduled", "demo.add", 1, 2, delay="2h")
    job("canceled", "demo.add", 3, 4, delay="1h")
    post(jobs.client, f"/jobs/{ids['canceled']}/cancel")
    assert jobs.client.put("/api/v1/schedules/often", json={**RULE, "cron": None, "interval": 60}).status_code == 201
    assert jobs.client.put("/api/v1/schedules/daily", json={**RULE, "description": ATTACK}).status_code == 201
    post(jobs.client, "/schedules/daily/trigger")
    jobs.run()
    job("queued", "demo.count", 3, queue="elsewhere")
    job("deferred", "demo.add", 1, 2, depends_on=[ids["queued"]])
    return ids


def with_parts(flow: dict[str, Any]) -> dict[str, Any]:
    return {**flow, "jobs": [{**node, "each": [1, 2, 3]} if "each" in node else node for node in flow["jobs"]]}


def post(client: Any, path: str, body: Any = None) -> Any:
    answer = client.post(f"/api/v1{path}", json=body)
    assert answer.status_code < 300, answer.text
    return answer.get_json()


@contextlib.contextmanager
def made() -> Iterator[Scene]:
    with run_jobs(settings={"WEBHOOK_SECRET": "whsec_b3duIHNlY3JldCBvZiBvbmUgd2ViaG9vaw=="}) as jobs:
        ids = fill(jobs)
        server = jobs.redis.connection_pool.connection_kwargs["server"]
    redis = fakeredis.FakeRedis(server=server)
    redis.sadd("rq:workers", "rq:worker:w")
    now = datetime.now(UTC).isoformat().replace("+00:00", "Z")
    about = {
        "queues": "default,webhooks",
        "state": "busy",
        "pid": 1,
        "hostname": "host",
        "birth": now,
        "last_heartbeat": now,
    }
    redis.hset("rq:worker:w", mapping={**about, "current_job": ids["queued"]})
    yield Scene(redis, ids)


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with made() as found:
        yield found


@contextlib.contextmanager
def application(redis: Redis, settings: Settings) -> Iterator[Flask]:
    """The application; no scheduler need lead, and its event streams end with it."""
    grace, health.START_GRACE_SECONDS = health.START_GRACE_SECONDS, 1e9
    app = create_app(settings, redis, CATALOG)
    try:
        yield app
    finally:
        health.START_GRACE_SECONDS = grace
        app.extensions["jobline"].events.closing = lambda: True


class Console:
    """The console as a reader has it. Whatever is awaited comes within a bound, or the test fails."""

    def __init__(self, driver: Any, address: str, app: Flask) -> None:
        self.driver, self.address, self.app = driver, address, app
        self.api = app.test_client()

    def open(self, path: str = "/") -> None:
        self.driver.get(self.address + path)
        self.wait(lambda: self.driver.execute_script("return !!document.querySelector('h1')"))

    def wait(self, condition: Any, seconds: float = 15) -> Any:
        try:
            return until(condition, seconds)
        except AssertionError:
            raise AssertionError(f"the page at {self.driver.current_url} shows:\n{self.text}") from None

    @property
    def text(self) -> str:
        return str(self.driver.execute_script("return document.body.innerText"))

    @property
    def title(self) -> str:
        return str(self.driver.execute_script("return document.querySelector('h1')?.innerText"))

    def see(self, *texts: str) -> None:
        for text in texts:
            self.wait(lambda text=text: text in self.text)

    def settled(self) -> None:
        """Wait until nothing is being loaded."""
        self.wait(
            lambda: (
                "Loading" not in self.text and self.driver.execute_script("return !!document.querySelector('main h1')")
            )
        )

    def find(self, css: str) -> WebElement:
        found = self.wait(lambda: self.driver.find_elements(By.CSS_SELECTOR, css))
        return found[0]

    def buttons(self) -> list[str]:
        return [
            button.text
            for button in self.driver.find_elements(By.CSS_SELECTOR, "main button:not(.sort)")
            if button.text
        ]

    def click(self, text: str, within: str = "body") -> None:
        """Click the first button, link or summary with this text."""
        script = """
            const [text, within] = arguments, root = [...document.querySelectorAll(within)].at(-1)
            const found = root && [...root.querySelectorAll('button, a, summary, label')].find(
                (one) => one.innerText.trim() === text && !one.disabled && one.offsetParent !== null)
            if (found) found.click()
            return !!found"""
        self.wait(lambda: self.driver.execute_script(script, text, within))

    def fill(self, label: str, text: str) -> None:
        """Type into the field with this label, in place of what is in it."""
        script = """
            const root = document.querySelector('dialog') ?? document
            const name = (one) => one.innerText.trim().split('\\n')[0].split(' *')[0]
            const fits = (one) => one.control && `${name(one)} `.startsWith(`${arguments[0]} `)
            return [...root.querySelectorAll('label')].find(fits)?.control"""
        self.wait(lambda: self._type(self.driver.execute_script(script, label), text))

    def _type(self, control: WebElement | None, text: str) -> bool:
        """Whether it could be done: the page may just be drawing the field anew."""
        if control is None:
            return False
        try:
            if control.tag_name == "select":
                choose = "const [list, value] = arguments; list.value = value;"
                choose += "list.dispatchEvent(new Event('change', {bubbles: true}))"
                self.driver.execute_script(choose, control, text)
            else:
                control.send_keys(Keys.CONTROL, "a")
                control.send_keys(text)
        except (StaleElementReferenceException, ElementNotInteractableException):
            return False
        return True

    def errors(self) -> list[str]:
        """What the browser has complained of since the last call, except about answers that are errors."""
        return [
            entry["message"]
            for entry in self.driver.get_log("browser")
            if entry["level"] == "SEVERE" and NETWORK_ERROR not in entry["message"]
        ]

    def violations(self) -> list[str]:
        """What axe finds."""
        self.driver.execute_script(AXE.read_text())
        found = self.driver.execute_async_script("axe.run().then((result) => arguments[0](result.violations))")
        nodes = [(one["id"], node) for one in found for node in one["nodes"]]
        return [f"{name}: {node['html'][:200]} {node['failureSummary']}" for name, node in nodes]

    def job(self, job_id: str) -> Any:
        return self.api.get(f"/api/v1/jobs/{job_id}").get_json()


@contextlib.contextmanager
def shown(driver: Any, redis: Redis, settings: Settings) -> Iterator[Console]:
    with application(redis, settings) as app, served(app) as port:
        yield Console(driver, f"http://127.0.0.1:{port}", app)
        driver.get("about:blank")


@pytest.fixture(scope="module")
def module_console(browser: Any, scene: Scene) -> Iterator[Console]:
    with shown(browser, scene.redis, Settings()) as console:
        yield console


@pytest.fixture
def console(module_console: Console) -> Iterator[Console]:
    module_console.driver.get_log("browser")
    yield module_console
    assert module_console.errors() == []


KEYS = {name: api_keys.new(name, name.split("-")) for name in ("read", "enqueue", "read-enqueue", "admin")}


@pytest.fixture(scope="module")
def secured(browser: Any, scene: Scene) -> Iterator[Console]:
    """The console of a service with keys."""
    entries = " ".join(str(entry) for _, entry in KEYS.values())
    with shown(browser, scene.redis, Settings(api_keys=entries)) as console:  # type: ignore[arg-type]
        yield console

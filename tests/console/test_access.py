"""Login by key: what a key may not do is not offered, and the key stays in the tab."""

from collections.abc import Iterator

import pytest

from app.redis.keys import AUDIT
from tests.console.conftest import KEYS, Console, Scene

pytestmark = pytest.mark.needs("browser")
PAGES = [
    "/",
    "/functions/demo.add",
    "/jobs",
    "/jobs?status=failed",
    "/jobs/{failed}",
    "/jobs/{queued}",
    "/jobs/{finished}",
    "/failures",
    "/queues",
    "/schedules",
    "/schedules/daily",
    "/workflows/{workflow}",
    "/webhooks",
]
VERBS = (
    "Requeue",
    "Cancel",
    "Delete",
    "Pause",
    "Resume",
    "Empty",
    "Replay",
    "Run",
    "New",
    "Enqueue",
    "Enable",
    "Change",
    "To the front",
    "Stop",
)


@pytest.fixture
def console(secured: Console) -> Iterator[Console]:
    secured.driver.get(f"{secured.address}/livez")
    secured.driver.execute_script("sessionStorage.clear()")
    secured.driver.get_log("browser")
    yield secured
    assert secured.errors() == []


def log_in(console: Console, name: str, path: str = "/jobs") -> None:
    console.open(path)
    console.see("API key")
    console.fill("API key", KEYS[name][0])
    console.click("Log in")


def offered(console: Console) -> list[str]:
    return [button for button in console.buttons() if button.startswith(VERBS)]


def test_the_key_is_asked_for_and_kept_in_the_tab_alone(console: Console) -> None:
    console.open("/queues")
    console.see("This service asks for an API key")
    assert console.violations() == []
    console.fill("API key", "wrong")
    console.click("Log in")
    console.see("This key is not known")
    console.fill("API key", KEYS["read"][0])
    console.click("Log in")
    console.wait(lambda: console.title == "Queues")
    console.see("elsewhere")
    console.open("/jobs")
    console.wait(lambda: console.title == "Jobs")
    for store in ("localStorage", "document.cookie", "location.href"):
        assert KEYS["read"][0] not in str(console.driver.execute_script(f"return JSON.stringify({store})"))
    console.click("Log out")
    console.see("This service asks for an API key")


def test_a_key_that_reads_is_offered_no_action(console: Console, scene: Scene) -> None:
    entries = scene.redis.xlen(AUDIT)
    log_in(console, "read")
    console.wait(lambda: console.title == "Jobs")
    for page in PAGES:
        console.open(page.format(**scene.ids))
        console.settled()
        assert offered(console) == [], page
        assert "Audit" not in console.find("nav").text
    assert scene.redis.xlen(AUDIT) == entries  # finding out what the key may do leaves no trace


def test_a_key_that_enqueues_is_offered_that(console: Console, scene: Scene) -> None:
    log_in(console, "read-enqueue", f"/jobs/{scene.ids['failed']}")
    console.see("Requeue with…")
    assert offered(console) == ["Requeue", "Requeue with…"]
    console.open("/queues")
    console.settled()
    assert offered(console) == []


def test_a_key_that_administers_is_offered_everything(console: Console, scene: Scene) -> None:
    log_in(console, "admin", f"/jobs/{scene.ids['failed']}")
    console.see("Delete…", "Audit")
    assert offered(console) == ["Requeue", "Requeue with…", "Delete…"]
    console.open("/audit")
    console.see("schedules.trigger")


def test_a_key_that_may_not_read_is_told_so(console: Console) -> None:
    log_in(console, "enqueue")
    console.see("the console needs the scope read")

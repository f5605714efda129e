"""Every page opens, complains of nothing, is accessible in light and dark and on a phone, and shows text as text."""

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.console.conftest import BIG, SHOWN, Console, Scene

pytestmark = pytest.mark.needs("browser")

PAGES = {
    "/": "Overview",
    "/functions": "Functions",
    "/functions/demo.add": "demo.add",
    "/jobs": "Jobs",
    "/failures": "Failures",
    "/queues": "Queues",
    "/workers": "Workers",
    "/workers/w": "w",
    "/schedules": "Schedules",
    "/schedules/daily": "daily",
    "/workflows": "Workflows",
    "/webhooks": "Webhooks",
    "/audit": "Audit",
    "/jobs/{failed}": "demo.fail",
    "/jobs/{finished}": "demo.add",
    "/jobs/{retried}": "demo.fail",
    "/jobs/{deferred}": "demo.add",
    "/workflows/{workflow}": "import",
}


@pytest.mark.parametrize("page", PAGES)
def test_a_page_opens_and_is_accessible(console: Console, scene: Scene, page: str) -> None:
    emulate = console.driver.execute_cdp_cmd
    for scheme in ("light", "dark"):
        emulate("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]})
        console.open(page.format(**scene.ids))
        console.wait(lambda: console.title == PAGES[page])
        console.settled()
        assert console.driver.execute_script("return document.documentElement.dataset.theme") == scheme
        assert console.violations() == [], scheme
    assert console.errors() == []
    assert console.driver.execute_script("return typeof window.pwned") == "undefined"
    assert console.driver.execute_script("return document.images.length") == 0


@pytest.mark.parametrize("page", PAGES)
def test_a_page_fits_a_phone(console: Console, scene: Scene, page: str) -> None:
    metrics = {"width": 375, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    console.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        console.open(page.format(**scene.ids))
        console.settled()
        assert console.driver.execute_script("return document.documentElement.scrollWidth") <= 375
    finally:
        console.driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("name", ["finished", "failed", "retried", "scheduled", "deferred"])
def test_what_a_caller_wrote_is_text(console: Console, scene: Scene, name: str) -> None:
    console.open(f"/jobs/{scene.ids[name]}")
    console.see(SHOWN)
    assert console.text.count(SHOWN) >= 2  # tag and description
    assert console.driver.execute_script("return typeof window.pwned") == "undefined"
    assert "\x1b" not in console.text


def test_a_job_names_its_deliveries(console: Console, scene: Scene) -> None:
    console.open(f"/jobs/{scene.ids['failed']}")
    console.see("Webhook deliveries", "204")


def test_markup_that_got_in_would_not_run(console: Console) -> None:
    console.open("/jobs")
    script = "try { document.body.innerHTML += '<img src=x>'; return '' } catch (error) { return error.name }"
    assert console.driver.execute_script(script) == "TypeError"
    console.driver.get_log("browser")


def test_big_integers_are_exact(console: Console, scene: Scene) -> None:
    console.open(f"/jobs/{scene.ids['finished']}")
    console.see(str(BIG), str(2**63), str(BIG + 2**63))
    console.open("/jobs?function=demo.add&status=finished")
    console.see(str(BIG))


def test_times_are_those_of_the_reader_and_the_title_has_utc(console: Console, scene: Scene) -> None:
    console.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "Asia/Kolkata"})
    try:
        console.open("/schedules/daily")
        console.see("Next runs")
        time = console.find("[aria-label='Next runs'] td time")
        assert time.get_attribute("title").endswith(":15:00 UTC")
        assert ":45:00" in time.text  # half an hour beside the full hours
    finally:
        console.driver.execute_cdp_cmd("Emulation.setTimezoneOverride", {"timezoneId": "UTC"})


def test_charts_have_their_figures_as_a_table(console: Console) -> None:
    console.open("/")
    console.see("Ended attempts per")
    assert console.driver.execute_script("return document.querySelectorAll('.plot canvas').length") == 3
    console.click("Figures")
    rows = console.wait(lambda: console.driver.find_elements(By.CSS_SELECTOR, ".figures tbody tr"))
    assert len(rows) >= 59


def test_the_graph_shows_each_node_and_its_state(console: Console, scene: Scene) -> None:
    console.open(f"/workflows/{scene.ids['workflow']}")
    console.see("parts \u00d7 3", "broken")
    nodes = console.driver.find_elements(By.CSS_SELECTOR, ".graph .node")
    assert sorted(node.text.split()[0] for node in nodes) == ["broken", "fetch", "parts", "sum"]
    assert len(console.driver.find_elements(By.CSS_SELECTOR, ".graph .edge")) == 3
    assert console.find(".graph .s-failed").text.split() == ["broken", "failed", "·", "demo.fail"]


def test_the_keyboard_goes_everywhere(console: Console) -> None:
    console.open("/")
    console.settled()
    body = console.find("body")
    body.send_keys("gq")
    console.wait(lambda: console.title == "Queues")
    console.find("body").send_keys("/")
    console.wait(lambda: console.driver.switch_to.active_element.get_attribute("data-search") is not None)
    assert console.title == "Jobs"
    console.driver.switch_to.active_element.send_keys(Keys.ESCAPE, Keys.TAB)
    console.find("h1").send_keys("?")
    console.see("Keyboard")
    assert console.violations() == []
    console.driver.switch_to.active_element.send_keys(Keys.ESCAPE)
    console.wait(lambda: "Keyboard" not in console.text)


def test_the_colours_can_be_chosen_and_are_kept(console: Console) -> None:
    console.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    console.open("/queues")
    before = console.driver.execute_script("return document.documentElement.dataset.theme")
    console.find(".sidebar button").click()
    console.open("/workers")
    assert console.driver.execute_script("return document.documentElement.dataset.theme") != before
    console.find(".sidebar button").click()


def test_what_is_not_there(console: Console) -> None:
    for path, text in {
        "/jobs/none": "There is no such job",
        "/workflows/none": "no such workflow",
        "/functions/no.such": "no such function",
    }.items():
        console.open(path)
        console.see(text)


def test_links_of_rows_lead_on(console: Console, scene: Scene) -> None:
    console.open("/")
    console.click("Queues", "nav")
    console.wait(lambda: console.title == "Queues")
    console.driver.back()
    console.wait(lambda: console.title == "Overview")


def test_what_is_wrong_now_is_said_with_a_link(console: Console) -> None:
    console.api.post("/api/v1/queues/elsewhere/pause")
    console.open("/")
    console.see("Wrong now", 'no worker takes jobs from queue "elsewhere"', "Queue elsewhere is paused; 1 wait")
    console.click("Queue elsewhere is paused; 1 wait")
    console.wait(lambda: console.title == "Queues")
    console.api.post("/api/v1/queues/elsewhere/resume")

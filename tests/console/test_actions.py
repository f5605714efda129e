"""What a reader may do works: one test for each action, by the buttons of its page."""

import json
import uuid
from typing import Any

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.console.conftest import BIG, Console, Scene, post

pytestmark = pytest.mark.needs("browser")


def jobs(console: Console, query: str) -> list[dict[str, Any]]:
    return list(console.api.get(f"/api/v1/jobs?{query}").get_json()["jobs"])


def new_job(console: Console, **options: Any) -> str:
    body = {"function": "demo.add", "args": [1, 2], "queue": "own", **options}
    return str(post(console.api, "/jobs", body)["id"])


def failed_job(console: Console, scene: Scene, *args: Any) -> str:
    """A job that can be requeued: canceled, so that no worker is needed."""
    job_id = new_job(console, args=list(args) or [1, 2])
    post(console.api, f"/jobs/{job_id}/cancel")
    return job_id


def status(console: Console, job_id: str) -> str:
    return str(console.job(job_id).get("status"))


def value(console: Console, label: str) -> str:
    return str(
        console.driver.execute_script(
            "return [...document.querySelectorAll('dialog label')].find(one => one.innerText.startsWith(arguments[0]))?"
            ".control.value",
            label,
        )
    )


def test_a_form_from_the_schema_enqueues_one_job_however_often_it_is_clicked(console: Console) -> None:
    tag = str(uuid.uuid4().int % 10**15)
    console.open("/functions/demo.add")
    console.see("Enqueue")
    console.fill("a", tag)
    assert not console.find(".form-foot button").is_enabled()
    console.fill("b", "x")
    console.see("must be an integer")
    console.fill("b", str(BIG))
    script = (
        "const button = document.querySelector('.form-foot button'); button.click(); button.click(); button.click()"
    )
    console.driver.execute_script(script)
    console.see("Enqueued as")
    [job] = jobs(console, f"function=demo.add&q={tag}")
    assert job["kwargs"] == {"a": int(tag), "b": BIG}
    console.click("Run once more")
    console.click("Enqueue", ".form-foot")
    console.wait(lambda: len(jobs(console, f"function=demo.add&q={tag}")) == 2)


def test_a_form_of_every_kind_of_field(console: Console) -> None:
    kwargs = {"table": "sales", "path": "out.csv", "columns": ["day"], "spreadsheet_safe": True}
    console.open("/functions/exports.dump_csv")
    console.see("Enqueue")
    console.fill("table", "sales")
    console.fill("path", "out.csv")
    console.click("set", "fieldset:first-of-type")
    console.click("Add to columns")
    console.fill("columns", "day")
    console.fill("spreadsheet_safe", "0")
    console.click("JSON", ".form-switch")
    text = console.find("textarea.mono").get_attribute("value")
    assert json.loads(text) == kwargs
    console.click("Fields", ".form-switch")
    console.click("Enqueue", ".form-foot")
    console.see("Enqueued as")
    [job] = jobs(console, "function=exports.dump_csv")
    assert job["kwargs"] == kwargs


def test_json_is_checked_as_one_types(console: Console) -> None:
    console.open("/functions/reports.sales")
    console.see("Enqueue")
    console.click("JSON", ".form-switch")
    console.fill("Arguments", '{"start": "2026-01-01", "end": "2026-13-01"}')
    console.see("is no date")
    assert not console.find(".form-foot button").is_enabled()
    console.fill("Arguments", '{"start": "2026-01-01"')
    console.see("is no JSON")


def test_enqueue_with_a_delay(console: Console) -> None:
    console.open("/functions/demo.sleep")
    console.see("Enqueue")
    console.fill("seconds", "0.5")
    console.click("Queue and delay")
    console.fill("Delay", "10m")
    console.click("Enqueue", ".form-foot")
    console.see("Enqueued as")
    [job] = jobs(console, "function=demo.sleep&status=scheduled")
    assert (job["kwargs"], job["waiting_for"]["reason"]) == ({"seconds": 0.5}, "delay")


def test_cancel_and_requeue(console: Console) -> None:
    job_id = new_job(console)
    console.open(f"/jobs/{job_id}")
    console.click("Cancel", ".actions")
    console.wait(lambda: status(console, job_id) == "canceled")
    console.click("Requeue", ".actions")
    console.wait(lambda: status(console, job_id) == "queued")
    console.see("To the front")


def test_requeue_with_other_arguments(console: Console, scene: Scene) -> None:
    job_id = failed_job(console, scene, BIG, 2)
    console.open(f"/jobs/{job_id}")
    console.click("Requeue with…")
    console.see("Requeue with other arguments")
    console.wait(lambda: value(console, "a") == str(BIG))
    console.fill("b", str(2**63 - 1))
    console.click("Requeue", "dialog")
    console.wait(lambda: status(console, job_id) == "queued")
    assert (console.job(job_id)["args"], console.job(job_id)["kwargs"]) == ([], {"a": BIG, "b": 2**63 - 1})
    console.see(str(2**63 - 1))


def test_delete_asks_first(console: Console) -> None:
    job_id = new_job(console)
    console.open(f"/jobs/{job_id}")
    console.click("Delete…")
    console.see("result and history are deleted")
    assert console.violations() == []
    console.click("Keep as it is")
    assert status(console, job_id) == "queued"
    console.click("Delete…")
    console.click("Delete", "dialog")
    console.wait(lambda: console.title == "Jobs")
    assert console.api.get(f"/api/v1/jobs/{job_id}").status_code == 404


def test_a_job_is_run_again_as_a_new_one(console: Console, scene: Scene) -> None:
    console.open(f"/jobs/{scene.ids['finished']}")
    console.click("Run again…")
    console.see("Run again as a new job")
    console.wait(lambda: value(console, "a") == str(BIG))
    console.click("Enqueue", "dialog")
    console.see("Enqueued as")


def test_bulk_counts_first(console: Console) -> None:
    tag = uuid.uuid4().hex
    ids = [new_job(console, tags=[tag]) for _ in range(5)]
    console.open(f"/jobs?tag={tag}")
    console.click("Cancel all…")
    console.see("5 jobs")
    assert {status(console, one) for one in ids} == {"queued"}
    console.click("Cancel 5", "dialog")
    console.wait(lambda: {status(console, one) for one in ids} == {"canceled"})
    console.find(".tabs a[href*='status=canceled']").click()
    console.click("Requeue all…")
    console.click("Requeue 5", "dialog")
    console.wait(lambda: {status(console, one) for one in ids} == {"queued"})
    console.find(".tabs a[href*='status=queued']").click()
    console.click("Delete all…")
    console.click("Delete 5", "dialog")
    console.wait(lambda: jobs(console, f"tag={tag}") == [])


def test_failures_are_replayed_by_group(console: Console, scene: Scene) -> None:
    console.open("/failures")
    console.see("RuntimeError", "demo.fail")
    before = len(jobs(console, "status=failed&function=demo.fail"))
    assert before > 0
    console.click("Replay…")
    console.see(f"{before} job")
    console.click(f"Requeue {before}", "dialog")
    console.wait(lambda: jobs(console, "status=failed&function=demo.fail") == [])


def test_a_queue_is_paused_resumed_and_emptied(console: Console) -> None:
    new_job(console, queue="to-empty")
    queue = lambda: console.api.get("/api/v1/queues/to-empty").get_json()  # noqa: E731
    row = "tr:has(a[href='/jobs?queue=to-empty'])"
    console.open("/queues")
    console.click("Pause", row)
    console.wait(lambda: queue()["paused"])
    console.click("Resume", row)
    console.wait(lambda: not queue()["paused"])
    console.click("Empty…", row)
    console.see("to confirm")
    assert not [one for one in console.driver.find_elements(By.CSS_SELECTOR, "dialog .danger") if one.is_enabled()]
    console.find("dialog input").send_keys("to-empty")
    console.click("Empty", "dialog")
    console.wait(lambda: queue()["counts"]["queued"] == 0)


def test_a_schedule_is_made_with_a_preview_changed_paused_triggered_and_deleted(console: Console) -> None:
    schedule = lambda: console.api.get("/api/v1/schedules/made").get_json()  # noqa: E731
    console.open("/schedules")
    console.click("New schedule…")
    console.fill("Name", "made")
    console.fill("Cron", "nonsense")
    console.see("no cron expression")
    console.fill("Cron", "0 2 * * mon-fri")
    console.see("At 02:00 AM, Monday through Friday")
    console.fill("Function", "demo.add")
    console.fill("a", "1")
    console.fill("b", str(BIG))
    assert console.violations() == []
    console.click("Make it", "dialog")
    console.wait(lambda: console.title == "made")
    assert (schedule()["cron"], schedule()["kwargs"]) == ("0 2 * * mon-fri", {"a": 1, "b": BIG})
    console.click("Change…")
    console.fill("Cron", "0 3 * * *")
    console.see("At 03:00 AM")
    console.click("Save", "dialog")
    console.wait(lambda: schedule()["cron"] == "0 3 * * *")
    assert schedule()["kwargs"] == {"a": 1, "b": BIG}
    console.click("Pause", ".actions")
    console.wait(lambda: schedule()["paused"])
    console.click("Resume", ".actions")
    console.wait(lambda: not schedule()["paused"])
    console.click("Run now", ".actions")
    console.see("A run was enqueued")
    assert schedule()["last_runs"][0]["status"] == "queued"
    console.click("Delete…", ".actions")
    console.click("Delete", "dialog")
    console.wait(lambda: console.api.get("/api/v1/schedules/made").status_code == 404)


def test_a_workflow_is_canceled(console: Console) -> None:
    flow = {"name": "long", "jobs": [{"name": "one", "function": "demo.add", "args": [1, 2], "queue": "own"}]}
    flow_id = post(console.api, "/workflows", flow)["id"]
    console.open(f"/workflows/{flow_id}")
    console.click("Cancel…")
    console.click("Cancel it", "dialog")
    console.wait(lambda: console.api.get(f"/api/v1/workflows/{flow_id}").get_json()["status"] == "canceled")


def test_a_disabled_url_is_enabled_again(console: Console) -> None:
    disabled = lambda: console.api.get("/api/v1/webhooks/disabled").get_json()["disabled"]  # noqa: E731
    assert disabled()
    console.open("/webhooks")
    console.see("https://example.com/gone", "job.failed")
    console.click("Enable")
    console.wait(lambda: not disabled())


def test_the_search_box_completes_and_its_url_is_a_link(console: Console) -> None:
    console.open("/jobs")
    console.settled()
    box = console.find("[data-search]")
    box.send_keys("sta")
    console.see("status:")
    box.send_keys(Keys.ARROW_DOWN, Keys.ENTER)
    box.send_keys("can", Keys.ARROW_DOWN, Keys.ENTER)
    console.wait(lambda: console.driver.current_url.endswith("/jobs?status=canceled"))
    box.send_keys("function:demo.a", Keys.ARROW_DOWN, Keys.ENTER)
    console.wait(lambda: "function=demo.add" in console.driver.current_url)
    box.send_keys('since:2h "1, 2"', Keys.ENTER)
    console.wait(lambda: "since=2h" in console.driver.current_url)
    address = console.driver.current_url
    console.driver.get(address)
    console.wait(
        lambda: (
            console.find("[data-search]").get_attribute("value") == "status:canceled function:demo.add since:2h 1, 2"
        )
    )


def test_a_thousand_jobs_are_paged(console: Console) -> None:
    tag = uuid.uuid4().hex
    body = {
        "jobs": [
            {"function": "demo.add", "args": [number, 1], "queue": "many", "tags": [tag]} for number in range(1000)
        ]
    }
    post(console.api, "/jobs/bulk", body)
    console.open("/jobs?queue=many&status=queued&limit=200")
    seen: set[str] = set()
    for _ in range(5):
        rows = console.wait(lambda seen=seen: (found := shown_ids(console)) and not seen & set(found) and found)
        assert len(rows) == 200
        seen = seen | set(rows)
        console.click("Older")
    assert len(seen) == 1000
    console.see("There are no older jobs")
    console.click("Newest")
    console.wait(lambda: "cursor" not in console.driver.current_url)


def test_a_page_may_be_empty_and_not_the_last(console: Console) -> None:
    jobs = [{"function": "demo.add", "args": [number, 1], "queue": "crowd"} for number in range(2500)]
    post(console.api, "/jobs/bulk", {"jobs": jobs})
    console.open("/jobs?queue=crowd&status=queued&tag=rare")
    console.see("No job matches among those that were read so far")
    console.click("Look further")
    console.see("There are no older jobs")


def shown_ids(console: Console) -> list[str]:
    script = "return [...document.querySelectorAll('td .sub a.mono')].map((one) => one.textContent)"
    return list(console.driver.execute_script(script))

"""Every command, option, setting, URL, file and module that the README names is there."""

import pytest

from tests.conftest import ROOT
from tests.readme import missing

README = (ROOT / "README.md").read_text()


def test_what_the_readme_names_is_there() -> None:
    assert missing(README) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("`jobline workers nope NAME`", "command workers nope NAME"),
        ("`python -m app probe nothing`", "command probe nothing"),
        ("`jobs nope`", "command jobs nope"),
        ("```sh\n.venv/bin/jobline jobs nope x\n```\n", "command jobs nope x"),
        ("| `queues`, `workers` | `list`, `pause` |", "command workers pause"),
        ("| `queues`, `workers` | `list`, `queues nope` |", "command queues nope"),
        ("| `jobs list` | takes `--nope` |", "option --nope"),
        ("| `schedules` | `put NAME --nope` |", "option schedules put NAME --nope"),
        ("`jobline jobs list --nope`", "option jobs list --nope"),
        ("with `--nope`", "option --nope"),
        ("`rq nope`", "command nope"),
        ("`rq worker --nope`", "option worker --nope"),
        ("`make nope`", "make nope"),
        ("`... nope`", "benchmark nope"),
        ("`FOO_LIMIT`", "setting FOO_LIMIT"),
        ("| `HOSTS`, `PORT` | none |", "setting HOSTS"),
        ("`LOG_LEVEL_FILE`", "setting LOG_LEVEL_FILE"),
        ("`GET /nope`", "URL GET /nope"),
        ("`DELETE /queues`", "URL DELETE /queues"),
        ("| `POST /queues/{name}/pause`, `.../nope` | |", "URL POST /queues/{name}/nope"),
        ("| `POST /jobs/requeue`, `/jobs/nope` | |", "URL POST /jobs/nope"),
        ("`/nope`", "URL /nope"),
        ("`/events?nope=...`", "parameter nope of /events?nope=..."),
        ("`curl http://127.0.0.1:8000/api/v1/nope`", "URL /api/v1/nope"),
        ("```http\nPOST /api/v1/nope\n```\n", "URL POST /api/v1/nope"),
        ("`app/nope.py`", "file app/nope.py"),
        ("`nope.py`", "file nope.py"),
        ("`app.worker.Nope`", "module app.worker.Nope"),
        ("`python -m nope`", "module nope"),
        ("[here](#nope)", "link #nope"),
        ("[here](docs/nope.md)", "link docs/nope.md"),
    ],
)
def test_a_name_that_is_made_up_is_noticed(text: str, said: str) -> None:
    assert said in missing(text)

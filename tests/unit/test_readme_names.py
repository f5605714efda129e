"""Every command, option, setting, URL, file, module and link that the README and docs/ name is there."""

import pytest

from tests.readme import missing, pages


@pytest.mark.parametrize("path", pages())
def test_what_a_page_names_is_there(path: str) -> None:
    assert missing(pages()[path], path) == []


def test_the_readme_is_short() -> None:
    assert len(pages()["README.md"].splitlines()) <= 200


def test_every_page_is_linked_from_the_readme() -> None:
    assert [path for path in pages() if path != "README.md" and f"]({path})" not in pages()["README.md"]] == []


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
        ("[here](docs/security.md#nope)", "link docs/security.md#nope"),
    ],
)
def test_a_name_that_is_made_up_is_noticed(text: str, said: str) -> None:
    assert said in missing(text)

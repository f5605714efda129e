"""docs/security.md: what it names is there, and its tables are those of the code."""

import re
from collections.abc import Iterator

import fakeredis
import pytest
from flask import Flask

from app.access import api_keys
from app.api.application import create_app
from app.catalog.catalog import Catalog
from app.settings import Settings
from app.testing import run_jobs
from tests.conftest import ROOT
from tests.contents import contents
from tests.readme import missing, spans

PAGE = (ROOT / "docs" / "security.md").read_text()
SCOPES = {"read", "metrics", "enqueue", "admin"}
OWN_SECRET = "whsec_b3duIHNlY3JldCBvZiBvbmUgd2ViaG9vaw=="
PASSWORDS = ("pw-of-smtp", "pw-of-database")


def rows(title: str) -> Iterator[list[str]]:
    """The cells of the table below a title."""
    section = PAGE.split(f"# {title}\n", 1)[1].split("\n#", 1)[0]
    for line in section.splitlines():
        if line.startswith("| ") and not line.startswith("|---"):
            yield [cell.strip() for cell in line.strip("|").split(" | ")]


def documented() -> dict[str, set[str]]:
    """The scopes that each route needs; names in braces are all the same."""
    found: dict[str, set[str]] = {}
    for scopes, routes in list(rows("Scopes"))[1:]:
        found |= {key: set(spans(scopes)) for key in spans(routes)}
    return found


def routes(app: Flask) -> Iterator[tuple[str, str]]:
    """Method and path of each, as the page has them."""
    for rule in app.url_map.iter_rules():
        if rule.rule.startswith("/api/v1/"):
            path = re.sub(r"<(?:\w+:)?(?:\w+_)?(\w+)>", r"{\1}", rule.rule.removeprefix("/api/v1"))
            yield from ((method, path) for method in (rule.methods or set()) - {"HEAD", "OPTIONS"})


def test_what_the_page_names_is_there() -> None:
    assert missing(PAGE, "docs/security.md") == []


def test_every_route_has_the_scope_that_the_page_says() -> None:
    made = {name: api_keys.new(name, name.split("-")) for name in ("read", "enqueue", "enqueue-read", "admin")}
    settings = Settings(api_keys=" ".join(str(entry) for _, entry in made.values()))  # type: ignore[arg-type]
    app = create_app(settings, fakeredis.FakeRedis())
    client, needs = app.test_client(), documented()
    assert {f"{method} {path}" for method, path in routes(app)} == set(needs)
    for method, path in routes(app):
        scopes, url = needs[f"{method} {path}"], f"/api/v1{path.replace('{', '').replace('}', '')}"
        for name, (key, _) in made.items():
            answer = client.open(url, method=method, headers={"Authorization": f"Bearer {key}"}, buffered=False)
            allowed = name == "admin" or scopes <= set(name.split("-"))
            if len(scopes) == 1 or name != "enqueue":
                assert (answer.status_code != 403) == allowed, (method, path, name)
            answer.close()
        assert client.open(url, method=method).status_code == 401


def test_every_function_that_comes_with_it_is_in_the_table() -> None:
    [*cells] = rows("What an enqueue key reaches through the functions that come with Jobline")
    named = [name for row in cells[1:] for name in spans(row[0])]
    assert sorted(named) == sorted(Catalog().refresh().functions)


def test_what_is_kept_in_redis_in_the_clear() -> None:
    key, entry = api_keys.new("ci", ["admin"])
    settings = {
        "API_KEYS": str(entry),
        "SMTP_URL": f"smtp://user:{PASSWORDS[0]}@localhost:1",
        "DATABASE_URL": f"postgresql://user:{PASSWORDS[1]}@localhost:1/none",
    }
    webhook = {"url": "https://example.com/own", "secret": OWN_SECRET}
    with run_jobs(settings=settings) as jobs:
        jobs.answer_webhooks("https://example.com/", 500)
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": "1"}
        body = {"function": "demo.add", "args": [1, 2], "webhook": webhook}
        assert jobs.client.post("/api/v1/jobs", json=body, headers=headers).status_code == 202
        jobs.enqueue_with({"webhook": {"url": "https://example.com/service"}}, "demo.fail", "a reason")
        jobs.run()
        kept = str(contents(jobs.redis))
        secret = jobs.settings.webhook_secret.get_secret_value()
    assert OWN_SECRET in kept
    for text in (key, entry.digest, secret, *PASSWORDS):
        assert text not in kept


@pytest.mark.parametrize("scope", sorted(SCOPES))
def test_each_scope_is_explained(scope: str) -> None:
    assert f"- **`{scope}`**" in PAGE

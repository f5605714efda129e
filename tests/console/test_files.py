"""The page and its files, without a browser: headers, caching, and what is vendored."""

import gzip
import hashlib
import json
import re
from pathlib import Path

import pytest
import redis
from flask.testing import FlaskClient

from app.api.application import create_app
from app.api.console.page import MODULES, STATIC, files
from app.settings import Settings

URLS = [
    "/",
    "/functions",
    "/functions/demo.add",
    "/jobs",
    "/jobs/an-id",
    "/failures",
    "/queues",
    "/workers",
    "/workers/w",
    "/schedules",
    "/schedules/daily",
    "/workflows",
    "/workflows/an-id",
    "/webhooks",
    "/audit",
]
VENDORS = [STATIC / "vendor", Path(__file__).parent / "vendor"]


@pytest.fixture
def client(fake: redis.Redis) -> FlaskClient:
    return create_app(Settings(), fake).test_client()


def base_of(html: str) -> str:
    found = re.search(r'src="(/console/[^/]+/)app\.js"', html)
    assert found
    return found[1]


@pytest.mark.parametrize("url", URLS)
def test_every_page_has_a_strict_policy_with_a_nonce_of_its_own(client: FlaskClient, url: str) -> None:
    first, second = client.get(url), client.get(url)
    policy = first.headers["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'; script-src 'nonce-")
    assert "unsafe" not in policy
    assert "require-trusted-types-for 'script'; trusted-types 'none'" in policy
    assert policy != second.headers["Content-Security-Policy"]
    assert first.headers["Cache-Control"] == "no-store"
    nonces = set(re.findall(r'nonce="([^"]+)"', first.text))
    assert len(nonces) == 1
    assert f"'nonce-{nonces.pop()}'" in policy


def test_nothing_in_the_page_comes_from_elsewhere_or_is_inline(client: FlaskClient) -> None:
    html = client.get("/").text
    assert "//" not in html
    assert not re.search(r"\bstyle=|<style|\son\w+=", html)
    inline = re.findall(r"<script([^>]*)>([^<]+)</script>", html)
    assert [attributes.split()[0] for attributes, _ in inline] == ['type="importmap"']


def test_every_module_of_the_import_map_is_there(client: FlaskClient) -> None:
    html = client.get("/").text
    imports = json.loads(re.findall(r"importmap[^>]*>(.*?)</script>", html)[0])["imports"]
    assert set(imports) == set(MODULES)
    for url in imports.values():
        assert client.get(url).status_code == 200


def test_every_file_is_kept_for_good_under_the_digest_of_all(client: FlaskClient) -> None:
    base = base_of(client.get("/").text)
    answer = client.get(f"{base}app.js")
    assert answer.headers["Content-Type"] == "text/javascript; charset=utf-8"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"
    assert "immutable" in answer.headers["Cache-Control"]
    again = client.get(f"{base}app.js", headers={"If-None-Match": answer.headers["ETag"]})
    assert (again.status_code, again.data) == (304, b"")
    assert client.get("/console/other/app.js").headers["Cache-Control"] == "no-cache"


def test_a_file_is_sent_compressed_to_who_takes_it(client: FlaskClient) -> None:
    url = f"{base_of(client.get('/').text)}app.js"
    plain, compressed = client.get(url), client.get(url, headers={"Accept-Encoding": "br, gzip"})
    assert (plain.headers.get("Content-Encoding"), compressed.headers["Content-Encoding"]) == (None, "gzip")
    assert gzip.decompress(compressed.data) == plain.data
    assert plain.headers["ETag"] != compressed.headers["ETag"]
    assert compressed.headers["Vary"] == "Accept-Encoding"


@pytest.mark.parametrize("path", ["../page.py", "..%2fpage.py", "nothing.js", "lib", "lib/", "vendor/%2e%2e/app.js"])
def test_nothing_else_is_served(client: FlaskClient, path: str) -> None:
    assert client.get(f"/console/x/{path}").status_code in (404, 308)


def test_only_reading_is_allowed(client: FlaskClient) -> None:
    assert client.post("/jobs").status_code == 405


@pytest.mark.parametrize("folder", VENDORS, ids=["console", "tests"])
def test_vendored_files_are_those_of_the_lock(folder: Path) -> None:
    lock = json.loads((folder / "lock.json").read_text())
    assert {path.name for path in folder.iterdir()} == {*lock, "lock.json"}
    for name, entry in lock.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == entry["sha256"], name
        assert re.fullmatch(r"\d+\.\d+\.\d+", entry["version"]), name
    packages = {entry["package"] for entry in lock.values()}
    licensed = {entry["package"] for name, entry in lock.items() if name.endswith(".LICENSE")}
    assert packages == licensed


def test_every_import_of_a_script_is_there() -> None:
    for path in STATIC.rglob("*.js"):
        if path.parent.name != "vendor":
            for target in re.findall(r"^import .*?from '([^']+)'", path.read_text(), re.MULTILINE):
                found = STATIC / MODULES[target] if target in MODULES else path.parent / target
                assert found.exists(), (path.name, target)


def test_no_script_makes_markup_of_text() -> None:
    markup = re.compile(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function", re.IGNORECASE)
    for path in STATIC.rglob("*.js"):
        if path.parent.name != "vendor":
            assert not markup.search(path.read_text()), path


def test_the_console_is_small() -> None:
    sizes = [file.compressed for file in files().by_path.values()]
    assert sum(map(len, sizes)) < 140_000

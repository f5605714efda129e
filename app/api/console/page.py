"""Serves the console: one page for all of its URLs, and the files that the page loads.

Invariants:
- the page holds no data: what it shows it asks of the API, with the key of the reader;
- only scripts with the page's nonce run, and no text becomes markup (Trusted Types allow none);
- nothing is loaded from elsewhere.

The path of a file has the digest of all files in it, so that browsers keep files for good and never mix two releases.
"""

import gzip
import hashlib
import json
import secrets
from functools import lru_cache
from html import escape
from pathlib import Path
from typing import NamedTuple, cast

from flask import Blueprint, Response, request
from werkzeug.exceptions import NotFound

STATIC = Path(__file__).parent / "static"
CONTENT_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".LICENSE": "text/plain; charset=utf-8",
    ".json": "application/json",
}
WITH_ENTRIES = ("/functions", "/jobs", "/workers", "/schedules", "/workflows")
"""Pages of a list that also have a page for each of its entries."""
PATHS = (
    "/",
    "/failures",
    "/queues",
    "/webhooks",
    "/audit",
    *WITH_ENTRIES,
    *(f"{one}/<string:_>" for one in WITH_ENTRIES),
)
MODULES = {
    "preact": "vendor/preact.js",
    "preact/hooks": "vendor/preact-hooks.js",
    "htm": "vendor/htm.js",
    "@preact/signals": "vendor/signals.js",
    "@preact/signals-core": "vendor/signals-core.js",
    "@dagrejs/dagre": "vendor/dagre.js",
}
"""Names under which scripts import vendored modules."""
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'nonce-{nonce}'; style-src 'self'; img-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'"
)
PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>Jobline</title>
<link rel="icon" href="{base}icon.svg">
<link rel="stylesheet" href="{base}vendor/uplot.css">
<link rel="stylesheet" href="{base}console.css">
<script type="importmap" nonce="{nonce}">{modules}</script>
<script defer src="{base}vendor/uplot.js" nonce="{nonce}"></script>
<script type="module" src="{base}app.js" nonce="{nonce}"></script>
</head>
<body>
<noscript>The console needs JavaScript. The <a href="/docs">API</a> does not.</noscript>
<div id="app"></div>
</body>
</html>
"""
FOR_GOOD = "public, max-age=31536000, immutable"

pages = Blueprint("console", __name__)


class File(NamedTuple):
    plain: bytes
    compressed: bytes
    """The same bytes, compressed with gzip."""
    digest: str


class Files(NamedTuple):
    """The files below `static`, by their path, and a digest of all of them."""

    by_path: dict[str, File]
    digest: str


def files() -> Files:
    """The files as they are now: read again only when one has changed, as under `make run`."""
    paths = sorted(path for path in STATIC.rglob("*") if path.is_file())
    return _read(tuple((path, path.stat().st_mtime_ns) for path in paths))


@lru_cache(1)
def _read(paths: tuple[tuple[Path, int], ...]) -> Files:
    contents = {path.relative_to(STATIC).as_posix(): path.read_bytes() for path, _ in paths}
    by_path = {
        name: File(content, gzip.compress(content, mtime=0), hashlib.sha256(content).hexdigest())
        for name, content in contents.items()
    }
    digest = hashlib.sha256("\n".join(f"{file.digest} {name}" for name, file in by_path.items()).encode())
    return Files(by_path, digest.hexdigest()[:16])


def page(_: str = "") -> Response:
    """The page, whatever its URL: the scripts read that."""
    nonce = secrets.token_urlsafe(16)
    base = f"/console/{files().digest}/"
    modules = json.dumps({"imports": {name: base + path for name, path in MODULES.items()}})
    html = PAGE.format(nonce=escape(nonce), base=base, modules=modules)
    response = Response(html, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = CONTENT_SECURITY_POLICY.format(nonce=nonce)
    response.headers["X-Frame-Options"] = "DENY"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin"
    return response


@pages.get("/console/<string:digest>/<path:name>")
def static_file(digest: str, name: str) -> Response:
    """A file of the console. Raises NotFound."""
    found = files()
    content = found.by_path.get(name)
    content_type = CONTENT_TYPES.get(Path(name).suffix)
    if content is None or content_type is None:
        raise NotFound
    is_compressed = "gzip" in request.accept_encodings
    response = Response(content.compressed if is_compressed else content.plain, content_type=content_type)
    response.vary.add("Accept-Encoding")
    if is_compressed:
        response.headers["Content-Encoding"] = "gzip"
    # another digest: a page of another release, in the middle of an update
    response.headers["Cache-Control"] = FOR_GOOD if digest == found.digest else "no-cache"
    response.set_etag(f"{content.digest[:32]}{'-gzip' if is_compressed else ''}")
    return cast(Response, response.make_conditional(request))


for path in PATHS:
    pages.add_url_rule(path, "page", page)

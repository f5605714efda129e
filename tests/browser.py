"""A real browser, and a web server on a port of its own for the application that it looks at."""

import shutil
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from werkzeug.serving import make_server

FLAGS = "headless=new no-sandbox disable-gpu disable-background-networking disable-component-update disable-sync"


@contextmanager
def chromium(profile: Path, *flags: str) -> Iterator[Any]:
    """A WebDriver of Chromium with this profile folder, until the end of the block."""
    from selenium import webdriver
    from selenium.webdriver.chrome.service import Service

    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium") or ""
    for flag in [*FLAGS.split(), "no-first-run", f"user-data-dir={profile}", *flags]:
        options.add_argument(f"--{flag}")
    driver = webdriver.Chrome(options=options, service=Service(shutil.which("chromedriver")))
    try:
        yield driver
    finally:
        driver.quit()


@contextmanager
def served(application: Any) -> Iterator[int]:
    """The port on which a WSGI application is served, until the end of the block."""
    server = make_server("127.0.0.1", 0, application, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=[0.05])
    thread.start()
    try:
        yield server.port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()

"""Pytest hooks: tests that need what is missing, such as a program, are not run, and are counted in a closing line."""

import functools
import shutil
import signal
import subprocess
import tempfile
from collections import Counter
from collections.abc import Generator, Iterator

import pytest

PROGRAMS = {
    "browser": ("chromium", "chromedriver"),
    "wrk": ("wrk",),
    "nginx": ("nginx",),
    "faketime": ("faketime",),
    "prometheus": ("prometheus", "promtool"),
}
"""What a test that is marked `needs(what)` needs on PATH."""
PACKAGES = {
    "browser": "chromium and chromium-driver",
    "wrk": "wrk",
    "nginx": "nginx-light",
    "faketime": "faketime",
    "prometheus": "prometheus",
}
"""Debian's names of the packages with these programs."""
SLOWEST_FIRST = ("rq_suite", "e2e", "api", "console", "dashboard", "jobs")
"""Folders of tests, so that the processes of a parallel run end at about the same time."""


@functools.cache
def mounts_tmpfs() -> bool:
    """Whether this process may mount a file system of a size of its own."""
    if not shutil.which("mount"):
        return False
    with tempfile.TemporaryDirectory() as folder:
        if subprocess.run(["mount", "-t", "tmpfs", "tmpfs", folder], capture_output=True).returncode:
            return False
        subprocess.run(["umount", folder], check=True)
    return True


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--run-all", action="store_true", help="fail if any test was not run for want of a program")


def pytest_configure() -> None:
    # A shell has its background jobs ignore SIGINT, and the processes that tests start would inherit that.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if marker := metafunc.definition.get_closest_marker("concurrency"):
        metafunc.parametrize("concurrency", marker.args, indirect=True, ids=lambda number: f"concurrency {number}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items[:] = sorted((item for item in items if not _is_left_out(item)), key=_order)


def pytest_runtest_setup(item: pytest.Item) -> None:
    for marker in item.iter_markers("needs"):
        what = marker.args[0]
        if what == "tmpfs":
            if not mounts_tmpfs():
                pytest.skip("tmpfs: run as root, where file systems may be mounted")
        elif not all(map(shutil.which, PROGRAMS[what])):
            pytest.skip(f"{what}: install {PACKAGES[what]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """What a test has logged must go from process to process: it may have half a character in it."""
    report = yield
    report.sections = [(name, text.encode(errors="replace").decode()) for name, text in report.sections]
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for reason, count in sorted(_not_run(terminalreporter).items()):
        what, _, install = reason.partition(": ")
        terminalreporter.write_line(f"{count} {what} tests were not run: {install}", yellow=True)


@pytest.hookimpl(wrapper=True)
def pytest_sessionfinish(session: pytest.Session) -> Iterator[None]:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if session.config.getoption("--run-all") and reporter and not session.exitstatus and _lacks_a_program(reporter):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED
    yield


def _lacks_a_program(reporter: pytest.TerminalReporter) -> bool:
    """A container may forbid mounts, and no installation would help."""
    return any(not reason.startswith("tmpfs: ") for reason in _not_run(reporter))


def _not_run(reporter: pytest.TerminalReporter) -> Counter[str]:
    """How many tests were skipped, by the reason."""
    return Counter(report.longrepr[2].removeprefix("Skipped: ") for report in reporter.stats.get("skipped", []))


def _is_left_out(item: pytest.Item) -> bool:
    """Whether it is the run with many jobs at once of a test that is marked `one_at_a_time`."""
    if not item.get_closest_marker("one_at_a_time"):
        return False
    assert isinstance(item, pytest.Function)
    return int(item.callspec.params["concurrency"]) > 1


def _order(item: pytest.Item) -> int:
    folder = item.path.parent.name
    return SLOWEST_FIRST.index(folder) if folder in SLOWEST_FIRST else len(SLOWEST_FIRST)

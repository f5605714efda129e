"""Pytest plugin with the fixture `jobs`: `pytest_plugins = ["app.testing.fixtures"]` in the top conftest.py.

The fixture is the object that `run_jobs()` yields. A marker sets the arguments of `run_jobs`, if a test needs any:
`@pytest.mark.run_jobs(settings={"RESULT_TTL": 60})`.
"""

from collections.abc import Iterator

import pytest

from app.testing import Jobs, run_jobs


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "run_jobs(at, schedules, settings, allow_hosts, context): arguments of the fixture jobs"
    )


@pytest.fixture
def jobs(request: pytest.FixtureRequest) -> Iterator[Jobs]:
    """Run jobs in this process: the object that `app.testing.run_jobs` yields."""
    marker = request.node.get_closest_marker("run_jobs")
    with run_jobs(*marker.args, **marker.kwargs) if marker else run_jobs() as jobs:
        yield jobs

"""A plugin of pytest: `pytest_plugins = ["app.testing.fixtures"]` in the conftest.py at the top of the project.

`@pytest.mark.run_jobs(settings={"RESULT_TTL": 60})` gives the fixture `jobs` what `run_jobs` takes.
"""

from collections.abc import Iterator

import pytest

from app.testing import Jobs, run_jobs


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "run_jobs(at, schedules, settings, allow_hosts): arguments of the fixture jobs")


@pytest.fixture
def jobs(request: pytest.FixtureRequest) -> Iterator[Jobs]:
    """Runs jobs in this process: what `app.testing.run_jobs` gives."""
    marker = request.node.get_closest_marker("run_jobs")
    with run_jobs(*marker.args, **marker.kwargs) if marker else run_jobs() as found:
        yield found

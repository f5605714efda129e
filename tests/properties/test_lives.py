"""Whatever happens to jobs in whatever order: each is in one place, and nothing waits for what has happened."""

import redis
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test

from tests.properties.machine import Lives

EXAMPLES, STEPS = 25, 50


def test_lives_of_jobs_in_random_order(valkey: redis.Redis) -> None:
    machine = type("Lives", (Lives,), {"connection": valkey})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, derandomize=True, database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )  # fmt: skip

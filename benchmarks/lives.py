"""lives: random steps in the lives of jobs beside a model of them (tests/properties), compared after each step."""

import logging
import sys
import time

import structlog

from benchmarks.lab import Lab
from benchmarks.report import Column
from benchmarks.workers import Worker

ROWS = (Worker("jobline", "jobline", ()),)
TITLE = "Lives: random steps of callers, workers and the scheduler, each compared with a model"
COLUMNS = (
    Column("steps", "steps"),
    Column("seed", "seed"),
    Column("transitions of a job", "transitions"),
    Column("seconds", "seconds"),
    Column("wrong", "wrong"),
)
EACH_ROUND = False


def measure(lab: Lab, case: Worker) -> dict[str, object]:  # noqa: ARG001 - there is one
    from tests.properties import machine, transitions  # hypothesis is loaded for this benchmark alone

    logging.disable(logging.CRITICAL)
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    lab.server.empty()
    transitions.seen.clear()
    begin = time.monotonic()
    steps, problem = machine.run(lab.server.client, lab.sizes.lives_steps, lab.seed)
    print(problem, file=sys.stderr)
    return {
        "steps": steps,
        "seed": lab.seed,
        "transitions": transitions.seen.total(),
        "seconds": round(time.monotonic() - begin, 1),
        "wrong": 0 if problem in ("", "interrupted") else problem.partition("\n")[0],
    }

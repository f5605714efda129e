"""Processes that tests fork from a preloaded one (tests/preloaded.py) behave as those that Python starts."""

import os
import signal
import subprocess
import sys

import psutil
import pytest

from tests.conftest import RQ_WORKER, Project, until


@pytest.mark.parametrize(
    "words",
    [
        ("-m", "rq.cli", "worker", "--no-such-option"),
        ("-m", "rq.cli", "--help"),
        ("-m", "app.api.server"),
        ("-m", "scheduler"),
        ("scheduler.py",),
    ],
    ids=" ".join,
)
def test_it_prints_and_ends_as_a_plain_start_does(project: Project, words: tuple[str, ...]) -> None:
    forked = project.start(*words, REDIS_URL="nonsense://", PORT="0")
    printed, _ = forked.communicate(timeout=30)
    env = {**os.environ, "REDIS_URL": "nonsense://", "PORT": "0", "DATA_DIR": str(project.folder / "data")}
    plain = subprocess.run(
        [sys.executable, *words], cwd=project.folder, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert forked.returncode == plain.returncode
    assert printed.splitlines()[-1:] == plain.stdout.splitlines()[-1:]


def test_it_leads_a_session_of_its_own_and_takes_signals(project: Project) -> None:
    worker = project.start(*RQ_WORKER)
    until(lambda: psutil.Process(worker.pid).children())
    assert os.getsid(worker.pid) == os.getpgid(worker.pid) == worker.pid
    assert psutil.Process(worker.pid).cwd() == str(project.folder)
    assert worker.poll() is None
    with pytest.raises(subprocess.TimeoutExpired):
        worker.wait(0.01)
    worker.kill()
    assert worker.wait(10) == -signal.SIGKILL
    worker.terminate()  # nobody is there any more
    assert worker.poll() == -signal.SIGKILL

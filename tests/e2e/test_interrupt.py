"""Ctrl-C ends every command with 130, at whatever moment it comes."""

import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.conftest import ROOT

COMMAND = """
import signal, socket, threading, time

import click

from app.cli.command import Command


class Swallows:
    def __del__(self) -> None:
        signal.raise_signal(signal.SIGINT)  # what is raised here is printed and dropped


def late() -> None:
    # the signal is noted, and nobody is woken up: as when it comes just before the main thread begins to read
    signal.pthread_kill(threading.get_ident(), signal.SIGINT)


@click.command(cls=Command)
@click.pass_obj
def command(api) -> None:
    {body}


command()
"""


def run(*words: str, **environment: str) -> subprocess.Popen[str]:
    """With the usual handler of SIGINT, whatever the tests were started with; it is killed after 20 seconds."""
    process = subprocess.Popen(
        [sys.executable, *words],
        cwd=ROOT,
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    killer = threading.Timer(20, process.kill)
    killer.daemon = True
    killer.start()
    return process


@pytest.mark.parametrize(
    "body",
    [
        "Swallows(); time.sleep(60)",
        "pair = socket.socketpair(); threading.Timer(0.2, late).start(); pair[0].recv(1)",
        "threading.Timer(0.2, late).start(); threading.Event().wait()",
    ],
    ids=["in a destructor", "before a read", "before a wait"],
)
def test_one_that_python_loses_is_repeated(body: str) -> None:
    process = run("-c", COMMAND.format(body=body))
    process.communicate()
    assert process.returncode == 130


def test_a_command_that_swallows_every_one_is_ended() -> None:
    body = """
    threading.Timer(0.2, late).start()
    while True:
        try:
            time.sleep(60)
        except KeyboardInterrupt:
            print("again", flush=True)
    """
    process = run("-c", COMMAND.format(body=body))
    output, _ = process.communicate()
    assert process.returncode == 130
    assert output.splitlines() == ["again"] * 4


@pytest.mark.parametrize("body", ["time.sleep(60)", "Slow()"], ids=["in a module", "in a destructor"])
def test_while_the_program_loads_it_ends_without_a_word(tmp_path: Path, body: str) -> None:
    (tmp_path / "click.py").write_text(f"""
import time
class Slow:
    def __del__(self):
        time.sleep(60)
print("loading", flush=True)
{body}
time.sleep(60)
""")
    process = run("-P", str(ROOT / "app/__main__.py"), "jobs", "list", PYTHONPATH=f"{tmp_path}:{ROOT}")
    assert process.stdout
    assert process.stdout.readline() == "loading\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate() == ("", "")
    assert process.returncode == 130


def test_a_background_job_of_a_shell_goes_on_ignoring_it() -> None:
    body = "signal.raise_signal(signal.SIGINT); print('goes on')"
    code = f"import signal; signal.signal(signal.SIGINT, signal.SIG_IGN)\n{COMMAND.format(body=body)}"
    process = run("-c", code)
    assert process.communicate()[0] == "goes on\n"
    assert process.returncode == 0

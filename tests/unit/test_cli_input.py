"""What is typed to `jobline` follows the rules of the API, and nothing that a job says acts on the terminal."""

from typing import Any

import click
import pytest

from app.cli import arguments, output
from app.cli.client import ApiResponse, Client, CommandFailed
from app.cli.command import Api
from app.cli.job_views import print_job
from tests.receiver import Receiver

EVIL = "a\x1b[2J\r\x9b31m\u202e\x07b"


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("[18446744073709551616]", "18446744073709551616 does not fit 64 bits"),
        ('[{"a": 1, "a": 2}]', "the name 'a' twice"),
        ("[" * 70 + "]" * 70, "nested more than 64 deep"),
        ("[NaN]", "is no JSON"),
        ("[1", "is no JSON"),
        ('["\udcff"]', "is no JSON"),
    ],
)
def test_json_is_that_of_the_api(text: str, why: str) -> None:
    with pytest.raises(click.UsageError, match=why):
        arguments.parse_call((), text, None)
    with pytest.raises(click.UsageError, match=why):
        arguments.parse_pairs([f"x:={text}"])


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999"])
def test_a_number_that_json_does_not_know_is_left_to_the_api_to_refuse(text: str) -> None:
    assert arguments.seconds_or_duration(text) == text


def job(**said: Any) -> dict[str, Any]:
    error = {"type": EVIL, "message": EVIL, "traceback": f"line\n{EVIL}"}
    named = ("id", "function", "queue", "description", "worker", "created_at")
    return {
        **dict.fromkeys(named, EVIL),
        "status": "failed",
        "args": [EVIL],
        "error": error,
        "warnings": [EVIL],
        **said,
    }


def test_no_text_of_a_job_acts_on_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    waits = {"reason": EVIL, "name": EVIL, "until": None}
    print_job(job(waiting_for=waits, history=[]))
    output.print_message(EVIL)
    output.print_unreadable({"unreadable": [{"name": EVIL, "reason": EVIL}]})
    output.print_json('{"a": "' + "\x9b31m\u202e" + '"}')
    printed = capsys.readouterr()
    assert not set("\x1b\r\x9b\u202e\x07") & set(printed.out + printed.err)
    assert r"\u009b31m\u202e" in printed.out


def test_json_that_is_printed_says_what_came(capsys: pytest.CaptureFixture[str]) -> None:
    text = '{"a":"\x9b \U000e0001é"}'
    Api(Client("http://localhost", None), as_json=True).show(ApiResponse(text, None), print)
    assert output.json.loads(capsys.readouterr().out) == output.json.loads(text)


def test_no_redirect_is_followed(receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever answers at the URL could have the key sent to where it likes."""
    monkeypatch.setenv("JOBLINE_API_KEY", "jl_key")
    client = Client(f"{receiver.base}/to/{receiver.base}/ok", None)
    for ask in (lambda: client.call("POST", "jobs", body={}), lambda: list(client.stream("events"))):
        with pytest.raises(CommandFailed, match="is not the API of Jobline"):
            ask()
    assert [one.path.split("/")[1] for one in receiver.received] == ["to", "to"]

"""The command line: what is parsed, which exit code, which words. No I/O."""

from __future__ import annotations

import argparse
import importlib.util
import signal
from pathlib import Path

import docker.errors
import pytest
import requests

from pandom import cli
from pandom.errors import Failure, UserMistake


def run_with(monkeypatch: pytest.MonkeyPatch, handler: object) -> int:
    """main() with a command line that does just one thing."""
    fake = argparse.ArgumentParser()
    fake.set_defaults(handler=handler)
    monkeypatch.setattr(cli, "parser", lambda: fake)
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    return cli.main([])


def raising(error: BaseException) -> object:
    def handler(_: argparse.Namespace) -> None:
        raise error

    return handler


@pytest.mark.parametrize(
    ("error", "code", "words"),
    [
        (UserMistake("port taken"), 2, "port taken"),
        (Failure("no server"), 1, "no server"),
        (KeyboardInterrupt(), 130, "Interrupted."),
        (KeyboardInterrupt("go on with X"), 130, "go on with X"),
    ],
)
def test_an_error_is_a_message_and_an_exit_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    words: str,
) -> None:
    assert run_with(monkeypatch, raising(error)) == code
    captured = capsys.readouterr()
    assert words in captured.err
    assert "Traceback" not in captured.err
    assert captured.out == ""


def test_a_mistake_of_the_program_is_no_traceback(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    home = tmp_path_factory.mktemp("state")
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    assert run_with(monkeypatch, raising(ZeroDivisionError("boom"))) == 1
    message = capsys.readouterr().err
    assert "boom" in message
    assert "Traceback" not in message
    assert "Traceback" in (home / "pandom-stack" / "last-error.log").read_text()


def test_a_daemon_that_stops_is_named_by_its_cause(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def ask(_: object) -> None:
        docker.DockerClient(f"unix://{tmp_path}/gone.sock", version="1.41").containers.list()

    assert run_with(monkeypatch, ask) == 1
    said = capsys.readouterr().err
    assert "Docker stopped answering, or refused: [Errno 2] No such file or directory\n" in said


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "/x/y"), "No space left on device: /x/y"),
        (requests.ConnectionError("gone"), "Docker stopped answering"),
        (docker.errors.APIError("conflict"), "or refused: conflict"),
    ],
)
def test_what_fails_around_us_is_no_mistake_of_ours(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: Exception,
    words: str,
) -> None:
    assert run_with(monkeypatch, raising(error)) == 1
    message = capsys.readouterr().err
    assert words in message
    assert "Next:" in message
    assert "mistake in pandom" not in message


@pytest.mark.parametrize(("result", "code"), [(None, 0), (0, 0), (1, 1), (2, 2)])
def test_what_a_command_returns_is_the_exit_code(
    monkeypatch: pytest.MonkeyPatch, result: int | None, code: int
) -> None:
    assert run_with(monkeypatch, lambda _: result) == code


@pytest.mark.parametrize(
    "line",
    [
        "up",
        "up --stack ci-7 --profile ephemeral",
        "down --without-state",
        "preview --expect-no-changes",
        "refresh",
        "env --role pandom_user",
        "health --json",
        "status --all",
        "shell",
        "docs",
        "migrate generate add_phone",
        "migrate run",
        "migrate revert",
        "migrate revert 0002",
        "migrate show",
        "job keys",
        "job cluster",
        "job migrate",
        "job storage",
        "janitor",
    ],
)
def test_every_command_has_a_handler(line: str) -> None:
    assert callable(cli.parser().parse_args(line.split()).handler)


def test_the_stack_is_dev_unless_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("STACK", raising=False)
    assert cli.parser().parse_args(["up"]).stack == "dev"
    monkeypatch.setenv("STACK", "ci-1")
    assert cli.parser().parse_args(["up"]).stack == "ci-1"


@pytest.mark.parametrize(
    "line", ["", "upp", "up --profile staging", "env --rolle x", "migrate", "job dance"]
)
def test_a_wrong_command_line_is_the_users_mistake(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.parser().parse_args(line.split())
    assert end.value.code == 2
    assert "usage" in capsys.readouterr().err


def test_the_image_has_no_host_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.parser().parse_args(["job", "keys"]).job == "keys"
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["up"])

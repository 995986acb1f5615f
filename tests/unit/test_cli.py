"""The command line: what is parsed, which exit code, which words. No I/O."""

from __future__ import annotations

import argparse
import importlib.util
import pwd
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import docker.errors
import minio.error
import psycopg
import pytest
import requests
import sqlalchemy.exc

from pandom.commands import cli
from pandom.host import dumps, point_in_time, recovery_kit
from pandom.runtime import paths
from pandom.runtime.errors import Failure, UsageError


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
        (UsageError("port taken"), 2, "port taken"),
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
    assert "stopped answering, or refused: [Errno 2] No such file or directory\n" in said
    assert said.startswith("\nDocker at ")


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(28, "No space left on device", "/x/y"), "No space left on device: /x/y"),
        (OSError(28, "No space left on device"), "make room"),
        (OSError(5, "Input/output error"), "Input/output error"),
        (MemoryError(), "not enough memory"),
        (subprocess.TimeoutExpired(["pulumi", "about"], 60), "`pulumi about` did not end"),
        (psycopg.OperationalError("server closed the connection"), "database stopped answering"),
        (psycopg.errors.AdminShutdown("terminating connection"), "database stopped answering"),
        (psycopg.errors.ReadOnlySqlTransaction("read-only"), "or refused: read-only"),
        (sqlalchemy.exc.OperationalError("x", {}, psycopg.OperationalError("gone")), "gone"),
        (minio.error.ServerError("busy", 503), "The object store stopped answering"),
        (requests.ConnectionError("gone"), "stopped answering, or refused: gone"),
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


@pytest.mark.parametrize(
    "error",
    [
        PermissionError(13, "Permission denied", "/x/y"),
        OSError(30, "Read-only file system", "/x/y"),
        NotADirectoryError(20, "Not a directory", "/x/y"),
    ],
)
def test_a_place_that_cannot_be_used_is_for_the_user_to_change(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: OSError
) -> None:
    assert run_with(monkeypatch, raising(error)) == 2
    message = capsys.readouterr().err
    assert message.startswith("\n/x/y ")
    assert "XDG_STATE_HOME" in message


def test_wrong_sql_of_ours_stays_our_mistake(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    assert run_with(monkeypatch, raising(psycopg.errors.SyntaxError("at or near"))) == 1
    assert "A mistake in pandom itself" in capsys.readouterr().err


def test_without_a_home_there_is_a_message_and_no_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    for name in ("HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    assert run_with(monkeypatch, lambda _: print(paths.state_home())) == 2
    assert "no home folder" in capsys.readouterr().err
    monkeypatch.setenv("HOME", "relative")
    assert run_with(monkeypatch, lambda _: print(paths.cache_home())) == 2
    # Not even a mistake of ours can then be written down anywhere.
    assert run_with(monkeypatch, raising(ZeroDivisionError("boom"))) == 1
    assert "boom" in capsys.readouterr().err


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
        "operations",
        "operations run seal",
        "operations task seal",
        "run seal",
        "schedule",
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
    "line",
    [
        "",
        "upp",
        "up --profile staging",
        "env --rolle x",
        "migrate",
        "job dance",
        "backup --verify --type full",
        "backup --type incr --verify",
        "dumps --get one --verify one",
        "restore --switch --undo",
        "rotate pandom_app --list",
    ],
)
def test_a_wrong_command_line_is_the_users_mistake(
    line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        cli.parser().parse_args(line.split())
    assert end.value.code == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize(
    "ask",
    [
        lambda: dumps.run("dev", "json", None, "one"),
        lambda: recovery_kit.recover("kit.age", ["key.txt"], "word.txt"),
        lambda: point_in_time.run("dev", "2026-11-25 14:05", None, "switch", "text"),
        lambda: point_in_time.run("dev", None, None, "switch", "json"),
        lambda: point_in_time.run("dev", "2026-11-25 14:05", "20261126-153806F", None, "text"),
    ],
)
def test_what_cannot_be_meant_together_is_refused(ask: Callable[[], object]) -> None:
    with pytest.raises(UsageError):
        ask()


def test_the_image_has_no_host_commands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    assert cli.parser().parse_args(["job", "keys"]).job == "keys"
    with pytest.raises(SystemExit):
        cli.parser().parse_args(["up"])

"""Dump and restore through the commands, as typed in `pandom shell`."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
from psycopg import sql

from pandom.database.restore import aside
from pandom.host import client_version
from pandom.runtime.errors import UsageError
from tests.fixtures.catalog import differences, facts
from tests.fixtures.server import Server
from tests.fixtures.stack import Pandom, RunningStack

NAME = "restored_by_commands"


def drop(server: Server, pattern: str) -> None:
    with server.connect("postgres", "postgres") as connection:
        found = connection.execute(
            "select datname from pg_database where datname like %s", (pattern,)
        ).fetchall()
        for (name,) in found:
            connection.execute(
                sql.SQL("drop database {} with (force)").format(sql.Identifier(name))
            )


@pytest.fixture
def clean(server: Server) -> Iterator[None]:
    drop(server, f"{NAME}%")
    yield
    drop(server, f"{NAME}%")


class Shell:
    """One `pandom shell` for all commands: its home is gone when it ends."""

    def __init__(self, stack: RunningStack) -> None:
        self.process = subprocess.Popen(
            stack.pandom.command("shell", "--stack", stack.name),
            cwd=stack.pandom.root,
            env=stack.pandom.environment(),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def __call__(self, command: str) -> str:
        """What the command says, both outputs together."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{command}\necho --- $?\n")
        self.process.stdin.flush()
        said: list[str] = []
        for line in self.process.stdout:
            if line.startswith("--- "):
                assert line == "--- 0\n", said
                return "".join(said)
            said.append(line)
        raise AssertionError(f"the shell ended: {said}")

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        assert self.process.wait(30) == 0


@pytest.mark.requirement("D3", "D4")
def test_dump_and_restore_as_typed(stack: RunningStack, server: Server, clean: None) -> None:
    shell = Shell(stack)
    dumped = shell("pg_dump -h localhost -U pandom_user -d pandom_db > backup.sql")
    assert dumped == ""
    stack.pandom("db", "prepare", NAME, "--stack", stack.name)
    # It would take the operator's opening back in the middle of the restore.
    refused = stack.pandom("up", "--stack", stack.name, code=2)
    assert f"pandom db finish {NAME}" in refused.stderr
    restored = shell(f"psql -h localhost -U pandom_user -d {NAME} < backup.sql")
    assert "COPY" in restored
    assert "ERROR" not in restored
    again = stack.pandom("db", "prepare", NAME, "--stack", stack.name, code=2)
    assert "not empty" in again.stderr
    done = stack.pandom("db", "finish", NAME, "--stack", stack.name)
    assert f"{NAME} is restored" in done.stdout
    assert "settings: ok, as declared" in done.stdout
    shell.end()
    with (
        server.connect("pandom_user") as left,
        server.connect("pandom_user", NAME) as right,
    ):
        differ = differences(facts(left), facts(right))
    assert [line for line in differ if ".epoch: " not in line] == []
    stack.pandom("health", "--stack", stack.name)
    stack.pandom("up", "--stack", stack.name)


@pytest.mark.requirement("D4")
def test_the_present_database_is_kept_when_that_is_confirmed(
    stack: RunningStack, server: Server, clean: None
) -> None:
    with server.connect("postgres", "postgres") as connection:
        connection.execute(f"create database {NAME}".encode())
    with server.connect("postgres", NAME) as busy:
        busy.execute("create table public.kept as select 1 as one")
        confirming = Pandom(variables={"CONFIRM": NAME})
        done = confirming("db", "prepare", NAME, "--stack", stack.name)
        with pytest.raises(psycopg.OperationalError):
            busy.execute("select 1")
    kept = done.stdout.partition("as ")[2].split()[0]
    assert kept.startswith(f"{NAME}_2")
    with server.connect("postgres", kept) as connection:
        assert connection.execute("select one from public.kept").fetchone() == (1,)
    # Nothing was restored: finish says so, and closes what was opened.
    failed = stack.pandom("db", "finish", NAME, "--stack", stack.name, code=1)
    assert "not restored" in failed.stderr
    with server.connect("pandom_user") as operator, pytest.raises(psycopg.Error):
        operator.execute("set role pandom_trail")


@pytest.mark.requirement("D4")
@pytest.mark.parametrize("name", ["postgres", "template1", "a-b", "A", "", "x" * 41, "1a"])
def test_names_that_are_no_databases_of_ours(name: str) -> None:
    with pytest.raises(UsageError, match="no database to restore into"):
        aside.check_name(name)
    aside.check_name("pandom_db")


@pytest.mark.requirement("D3")
@pytest.mark.parametrize(
    ("said", "older"),
    [
        ("pg_dump (PostgreSQL) 15.14 (Debian 15.14-0+deb12u1)", True),
        ("pg_dump (PostgreSQL) 17.12", False),
        ("pg_dump (PostgreSQL) 18.1", False),
        ("something else", False),
    ],
)
def test_an_older_client_of_the_host_is_told_where_to_go(
    said: str,
    older: bool,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    program = tmp_path / "pg_dump"
    program.write_text(f"#!/bin/sh\necho '{said}'\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    warning = client_version.warning("mine")
    assert (warning is not None) == older
    if warning is not None:
        assert "make shell STACK=mine" in warning

"""PostgreSQL's next major version and the way back; states of earlier commits."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pandom.host.stack import Stack, read_file, set_values
from pandom.runtime import paths
from tests.fixtures.backups import backup_labels, sql
from tests.fixtures.server import server_of
from tests.fixtures.stack import Pandom, RunningStack, new_name, remove

pytestmark = pytest.mark.requirement("D5")

# The last commit of each state that `up` must go on from.
EARLIER = ("e4de534",)


def test_the_setting_alone_changes_nothing(stack: RunningStack) -> None:
    before = Stack(stack.name).file.read_text()
    try:
        set_values(Stack(stack.name), {"postgresVersion": 18})
        for command in ("up", "preview"):
            said = stack.pandom(command, "--stack", stack.name, code=2).stderr
            assert "expected 17, of which the data are, found 18" in said
            assert f"pandom upgrade --stack {stack.name}" in said
    finally:
        Stack(stack.name).file.write_text(before)
    assert "PostgreSQL 17" in sql(stack, "select version()")[0][0]


def test_without_an_upgrade_there_is_no_way_back(stack: RunningStack) -> None:
    said = stack.pandom("upgrade", "--undo", "--stack", stack.name, code=2).stderr
    assert "lies none of a former version" in said
    assert "There was nothing" in stack.pandom("upgrade", "--discard", "--stack", stack.name).stdout


def forget_column_options(stack: RunningStack) -> None:
    """Take what releases after August 2026 keep with each column: an older 18 does not know it."""
    sql(stack, "alter database template0 allow_connections true")
    for (name,) in sql(stack, "select datname from pg_database"):
        with server_of(stack).connect("postgres", name) as connection:
            connection.execute("set allow_system_table_mods = on")
            connection.execute(
                "update pg_attribute set attoptions = null where attoptions is not null"
            )
    sql(stack, "alter database template0 allow_connections false")


def rows(stack: RunningStack) -> int:
    with server_of(stack).connect("postgres", "pandom_db") as connection:
        ((found,),) = connection.execute("select count(*) from public.audit_logs").fetchall()
        return int(found)


def version(stack: RunningStack) -> str:
    return str(sql(stack, "show server_version")[0][0]).split(".")[0]


@pytest.mark.soak
def test_an_older_release_is_refused_before_anything_is_touched(backed: RunningStack) -> None:
    said = backed.pandom("upgrade", "--stack", backed.name, code=None)
    if not said.returncode:
        pytest.skip("the mirror's 18 is as new as its 17")
    assert "it is the older release" in said.stderr
    assert said.returncode == 2
    assert read_file(Stack(backed.name))["pandom-stack:postgresVersion"] == 17
    assert "nothing changed" in backed.pandom("up", "--stack", backed.name).stderr


def killed(pandom: Pandom, at: str, *command: str) -> None:
    """Begin an upgrade, and kill it 3 s after what it says: in the middle of what comes then."""
    running = pandom.start(*command)
    assert running.stdout is not None
    for line in running.stdout:
        if at in line:
            time.sleep(3)
            break
    running.kill()
    running.communicate()
    assert running.returncode == -signal.SIGKILL


@pytest.mark.soak
def test_a_killed_upgrade_goes_on_and_is_taken_back(backed: RunningStack) -> None:
    stack, name = backed, backed.name
    forget_column_options(stack)
    before = rows(stack)
    killed(stack.pandom, "stopping PostgreSQL 17", "upgrade", "--stack", name)
    refused = stack.pandom("up", "--stack", name, code=2).stderr
    assert "of which the data are, found 18" in refused
    said = stack.pandom("upgrade", "--stack", name).stderr
    assert "PostgreSQL 18 is served" in said
    assert "without a server for" in said
    stack.look_again()
    assert version(stack) == "18"
    assert rows(stack) >= before
    for command in ("health", "audit"):
        stack.pandom(command, "--stack", name)
    assert "nothing changed" in stack.pandom("up", "--stack", name).stderr
    assert len(backup_labels(stack)) == 1
    stack.pandom("backup", "--stack", name)
    stack.pandom("drill", "--stack", name)
    assert "nothing to do" in stack.pandom("upgrade", "--stack", name).stdout

    sql(stack, "create table public.of_18 as select 1 as one")
    refused = stack.pandom("upgrade", "--undo", "--stack", name, code=2).stderr
    assert "lacks what was committed since" in refused
    assert version(stack) == "18"
    confirmed = Pandom(stack.pandom.root, {"CONFIRM": name})
    assert "PostgreSQL 17 is served" in confirmed("upgrade", "--undo", "--stack", name).stderr
    stack.look_again()
    assert version(stack) == "17"
    assert rows(stack) >= before
    for command in ("health", "audit"):
        stack.pandom(command, "--stack", name)
    assert "Removed" in confirmed("upgrade", "--discard", "--stack", name).stdout


@pytest.mark.soak
@pytest.mark.parametrize("at", ["exchanging the two clusters", "the other database is served"])
def test_killed_after_its_exchange_it_goes_on(backed: RunningStack, at: str) -> None:
    name = backed.name
    forget_column_options(backed)
    confirmed = Pandom(backed.pandom.root, {"CONFIRM": name})
    for way, served in (((), "18"), (("--undo",), "17")):
        killed(confirmed, at, "upgrade", *way, "--stack", name)
        gone_on = backed.pandom("up", "--stack", name, code=None)
        if gone_on.returncode:  # while the one container is gone, and the other is not made yet
            assert f"pandom upgrade --stack {name}` brings them along" in gone_on.stderr
            backed.pandom("upgrade", *way, "--stack", name)
        backed.look_again()
        assert version(backed) == served
        for command in (("health",), ("audit",), ("backup",), ("backup", "--verify")):
            backed.pandom(*command, "--stack", name)
        assert "nothing changed" in backed.pandom("up", "--stack", name).stderr
    confirmed("upgrade", "--discard", "--stack", name)


@pytest.mark.soak
@pytest.mark.parametrize("commit", EARLIER)
def test_up_goes_on_from_the_state_of_an_earlier_commit(commit: str, tmp_path: Path) -> None:
    place = tmp_path / "earlier"
    subprocess.run(
        ["git", "worktree", "add", "--detach", str(place), commit], cwd=paths.ROOT, check=True
    )
    name = new_name()
    try:
        subprocess.run(
            [sys.executable, "-m", "toolchain"],
            cwd=place,
            env={**os.environ, "CI": "true"},
            check=True,
        )
        Pandom(place, forks=False)("up", "--stack", name)
        stack = RunningStack(name)
        (paths.ROOT / "stacks" / f"Pulumi.{name}.yaml").write_text(
            (place / "stacks" / f"Pulumi.{name}.yaml").read_text()
        )
        before = rows(stack)
        stack.pandom("up", "--stack", name)
        stack.look_again()
        assert rows(stack) >= before > 0
        for command in ("health", "audit"):
            stack.pandom(command, "--stack", name)
        assert "nothing changed" in stack.pandom("up", "--stack", name).stderr
    finally:
        remove(name)
        subprocess.run(
            ["git", "worktree", "remove", "--force", str(place)], cwd=paths.ROOT, check=True
        )

"""Runners at once, killed runners, and traffic in the way."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import psycopg
import psycopg.errors
import pytest

from pandom.database import migrate
from pandom.database.connect import Target, wait
from pandom.runtime.errors import Failure
from pandom.runtime.paths import ROOT
from tests.fixtures.catalog import differences, facts
from tests.fixtures.databases import ADMIN_EMAIL, PASSWORD, Database

RUNNERS = 8


@pytest.fixture
def job(empty: Database, tmp_path: Path) -> Job:
    return Job(empty, tmp_path)


class Job:
    """The migration job as its container runs it: a process, an environment, a volume of keys."""

    def __init__(self, database: Database, keys: Path) -> None:
        self.database = database
        self.keys = keys
        (keys / "pandom_migrator_password").write_text(database.server.passwords[migrate.MIGRATOR])
        (keys / "admin_password").write_text(PASSWORD)
        (keys / "ca.crt").write_bytes(database.server.ca.read_bytes())

    def start(self, **changes: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "pandom", "job", "migrate"],
            cwd=ROOT,
            env={
                **os.environ,
                "PANDOM_KEYS": str(self.keys),
                "PANDOM_PROFILE": "ephemeral",
                "PANDOM_DB_HOST": self.database.server.host,
                "PANDOM_DB_PORT": str(self.database.server.port),
                "PANDOM_DB_NAME": self.database.name,
                "PANDOM_OPT_IN": ",".join(self.database.opt_in),
                "PANDOM_ADMIN_EMAIL": ADMIN_EMAIL,
                "PANDOM_SAMPLE_DATA": "false",
                "PANDOM_SIGNED_CONTEXT": "false",
                "PANDOM_ENCRYPT_PASSWORD_HASH": "false",
                "PANDOM_RETENTION_MONTHS": "12",
                **changes,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, **changes: str) -> tuple[int, str]:
        process = self.start(**changes)
        output, _ = process.communicate(timeout=120)
        return process.returncode, output


@pytest.mark.requirement("M4", "S1")
def test_the_job_brings_an_empty_database_to_head_and_says_so(job: Job) -> None:
    code, output = job.run()
    assert code == 0, output
    for line in (
        "waiting for the server:",
        "migrations: empty → ",
        "privileges:",
        "administrator:",
    ):
        assert line in output
    assert f"the database is at head {migrate.head()}" in output
    assert PASSWORD not in output
    again, output = job.run()
    assert again == 0
    assert f"migrations: at head {migrate.head()}" in output
    assert "admin@pandom.com exists" in output


@pytest.mark.requirement("M4")
@pytest.mark.parametrize(
    ("changes", "code", "message"),
    [
        ({"PANDOM_DB_PORT": "none"}, 2, "PANDOM_DB_PORT must be a port number"),
        ({"PANDOM_DB_NAME": "no_such_database"}, 1, "does not exist"),
        ({"PANDOM_RETENTION_MONTHS": "0"}, 2, "PANDOM_RETENTION_MONTHS"),
        ({"PANDOM_SIGNED_CONTEXT": "yes"}, 2, "PANDOM_SIGNED_CONTEXT"),
        ({"PANDOM_KEYS": "/nowhere"}, 1, "/nowhere"),
    ],
)
def test_the_job_refuses_with_a_message(
    job: Job, changes: dict[str, str], code: int, message: str
) -> None:
    found, output = job.run(**changes)
    assert (found, message in output) == (code, True), output
    assert "Traceback" not in output


@pytest.mark.requirement("M4", "S1")
def test_the_job_refuses_a_weak_password_before_it_touches_anything(job: Job) -> None:
    (job.keys / "admin_password").write_text("admin123")
    code, output = job.run(PANDOM_PROFILE="development")
    assert code == 2
    assert "weak" in output
    assert "admin123" not in output
    assert job.database.one("select to_regclass('public.alembic_version') is null")


@pytest.mark.requirement("M4")
def test_eight_runners_on_an_empty_database(job: Job) -> None:
    processes = [job.start() for _ in range(RUNNERS)]
    results = [(process.communicate(timeout=180)[0], process.returncode) for process in processes]
    assert [code for _, code in results] == [0] * RUNNERS, results
    assert sum("migrations: empty → " in output for output, _ in results) == 1
    assert sum("made" in output.split("administrator:")[1] for output, _ in results) == 1


@pytest.mark.requirement("M4")
def test_a_runner_names_the_holder_and_gives_up_in_time(database: Database) -> None:
    with migrate.session_lock(database.runner()):
        started = time.monotonic()
        told: list[str] = []
        with (
            pytest.raises(Failure, match=r"pandom migrate .* server process \d+"),
            migrate.session_lock(database.runner(lock_wait_s=1.0), told.append),
        ):
            pass
        assert time.monotonic() - started < 5
        assert len(told) == 1
    with migrate.session_lock(database.runner(lock_wait_s=1.0)):
        pass


@pytest.mark.requirement("M4")
def test_a_server_that_never_gets_ready_is_given_up(database: Database) -> None:
    nowhere = Target("127.0.0.1", 1, database.name, database.server.ca)
    started = time.monotonic()
    with pytest.raises(Failure, match="did not get ready within 1 s"):
        wait(nowhere, migrate.MIGRATOR, "x", limit_s=1.0)
    assert time.monotonic() - started < 8


@pytest.mark.requirement("M4")
def test_a_wrong_password_is_not_waited_for(database: Database) -> None:
    started = time.monotonic()
    with pytest.raises(Failure, match="password authentication failed") as raised:
        wait(database.target, migrate.MIGRATOR, "not the password", limit_s=30.0)
    assert time.monotonic() - started < 10
    assert "not the password" not in str(raised.value)


# Where a runner stands inside a revision, because somebody holds what its next statement needs.
FAILPOINTS = {
    "0003": ("pandom_owner", "lock table public.auth_users in row exclusive mode"),
    "0004": ("pandom_owner", "lock table public.sessions in access share mode"),
    "0005": ("pandom_trail", "lock table public.audit_logs in access exclusive mode"),
}


@pytest.mark.requirement("M4")
@pytest.mark.parametrize("revision", FAILPOINTS)
def test_a_runner_killed_inside_a_revision_leaves_nothing_of_it(job: Job, revision: str) -> None:
    database = job.database
    before = f"{int(revision) - 1:04}"
    migrate.upgrade(database.runner(), before)
    complete = _facts(database)
    owner, hold = FAILPOINTS[revision]
    with database.connect("pandom_migrator") as blocker:
        blocker.execute(f"set role {owner}".encode())
        blocker.execute(hold.encode())
        process = job.start()
        _until(lambda: _waits(database))
        process.kill()
        process.wait()
        # The blocked server process notices by itself that its client is gone.
        _until(lambda: not _waits(database), limit_s=10)
        blocker.rollback()
    assert differences(complete, _facts(database)) == []
    code, output = job.run()
    assert code == 0, output
    assert f"migrations: {before} → {migrate.head()}" in output


def _facts(database: Database) -> dict[str, str]:
    with database.connect("pandom_user") as connection:
        return facts(connection)


def _waits(database: Database) -> bool:
    with database.server.connect("postgres", "postgres") as connection:
        row = connection.execute(
            "select count(*) from pg_stat_activity where datname = %s and wait_event_type = 'Lock'",
            (database.name,),
        ).fetchone()
    return row is not None and row[0] > 0


def _until(condition: object, limit_s: float = 30.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():  # type: ignore[operator]
        assert time.monotonic() < deadline, "what was waited for did not happen"
        time.sleep(0.05)


@pytest.mark.requirement("M4")
def test_a_blocking_transaction_stops_the_job_not_the_traffic(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrate, "LOCK_TIMEOUT_MS", 500)
    monkeypatch.setattr(migrate, "PAUSE_S", 0.1)
    migrate.revert(database.runner(), "0003")
    stalls: list[float] = []
    stop = threading.Event()

    def traffic() -> None:
        with database.connect("pandom_user", autocommit=True) as connection:
            while not stop.is_set():
                started = time.monotonic()
                connection.execute("select count(*) from public.auth_users")
                stalls.append(time.monotonic() - started)
                time.sleep(0.02)

    with database.connect("pandom_user") as blocker:
        blocker.execute("select count(*) from public.auth_users")  # ACCESS SHARE until it ends
        thread = threading.Thread(target=traffic)
        thread.start()
        started = time.monotonic()
        with pytest.raises(Failure, match="Some transaction holds a lock"):
            migrate.upgrade(database.runner())
        assert time.monotonic() - started < 20
        stop.set()
        thread.join()
        # Queries queue behind the waiting DDL, but never longer than its limit.
        assert max(stalls) < 5
        blocker.rollback()
    assert migrate.upgrade(database.runner())[0] == "0003"


@pytest.mark.requirement("M4")
def test_an_index_is_built_concurrently_while_runners_wait(database: Database) -> None:
    # A waiter that blocked in pg_advisory_lock would hold a snapshot, and this would hang.
    done: list[str] = []

    def runner() -> None:
        with migrate.session_lock(database.runner(lock_wait_s=30.0)):
            done.append("ran")

    with migrate.session_lock(database.runner()):
        threads = [threading.Thread(target=runner) for _ in range(3)]
        for thread in threads:
            thread.start()
        with database.server.connect("postgres", "postgres") as look:
            _until(
                lambda: (
                    (
                        look.execute(
                            "select count(*) from pg_stat_activity where datname = %s "
                            "and application_name like 'pandom migrate%%'",
                            (database.name,),
                        ).fetchone()
                        or (0,)
                    )[0]
                    >= 4  # the holder's own connection is one
                )
            )
        with database.connect("pandom_user", autocommit=True) as connection:
            connection.execute("set statement_timeout = '10s'")
            connection.execute("create index concurrently i on public.user_profiles (created_at)")
    for thread in threads:
        thread.join(timeout=30)
    assert done == ["ran"] * 3


@pytest.mark.requirement("M4")
def test_control_a_blocked_waiter_would_hang_the_index(database: Database) -> None:
    with (
        database.connect("pandom_user", autocommit=True) as holder,
        database.connect("pandom_user", autocommit=True) as builder,
    ):
        holder.execute("select pg_advisory_lock(1)")

        def blocked() -> None:
            with database.connect("pandom_user", autocommit=True) as waiter:
                waiter.execute("select pg_advisory_lock(1)")

        thread = threading.Thread(target=blocked)
        thread.start()
        _until(lambda: _waits(database))
        builder.execute("set statement_timeout = '1s'")
        with pytest.raises(psycopg.errors.QueryCanceled):
            builder.execute("create index concurrently i on public.user_profiles (created_at)")
        holder.execute("select pg_advisory_unlock(1)")
        thread.join(timeout=10)


@pytest.mark.requirement("M4", "A3")
def test_privileges_converge_in_the_revisions_own_transaction(empty: Database) -> None:
    # At no revision does anybody hold what is not declared; what needs policies waits for them.
    runner = empty.runner()
    migrate.upgrade(runner, "0001")
    with empty.connect("pandom_user") as connection:
        found = facts(connection, "relation", "column", "function", "type")
    migrate.upgrade(runner, "0001")
    with empty.connect("pandom_user") as connection:
        assert differences(found, facts(connection, "relation", "column", "function", "type")) == []
    assert "pandom_definer=arwd" in json.dumps(found)
    assert "pandom_app=r" not in json.dumps(found)
    migrate.upgrade(runner, "0004")
    with empty.connect("pandom_user") as connection:
        assert "pandom_app=r" in json.dumps(facts(connection, "relation"))
    assert "{=X" not in json.dumps(found)

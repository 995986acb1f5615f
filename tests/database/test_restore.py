"""Dump and restore as the source document types them."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import psycopg.errors
import pytest
from psycopg import sql

from pandom.audit.anchors import Head, Kept
from pandom.audit.trail import Verdict, verify
from pandom.database import cluster, migrate
from pandom.database.connect import Target
from pandom.database.converge import compare
from pandom.database.drift import catalog
from pandom.database.health import Health
from pandom.database.restore import aside, prepare, restoring
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.naming import image_name
from schema import access
from tests.fixtures.catalog import differences, facts
from tests.fixtures.databases import ADMIN_EMAIL, ALICE, PASSWORD, SETTINGS, Database, Factory

HASH_KEY = "k" * 40
_COUNTS = """
select relname, (xpath('/row/c/text()', query_to_xml(
    format('select count(*) as c from public.%I', relname), false, true, '')))[1]::text
from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'
    and relname not like 'security_logs%' order by 1
"""


def _client(database: Database, *command: str, text: str = "") -> subprocess.CompletedProcess[str]:
    """A PostgreSQL 17 client: the host's if it is new enough, else the operations image's."""
    server = database.server
    environment = {
        "PGPASSWORD": server.passwords["pandom_user"],
        "PGSSLMODE": "verify-full",
        "PGPORT": str(server.port),
    }
    if _host_is_new_enough():
        return subprocess.run(
            command,
            input=text,
            capture_output=True,
            text=True,
            check=False,
            env={**os.environ, **environment, "PGSSLROOTCERT": str(server.ca)},
        )
    names = [part for name in environment for part in ("--env", name)]
    return subprocess.run(
        [
            "docker",
            "run",
            "--rm",
            "--interactive",
            "--network=host",
            *names,
            "--env=PGSSLROOTCERT=/ca.crt",
            f"--volume={server.ca}:/ca.crt:ro",
            "--user=0",
            f"--entrypoint={command[0]}",
            image_name("operations"),
            *command[1:],
        ],
        input=text,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **environment},
    )


def _host_is_new_enough() -> bool:
    found = shutil.which("pg_dump")
    if found is None:
        return False
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=True).stdout
    return int(said.split()[2].split(".")[0]) >= 17


def _dump(database: Database) -> str:
    done = _client(database, "pg_dump", "-h", "localhost", "-U", "pandom_user", "-d", database.name)
    assert done.returncode == 0, done.stderr
    return done.stdout


def _restore(database: Database, text: str) -> str:
    """What psql says while it restores."""
    words = ("psql", "-q", "-h", "localhost", "-U", "pandom_user", "-d", database.name)
    return _client(database, *words, text=text).stderr


def _let_in(database: Database) -> set[str]:
    """The logins that may connect."""
    found = set()
    for role in access.roles(database.opt_in):
        if role.login:
            try:
                database.connect(role.name).close()
                found.add(role.name)
            except psycopg.OperationalError as error:
                if "permission denied for database" not in str(error):
                    raise
    return found


def _finish(
    server: Target, password: str, name: str, opt_in: frozenset[str], **changes: Any
) -> Health:
    """Finish with the settings that the template has, or some of them changed."""
    settings = dataclasses.replace(SETTINGS, **changes)
    return prepare.finish(server, password, name, opt_in, settings, HASH_KEY, ADMIN_EMAIL)[0]


def _restoring(database: Database, name: str) -> bool:
    """Whether `up` is refused because of this one."""
    with database.connect("postgres") as connection:
        found = restoring.marked(connection)
    if name not in found:
        return False
    with pytest.raises(UsageError, match=f"db finish {name}"):
        restoring.refuse(found, "`up`")
    return True


@contextmanager
def _dropped(factory: Factory, name: str) -> Iterator[Database]:
    try:
        yield Database(factory.server, name, factory.opt_in)
    finally:
        with factory.server.connect("postgres", "postgres") as connection:
            connection.execute(
                sql.SQL("drop database if exists {} with (force)").format(sql.Identifier(name))
            )
            cluster.apply_roles(connection, factory.opt_in)


@pytest.mark.requirement("D3", "D4")
def test_a_dump_restores_without_an_error_and_equals_its_source(
    database: Database, factory: Factory, tmp_path: Path
) -> None:
    password = database.server.passwords["postgres"]
    with database.connect() as connection:
        connection.execute("select public.sign_in(%s, %s)", (ALICE.email, PASSWORD))
    key = database.one("select secret from public.context_key")
    text = _dump(database)
    with _dropped(factory, f"{database.name}_restored") as restored:
        prepare.prepare(database.target, password, restored.name, factory.opt_in)
        # psql exits 0 whatever happens: its messages decide.
        assert "ERROR" not in _restore(restored, text)
        health = _finish(database.target, password, restored.name, factory.opt_in)
        assert health.ok, health
        assert restored.rows(_COUNTS) == database.rows(_COUNTS)
        with database.connect("pandom_user") as left, restored.connect("pandom_user") as right:
            changed = [
                line
                for line in differences(facts(left), facts(right))
                if not (line.startswith("column") and ".epoch" in line)
            ]
        assert changed == []
        assert restored.one("select secret from public.context_key") != key
        assert (
            restored.one(
                "select epoch from public.security_logs where event_type = 'trail_restored'"
            )
            == 2
        )
        with restored.connect("pandom_migrator") as connection:
            assert not compare(connection, factory.opt_in).differences()
        # The operator's way to the owners is closed again.
        for role in ("pandom_trail", "pandom_definer", "pandom_migrator"):
            with (
                restored.connect("pandom_user") as connection,
                pytest.raises(psycopg.errors.InsufficientPrivilege),
            ):
                connection.execute(f"set role {role}".encode())
        with (
            restored.connect("pandom_user") as connection,
            pytest.raises(psycopg.errors.InsufficientPrivilege),
        ):
            connection.execute("create schema s")
        with restored.connect() as connection:
            row = connection.execute(
                "select count(*) from public.sign_in(%s, %s)", (ALICE.email, PASSWORD)
            ).fetchone()
            assert row == (1,)


def _sealed(database: Database) -> Verdict:
    """The trail after the janitor sealed all of it; other databases' transactions delay that."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        with database.connect("pandom_janitor") as connection:
            connection.execute("select public.seal_trail()")
        verdict = _verified(database)
        if not any(verdict.waiting.values()):
            return verdict
        time.sleep(0.1)
    raise AssertionError("rows of the trail were not sealed within 20 s")


def _verified(database: Database, anchors: tuple[Head, ...] = ()) -> Verdict:
    with catalog.connect(database.server.dsn("pandom_auditor", database.name)) as connection:
        return verify(connection, Kept(anchors))


@pytest.mark.requirement("P5", "D4")
def test_a_restored_trail_goes_on_in_a_new_epoch_and_verifies_across_both(
    database: Database, factory: Factory
) -> None:
    password = database.server.passwords["postgres"]
    before = _sealed(database)
    text = _dump(database)
    with _dropped(factory, f"{database.name}_restored") as restored:
        prepare.prepare(database.target, password, restored.name, factory.opt_in)
        assert "ERROR" not in _restore(restored, text)
        _finish(database.target, password, restored.name, factory.opt_in)
        with restored.connect() as connection:
            connection.execute("select public.sign_in(%s, %s)", (ALICE.email, PASSWORD))
        after = _sealed(restored)
        assert after.problems == ()
        assert after.blocks > before.blocks
        epochs = (
            "select distinct {} from public.trail_blocks where log = 'security_logs' order by 1"
        )
        assert restored.rows(epochs.format("first_epoch")) == [(1,), (2,)]
        # The same chain: heads that were kept before the restore are in it.
        assert _verified(restored, before.heads).problems == ()
        with restored.connect("postgres", autocommit=True) as connection:
            connection.execute(
                "update public.audit_logs set details = '{}' "
                "where id = (select min(id) from public.audit_logs where epoch = 1)"
            )
        assert {one.kind for one in _verified(restored).problems} == {"row edited"}


@pytest.mark.requirement("P5", "D4")
def test_an_epoch_is_new_although_retention_took_every_row_of_the_last_one(
    database: Database, factory: Factory
) -> None:
    password = database.server.passwords["postgres"]
    _sealed(database)
    with database.connect("postgres", autocommit=True) as connection:
        connection.execute("truncate public.audit_logs")
    text = _dump(database)
    with _dropped(factory, f"{database.name}_restored") as restored:
        prepare.prepare(database.target, password, restored.name, factory.opt_in)
        assert "ERROR" not in _restore(restored, text)
        _finish(database.target, password, restored.name, factory.opt_in)
        with restored.connect("postgres", autocommit=True) as connection:
            row = connection.execute(
                "insert into public.audit_logs (event_type) values ('probe') returning epoch"
            ).fetchone()
        assert row == (2,)


@pytest.mark.requirement("D4")
def test_control_without_prepare_a_restore_has_errors(database: Database, factory: Factory) -> None:
    text = _dump(database)
    with factory.made() as plain:
        assert "ERROR" in _restore(plain, text)


@pytest.mark.requirement("D4")
def test_prepare_refuses_a_database_in_use(database: Database) -> None:
    password = database.server.passwords["postgres"]
    with pytest.raises(UsageError, match="not empty"):
        prepare.prepare(database.target, password, database.name, database.opt_in)


@pytest.mark.requirement("D4")
def test_finish_refuses_a_database_without_the_dump(factory: Factory, empty: Database) -> None:
    with pytest.raises(Failure, match="was not restored"):
        _finish(empty.target, empty.server.passwords["postgres"], empty.name, factory.opt_in)
    members = [m for m in access.MEMBERSHIPS if m.member == "pandom_user"]
    rows = empty.rows(
        "select count(*) from pg_auth_members where member = 'pandom_user'::regrole",
        role="postgres",
    )
    assert rows == [(len(members),)]


@pytest.mark.requirement("D4")
def test_nobody_gets_in_before_finish_is_done(database: Database, factory: Factory) -> None:
    server, password = database.server, database.server.passwords["postgres"]
    everybody = _let_in(database)
    assert len(everybody) >= 6
    key = database.one("select secret from public.context_key")
    text = _dump(database)
    with _dropped(factory, f"{database.name}_closed") as restored:
        arguments = (database.target, password, restored.name, factory.opt_in)
        prepare.prepare(*arguments)
        assert _let_in(restored) == {"pandom_user"}
        assert _restoring(database, restored.name)
        assert "ERROR" not in _restore(restored, text)
        # An entered role stays entered; so whoever entered it is sent away.
        intruder = database.connect("pandom_user")
        intruder.execute("set role pandom_trail")

        finishing = multiprocessing.get_context("fork").Process(target=_finish, args=arguments)
        with server.connect("postgres", restored.name) as holder, holder.transaction():
            holder.execute("lock table public.context_key")
            finishing.start()
            deadline = time.monotonic() + 30
            while holder.execute("select from pg_locks where not granted").fetchone() is None:
                assert time.monotonic() < deadline
                time.sleep(0.05)
            assert _let_in(restored) == {"pandom_migrator"}
            finishing.kill()
            finishing.join(10)
            assert finishing.exitcode == -9
            assert _let_in(restored) == {"pandom_migrator"}
            assert _restoring(database, restored.name)
        with pytest.raises(psycopg.OperationalError):
            intruder.execute("select 1")
        with server.connect("postgres", restored.name) as connection:
            row = connection.execute("select secret from public.context_key").fetchone()
            assert row == (key,)

        assert _finish(*arguments).ok
        assert _let_in(restored) == everybody
        assert not _restoring(database, restored.name)
        assert restored.one("select secret from public.context_key") != key


@pytest.mark.requirement("D4")
def test_a_restore_that_was_given_up_holds_nothing_up(database: Database, factory: Factory) -> None:
    password = database.server.passwords["postgres"]
    name = f"{database.name}_up"
    prepare.prepare(database.target, password, name, factory.opt_in)
    assert _restoring(database, name)
    kept = aside.set_aside(database.target, password, name)
    assert kept is not None
    with _dropped(factory, kept):
        assert not _restoring(database, name)
        assert not _restoring(database, kept)


@pytest.mark.requirement("D4")
def test_a_database_with_wrong_content_is_opened_to_the_operator_only(
    database: Database, factory: Factory
) -> None:
    arguments = (database.target, database.server.passwords["postgres"], database.name)
    everybody = _let_in(database)
    # A dump with a trigger that keeps its settings.
    with database.connect("postgres") as connection:
        connection.execute(
            "update public.account_settings set lock_limit = '1 h';"
            "create function public.keep() returns trigger language plpgsql "
            "as 'begin return old; end';"
            "create trigger keep before update on public.account_settings "
            "for each row execute function public.keep()"
        )
    health = _finish(*arguments, factory.opt_in)
    assert [finding.name for finding in health.findings if not finding.ok] == ["settings"]
    assert _let_in(database) == {"pandom_user", "pandom_migrator"}
    assert _restoring(database, database.name)
    with database.connect("postgres") as connection:
        connection.execute("drop function public.keep() cascade")
    assert _finish(*arguments, factory.opt_in).ok
    assert _let_in(database) == everybody


@pytest.mark.requirement("D4")
def test_an_older_dump_waits_closed_for_the_migration(database: Database, factory: Factory) -> None:
    arguments = (database.target, database.server.passwords["postgres"], database.name)
    everybody, runner = _let_in(database), database.runner()
    migrate.revert(runner, "-1")
    with pytest.raises(Failure, match="pandom migrate run"):
        _finish(*arguments, factory.opt_in)
    assert _let_in(database) == {"pandom_migrator"}
    migrate.upgrade(runner)
    assert _finish(*arguments, factory.opt_in).ok
    assert _let_in(database) == everybody


@pytest.mark.requirement("D4", "T3")
def test_a_dump_of_last_year_gets_its_months(database: Database, factory: Factory) -> None:
    """Only the janitor makes partitions, and it is not let in before finish has seen them."""
    arguments = (database.target, database.server.passwords["postgres"], database.name)
    with database.owner("pandom_trail") as connection:
        for (name,) in connection.execute(
            "select inhrelid::regclass::text from pg_inherits "
            "where inhparent = 'public.audit_logs'::regclass "
            "and inhrelid <> 'public.audit_logs_default'::regclass"
        ).fetchall():
            connection.execute(f"drop table {name}".encode())
    assert _finish(*arguments, factory.opt_in).ok


@pytest.mark.requirement("D4", "P1", "P2")
def test_the_stacks_settings_win_over_the_dumps(database: Database, factory: Factory) -> None:
    arguments = (database.target, database.server.passwords["postgres"], database.name)
    with database.connect("postgres") as connection:
        connection.execute(
            "update public.account_settings set lock_limit = '9 h', bcrypt_cost = 5;"
            "update public.trail_retention set months = 1, months_ahead = 9"
        )
    wanted: dict[str, Any] = {
        "signed_context": True,
        "encrypt_password_hash": True,
        "retention_months": 36,
        "bcrypt_cost": 4,
    }
    health = _finish(*arguments, factory.opt_in, **wanted)
    assert health.ok, health
    assert database.rows(
        "select s.lock_limit::text, s.bcrypt_cost, s.encrypt_password_hash, k.enforced, "
        "(select array_agg(distinct array[r.months, r.months_ahead]) from public.trail_retention "
        "as r) from public.account_settings as s, public.context_key as k"
    ) == [("00:15:00", 4, True, True, [[36, 3]])]
    assert (
        database.one("select count(*) from public.auth_users where password_hash_encrypted is null")
        == 0
    )
    # Back again, with another key than the one that the hashes are encrypted with: it stays shut.
    with pytest.raises(UsageError, match="another key"):
        prepare.finish(*arguments, factory.opt_in, SETTINGS, "another key")
    assert _let_in(database) == {"pandom_migrator"}
    assert _finish(*arguments, factory.opt_in).ok
    with database.connect() as connection:
        row = connection.execute(
            "select count(*) from public.sign_in(%s, %s)", (ALICE.email, PASSWORD)
        ).fetchone()
    assert row == (1,)

"""Dump and restore as the source document types them (D3, D4)."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import psycopg.errors
import pytest
from psycopg import sql

from pandom.database import cluster, prepare
from pandom.database.converge import difference
from pandom.errors import Failure, UserMistake
from pandom.naming import image_name
from schema import access
from tests.fixtures.catalog import differences, facts
from tests.fixtures.databases import ALICE, PASSWORD, Database, Factory

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
        done = _client(
            restored,
            "psql",
            "-q",
            "-h",
            "localhost",
            "-U",
            "pandom_user",
            "-d",
            restored.name,
            text=text,
        )
        # psql exits 0 whatever happens: its messages decide.
        assert [line for line in done.stderr.splitlines() if "ERROR" in line] == []
        health = prepare.finish(database.target, password, restored.name, factory.opt_in)
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
            assert not difference(connection, factory.opt_in)
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


@pytest.mark.requirement("D4")
def test_control_without_prepare_a_restore_has_errors(database: Database, factory: Factory) -> None:
    text = _dump(database)
    with factory.made() as plain:
        done = _client(
            plain,
            "psql",
            "-q",
            "-h",
            "localhost",
            "-U",
            "pandom_user",
            "-d",
            plain.name,
            text=text,
        )
    assert "ERROR" in done.stderr


@pytest.mark.requirement("D4")
def test_prepare_refuses_a_database_in_use(database: Database) -> None:
    password = database.server.passwords["postgres"]
    with pytest.raises(UserMistake, match="not empty"):
        prepare.prepare(database.target, password, database.name, database.opt_in)


@pytest.mark.requirement("D4")
def test_finish_refuses_a_database_without_the_dump(factory: Factory, empty: Database) -> None:
    with pytest.raises(Failure, match="was not restored"):
        prepare.finish(empty.target, empty.server.passwords["postgres"], empty.name, factory.opt_in)
    members = [m for m in access.MEMBERSHIPS if m.member == "pandom_user"]
    rows = empty.rows("select count(*) from pg_auth_members where member = 'pandom_user'::regrole")
    assert rows == [(len(members),)]

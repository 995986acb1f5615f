"""Revisions go up, down and up again with data, and say so when they cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest
from alembic.script import ScriptDirectory

from pandom.database import migrate, revisions, seed
from pandom.runtime.errors import Failure, UsageError
from tests.fixtures.catalog import differences, facts
from tests.fixtures.databases import PEOPLE, Database

REVISIONS = [
    s.revision
    for s in reversed(list(ScriptDirectory.from_config(migrate.configuration()).walk_revisions()))
]


def _facts(database: Database, *kinds: str) -> dict[str, str]:
    with database.connect("pandom_user") as connection:
        return facts(connection, *kinds)


@pytest.mark.requirement("M1")
def test_revisions_are_one_line_of_numbers() -> None:
    scripts = ScriptDirectory.from_config(migrate.configuration())
    assert scripts.get_heads() == [REVISIONS[-1]]
    assert [f"{n:04}" for n in range(1, len(REVISIONS) + 1)] == REVISIONS
    for script in scripts.walk_revisions():
        assert script.doc
        assert Path(script.path).name.startswith(f"{script.revision}_")
        text = script.module.__doc__ or ""
        assert "Locks:" in text, script.revision
        assert "Rollback:" in text, script.revision


@pytest.mark.requirement("M3", "M1", "T6")
def test_each_revision_goes_down_and_up_again(empty: Database) -> None:
    runner = empty.runner()
    at: dict[str, dict[str, str]] = {}
    for revision in REVISIONS:
        migrate.upgrade(runner, revision)
        at[revision] = _facts(empty)
    migrate.finish(runner)
    complete = _facts(empty)
    for revision in reversed(REVISIONS[:-1]):
        assert migrate.revert(runner, revision)[1] == revision
        # Partitions protected by 0004 stay so: taking protection away would help nobody.
        left = [
            line
            for line in differences(at[revision], _facts(empty))
            if not any(part in line for part in ("_default", "_y20", "trail_archive"))
        ]
        assert left == []
    migrate.revert(runner, "base")
    assert not list(_facts(empty, "type", "function", "view", "policy", "trigger"))
    migrate.upgrade(runner)
    migrate.finish(runner)
    assert differences(complete, _facts(empty)) == []


def _content(database: Database) -> list[tuple[Any, ...]]:
    return database.rows(
        "select id, user_uuid, event_type, timestamp, details::text, epoch, tx::text "
        "from public.audit_logs union all "
        "select id, user_uuid, event_type, timestamp, details::text, epoch, tx::text "
        "from public.security_logs order by 1, 3, 4, 5"
    )


@pytest.mark.requirement("M3", "P5")
def test_below_the_trail_its_rows_wait_in_the_archive(database: Database) -> None:
    with database.owner("pandom_trail") as connection:
        connection.execute(
            "insert into public.audit_logs (event_type, timestamp) "
            "select 'old', '2019-01-01'::timestamptz + n * interval '1 day' "
            "from generate_series(1, 60) as n"
        )
    before = _content(database)
    runner = database.runner()
    migrate.revert(runner, "0001")
    with database.owner("pandom_trail") as connection:
        row = connection.execute(
            "select (select count(*) from trail_archive.audit_logs) "
            "+ (select count(*) from trail_archive.security_logs)"
        ).fetchone()
    assert row is not None
    assert row[0] >= len(before)
    assert database.one("select count(*) from public.auth_users") == len(PEOPLE) + 1
    migrate.upgrade(runner)
    migrate.finish(runner)
    again = _content(database)
    assert [row for row in before if row not in again] == []
    # New numbers begin after the old ones.
    with database.owner("pandom_trail") as connection:
        row = connection.execute(
            "insert into public.audit_logs (event_type) values ('x') returning id"
        ).fetchone()
    assert row is not None
    assert row[0] > max(r[0] for r in before)
    with database.owner("pandom_trail") as connection:
        left = connection.execute(
            "select count(*) from pg_class where relnamespace = 'trail_archive'::regnamespace"
        ).fetchone()
    assert left == (0,)


@pytest.mark.requirement("M3")
def test_production_does_not_go_below_the_trail(database: Database) -> None:
    before = _content(database)
    with pytest.raises(UsageError, match="does not go below revision"):
        migrate.revert(database.runner(production=True), "0001")
    assert database.one("select version_num from public.alembic_version") >= "0002"
    assert [row for row in before if row not in _content(database)] == []


@pytest.mark.requirement("M1")
@pytest.mark.parametrize("target", ["9999", "nonsense", "", "+1", "-x"])
def test_an_unknown_revision_is_a_mistake(database: Database, target: str) -> None:
    with pytest.raises(UsageError, match="there is no revision"):
        migrate.revert(database.runner(), target)


@pytest.mark.requirement("M1")
def test_show_says_what_is_applied(database: Database) -> None:
    runner = database.runner()
    assert [line[:3] for line in _history(database)] == ["[x]"] * len(REVISIONS)
    migrate.revert(runner, "-1")
    rows = [line.split(" ", 2) for line in map(_plain, _history(database))]
    assert [number for _, number, _ in rows] == REVISIONS[::-1]
    assert [mark for mark, _, _ in rows] == ["-"] + ["x"] * (len(REVISIONS) - 1)
    assert all(purpose for _, _, purpose in rows)


def _history(database: Database) -> list[str]:
    with database.connect("pandom_user") as connection:
        return revisions.history(revisions.every(), revisions.read(connection))


def _plain(line: str) -> str:
    return line.replace("[ ]", "-").replace("[x]", "x")


def _rows(database: Database) -> dict[str, int]:
    """How many rows each table has, but those of which revisions write some."""
    names = [name.removeprefix("relation ") for name in _facts(database, "relation")]
    tables = ("auth_users", "user_profiles", "sessions", "audit_logs")
    return {
        name: database.one(f"select count(*) from {name}")
        for name in names
        if name.removeprefix("public.") in tables
    }


@pytest.mark.requirement("M2", "M3")
@pytest.mark.parametrize("older", REVISIONS[:-1])
def test_an_older_database_upgraded_equals_a_fresh_one(
    empty: Database, shared: Database, older: str
) -> None:
    runner = empty.runner()
    migrate.upgrade(runner, older)
    with empty.owner() as connection:
        connection.execute(
            "with p as (insert into public.user_profiles (tags) values ('{a}') returning uuid), "
            "u as (insert into public.auth_users (email, password_hash, profile_uuid) "
            "select 'a@example.com', %s, uuid from p returning uuid) "
            "insert into public.sessions (user_uuid, token, expires_at) "
            "select uuid, encode(sha256('t'), 'hex'), now() + interval '1 day' from u",
            (seed.hash_password("a password of tests", 4),),
        )
    if older > "0001":
        with empty.owner("pandom_trail") as connection:
            connection.execute("insert into public.audit_logs (event_type) values ('seen')")
    before = _rows(empty)
    assert migrate.upgrade(runner) == (older, REVISIONS[-1])
    migrate.finish(runner)
    assert before.items() <= _rows(empty).items()
    assert differences(_facts(empty), _facts(shared)) == []


@pytest.mark.requirement("M2")
def test_an_upgraded_database_that_differs_is_seen(empty: Database, shared: Database) -> None:
    runner = empty.runner()
    migrate.upgrade(runner, REVISIONS[0])
    with empty.owner() as connection:
        connection.execute("alter table public.sessions alter column user_agent set default 'x'")
    migrate.upgrade(runner)
    migrate.finish(runner)
    (line,) = differences(_facts(empty), _facts(shared))
    assert line.startswith("column public.sessions.user_agent")


@pytest.mark.requirement("M4")
def test_a_failing_revision_says_which_and_why(
    empty: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = empty.runner()
    migrate.upgrade(runner, "0001")
    with empty.owner() as connection:
        connection.execute("create table public.audit_logs (a int)")
    with pytest.raises(Failure) as raised:
        migrate.upgrade(runner)
    text = str(raised.value)
    assert "revision 0002 failed" in text
    assert 'relation "audit_logs" already exists' in text
    assert "the database is at 0001" in text
    assert runner.password not in text
    # Red stays red, and green follows the correction.
    with pytest.raises(Failure, match="revision 0002"):
        migrate.upgrade(runner)
    with empty.owner() as connection:
        connection.execute("drop table public.audit_logs")
    assert migrate.upgrade(runner) == ("0001", REVISIONS[-1])


@pytest.mark.requirement("M2")
def test_the_application_cannot_migrate(shared: Database) -> None:
    with shared.connect() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("update public.alembic_version set version_num = 'x'")

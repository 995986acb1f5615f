"""Revisions down and up again with 100,000 users and a million rows of the trail.

`make soak`; one round takes some minutes, and is not done again at the same commit.
"""

from __future__ import annotations

import time
from decimal import Decimal
from typing import Final

import psycopg
import pytest
from psycopg import sql

from pandom.audit import trail
from pandom.database import migrate
from pandom.database.janitor import partitions, sealed
from tests.fixtures.databases import Database
from tests.fixtures.soak import Progress
from tests.migrations.test_revisions import REVISIONS

USERS: Final = 100_000
EVENTS: Final = 1_000_000
MONTHS: Final = 12
ACCOUNTS: Final = ("public.auth_users", "public.user_profiles", "public.sessions")
LOGS: Final = ("audit_logs", "security_logs")
# A count and a sum over every row's text: both change when one character of one row does.
Sum = tuple[int, Decimal | None]


def fill(database: Database) -> None:
    """People through the triggers, which write the trail; then events of the last year."""
    with database.owner() as connection:
        for statement in (
            "insert into public.user_profiles (uuid, tags, metadata) "
            "select md5('p' || n)::uuid, array['tag-' || n %% 97], jsonb_build_object('n', n) "
            "from generate_series(1, %(users)s) as n",
            "insert into public.auth_users (uuid, email, password_hash, profile_uuid) "
            "select md5('u' || n)::uuid, 'user' || n || '@example.com', a.password_hash, "
            "md5('p' || n)::uuid from generate_series(1, %(users)s) as n "
            "cross join (select password_hash from public.auth_users limit 1) as a",
            "insert into public.sessions (user_uuid, token, expires_at) "
            "select md5('u' || n)::uuid, encode(sha256(n::text::bytea), 'hex'), "
            "now() + interval '1 day' from generate_series(1, %(users)s) as n",
        ):
            connection.execute(statement.encode(), {"users": USERS})
    with database.owner("pandom_trail") as connection:
        connection.execute(
            "insert into public.audit_logs (user_uuid, event_type, timestamp, details) "
            "select md5('u' || n %% %(users)s)::uuid, 'seen', "
            "now() - n * (make_interval(months => %(months)s) / %(events)s), "
            "jsonb_build_object('n', n) from generate_series(1, %(events)s) as n",
            {"users": USERS, "events": EVENTS, "months": MONTHS},
        )
    maintain(database)


def maintain(database: Database) -> None:
    """What the janitor does: partitions of the past months, and the chain sealed to the end."""
    with database.connect("pandom_janitor", autocommit=True) as connection:
        partitions(connection)
        sealed(connection)


def checksum(database: Database, table: str, role: str, until: int | None = None) -> Sum:
    """Of a table as the owner sees it; with ``until``, of the rows up to this number."""
    with database.owner(role) as connection:
        row = connection.execute(
            sql.SQL(
                "select count(*), sum(hashtextextended(t::text, 0)::numeric) from {} as t {}"
            ).format(
                sql.Identifier(*table.split(".")),
                sql.SQL("" if until is None else "where t.id <= {}").format(sql.Literal(until)),
            )
        ).fetchone()
    assert row is not None
    return row[0], row[1]


def accounts(database: Database) -> dict[str, Sum]:
    return {table: checksum(database, table, "pandom_owner") for table in ACCOUNTS}


def events(database: Database, schema: str, until: dict[str, int]) -> dict[str, Sum]:
    return {
        log: checksum(database, f"{schema}.{log}", "pandom_trail", last)
        for log, last in until.items()
    }


def newest(database: Database) -> dict[str, int]:
    with database.owner("pandom_trail") as connection:
        rows = [
            connection.execute(sql.SQL("select max(id) from public.{}").format(sql.Identifier(log)))
            for log in LOGS
        ]
        return {log: row.fetchall()[0][0] for log, row in zip(LOGS, rows, strict=True)}


def verified(database: Database) -> trail.Verdict:
    with database.connect("pandom_auditor") as connection:
        return trail.verify(connection)


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.requirement("M3", "M4", "P5")
def test_every_revision_down_and_up_with_a_full_database(
    database: Database, pytestconfig: pytest.Config
) -> None:
    progress = Progress.of(pytestconfig, "sizes")
    if progress.done:
        return
    clock = time.monotonic()

    def took(what: str) -> None:
        nonlocal clock
        print(f"{what}: {time.monotonic() - clock:.1f} s")
        clock = time.monotonic()

    fill(database)
    took(f"{USERS:,} users and {EVENTS:,} events made")
    before, until = accounts(database), newest(database)
    trail_before = events(database, "public", until)
    assert before["public.auth_users"][0] > USERS
    assert trail_before["audit_logs"][0] > EVENTS
    sealed = verified(database)
    assert (sealed.exit_code, sealed.rows >= EVENTS) == (0, True)
    took(f"{sealed.rows:,} sealed rows verified")

    runner = database.runner()
    for revision in reversed(REVISIONS[:-1]):
        migrate.revert(runner, revision)
        took(f"down to {revision}")
        schema = "public" if revision > "0001" else "trail_archive"
        assert accounts(database) == before, revision
        assert events(database, schema, until) == trail_before, revision
        took("counted")
    for revision in REVISIONS[1:]:
        migrate.upgrade(runner, revision)
        took(f"up to {revision}")
        assert accounts(database) == before, revision
        assert events(database, "public", until) == trail_before, revision
        took("counted")
    migrate.finish(runner)

    maintain(database)
    took("new events sealed")
    assert database.one("select count(*) from public.audit_logs_default") == 0
    assert events(database, "public", until) == trail_before
    again = verified(database)
    assert again.problems == ()
    assert again.rows >= sealed.rows
    took("verified")
    progress.note(1)


@pytest.mark.soak
@pytest.mark.requirement("M3")
def test_control_one_changed_row_of_the_trail_is_seen(database: Database) -> None:
    until = newest(database)
    before = events(database, "public", until), accounts(database)
    with database.owner("pandom_trail") as connection:
        connection.execute("update public.audit_logs set details = '{}' where id = 1")
    with database.owner() as connection, connection.cursor() as cursor:
        cursor.execute("update public.user_profiles set tags = '{}' where 'alice' = any (tags)")
    left, right = events(database, "public", until), accounts(database)
    assert left["audit_logs"] != before[0]["audit_logs"]
    assert left["security_logs"] == before[0]["security_logs"]
    assert right["public.user_profiles"] != before[1]["public.user_profiles"]
    with pytest.raises(psycopg.errors.UndefinedTable):
        events(database, "trail_archive", until)

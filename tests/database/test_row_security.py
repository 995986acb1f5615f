"""Row security per login × table × command × context, each with its negative control.

The matrix is data: what a context lets a login do with a table. docs/ shows it.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import psycopg.errors
import pytest

from pandom.database import made
from schema.models import mappers
from tests.fixtures.databases import (
    ALICE,
    BOB,
    DORA,
    FORMER,
    ROOT,
    Database,
    Person,
    own_key,
    own_tables,
    set_user,
)

DENIED = psycopg.errors.InsufficientPrivilege
TABLES = own_tables()
OWN = {table: str(mapper.class_.__declared__.owned_by) for table, mapper in TABLES.items()}
UNKNOWN = uuid.UUID(int=7)
NOBODY = {
    "none": None,
    "empty": "",
    "unknown": str(UNKNOWN),
    "deactivated": str(DORA.uuid),
}


def _key(table: str, person: Person) -> uuid.UUID:
    return own_key(TABLES[table], person)


@contextmanager
def _context(database: Database, value: str | None) -> Iterator[psycopg.Connection]:
    with database.user() as connection:
        if value is not None:
            set_user(connection, value)
        yield connection


def _seen(connection: psycopg.Connection, table: str) -> set[uuid.UUID]:
    query = f"select distinct {OWN[table]} from public.{table}"
    return {row[0] for row in connection.execute(query.encode()).fetchall()}


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("table", OWN)
def test_a_user_sees_its_own_rows_only(shared: Database, table: str) -> None:
    for person in (ALICE, BOB, ROOT):
        with shared.user(person) as connection:
            assert _seen(connection, table) == {_key(table, person)}
    assert shared.one(f"select count(*) from public.{table}") >= 5


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("table", OWN)
@pytest.mark.parametrize("context", NOBODY)
def test_without_a_valid_context_there_are_no_rows(
    shared: Database, table: str, context: str
) -> None:
    with _context(shared, NOBODY[context]) as connection:
        assert _seen(connection, table) == set()


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("table", OWN)
def test_a_malformed_context_is_an_error(shared: Database, table: str) -> None:
    with (
        _context(shared, "x' or true --") as connection,
        pytest.raises(psycopg.errors.InvalidTextRepresentation),
    ):
        _seen(connection, table)


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("table", OWN)
def test_a_context_does_not_outlive_its_transaction(shared: Database, table: str) -> None:
    # What a pooler hands to the next user of the connection.
    with shared.connect() as connection:
        set_user(connection, ALICE.uuid)
        assert _seen(connection, table) != set()
        connection.commit()
        assert _seen(connection, table) == set()
        connection.rollback()
        set_user(connection, BOB.uuid)
        assert _seen(connection, table) == {_key(table, BOB)}


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("table", OWN)
def test_administrators_see_everything_in_their_role_only(shared: Database, table: str) -> None:
    with shared.user(ROOT) as connection:
        assert _seen(connection, table) == {_key(table, ROOT)}
    with shared.admin() as connection:
        assert {_key(table, ALICE), _key(table, BOB)} < _seen(connection, table)
    for person in (ALICE, FORMER):
        with shared.admin(person) as connection:
            assert _seen(connection, table) == set()
    with shared.user() as connection:
        connection.execute("set local role pandom_admin")
        assert _seen(connection, table) == set()


@pytest.mark.requirement("P2")
def test_a_former_administrator_loses_everything_at_once(database: Database) -> None:
    with database.connect("pandom_user") as connection:
        connection.execute(
            "update public.auth_users set role = 'user' where uuid = %s", (ROOT.uuid,)
        )
    with database.admin() as connection:
        for table in OWN:
            assert _seen(connection, table) == set()


# What is refused before any row is looked at.
STATEMENTS = {
    "auth_users": {
        "insert": "insert into public.auth_users (email, password_hash) values ('n@x.yz', 'x')",
        "update": "update public.auth_users set role = 'admin'",
        "verify": "update public.auth_users set is_verified = true",
        "delete": "delete from public.auth_users",
        "upsert": "insert into public.auth_users (email, password_hash) values ('n@x.yz', 'x') "
        "on conflict (email) do update set role = 'admin'",
        "copy": "copy public.auth_users (email) from stdin",
        "lock": "select uuid from public.auth_users for update",
        "merge": "merge into public.auth_users as t using (select 1) as s on false "
        "when not matched then insert (email, password_hash) values ('n@x.yz', 'x')",
    },
    "user_profiles": {
        "insert": "insert into public.user_profiles (tags) values ('{x}')",
        "own uuid": "update public.user_profiles set uuid = gen_random_uuid()",
        "delete": "delete from public.user_profiles",
        "upsert": "insert into public.user_profiles (tags) values ('{x}') "
        "on conflict (uuid) do nothing",
        "copy": "copy public.user_profiles from stdin",
    },
    "sessions": {
        "insert": "insert into public.sessions (user_uuid, token, expires_at) "
        "values (gen_random_uuid(), repeat('a', 64), now() + interval '1 h')",
        "update": "update public.sessions set expires_at = 'infinity'",
        "token": "delete from public.sessions where token > '' returning token",
        "copy": "copy public.sessions from stdin",
    },
    "audit_logs": {
        "insert": "insert into public.audit_logs (event_type) values ('x')",
        "update": "update public.audit_logs set details = '{}'",
        "delete": "delete from public.audit_logs",
        "partition": "select * from public.audit_logs_default",
        "copy": "copy public.audit_logs from stdin",
    },
    "security_logs": {
        "insert": "insert into public.security_logs (event_type) values ('x')",
        "update": "update public.security_logs set details = '{}'",
        "delete": "delete from public.security_logs",
        "partition": "select * from public.security_logs_default",
        "copy": "copy public.security_logs from stdin",
    },
}


@pytest.mark.requirement("P2", "A3")
@pytest.mark.parametrize(
    ("table", "command"), [(t, c) for t, commands in STATEMENTS.items() for c in commands]
)
@pytest.mark.parametrize("role", ["pandom_app", "pandom_admin"])
def test_what_is_not_granted_is_refused(
    shared: Database, table: str, command: str, role: str
) -> None:
    with shared.user(ROOT) as connection:
        connection.execute(f"set local role {role}".encode())
        with pytest.raises(DENIED):
            connection.execute(STATEMENTS[table][command].encode())


@pytest.mark.requirement("P2", "A3")
@pytest.mark.parametrize("table", OWN)
@pytest.mark.parametrize("privilege", ["insert", "update", "delete", "truncate"])
@pytest.mark.parametrize("role", ["pandom_app", "pandom_admin"])
def test_no_more_is_granted_than_the_model_declares(
    shared: Database, table: str, privilege: str, role: str
) -> None:
    # The check looks at columns, too: a privilege on one of them is enough.
    declared = {
        word.lower()
        for allow in TABLES[table].class_.__declared__.allow
        if allow.role == role
        for word in allow.privileges.split()
    }
    of_columns = (
        "" if privilege in ("delete", "truncate") else (" or has_any_column_privilege(%s, %s, %s)")
    )
    asked = (role, f"public.{table}", privilege)
    found = shared.one(
        f"select has_table_privilege(%s, %s, %s){of_columns}",
        *asked,
        *(asked if of_columns else ()),
    )
    assert found == (privilege in declared)


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("person", [ALICE, BOB])
def test_changes_reach_own_rows_only(shared: Database, person: Person) -> None:
    other = BOB if person is ALICE else ALICE
    with shared.user(person) as connection:
        assert connection.execute("update public.user_profiles set tags = '{x}'").rowcount == 1
        assert (
            connection.execute(
                "update public.user_profiles set tags = '{x}' where uuid = %s", (other.profile,)
            ).rowcount
            == 0
        )
        assert connection.execute("delete from public.sessions").rowcount == 1
        rows = connection.execute(
            "update public.user_profiles set metadata = '{}' returning uuid"
        ).fetchall()
        assert rows == [(_key("user_profiles", person),)]


@pytest.mark.requirement("P2")
def test_copy_to_gives_own_rows_only(shared: Database) -> None:
    with shared.user(ALICE) as connection, connection.cursor() as cursor:
        with cursor.copy("copy (select uuid from public.auth_users) to stdout") as copy:
            assert [row[0] for row in copy.rows()] == [str(ALICE.uuid)]
        with pytest.raises(DENIED):
            connection.execute("copy public.auth_users to stdout")


@pytest.mark.requirement("P2")
def test_nobody_learns_who_exists_by_an_error_or_a_count(shared: Database) -> None:
    # A unique violation, a foreign key and an estimate are the classic probes.
    with shared.user(ALICE) as connection, pytest.raises(DENIED):
        connection.execute(
            "insert into public.auth_users (email, password_hash) values (%s, 'x')",
            (BOB.email,),
        )
    with shared.user(ALICE) as connection:
        row = connection.execute(
            "select count(*) from public.auth_users where lower(email) = %s", (BOB.email,)
        ).fetchone()
        assert row == (0,)
        with pytest.raises(DENIED):
            connection.execute("select * from pg_catalog.pg_statistic")
    with shared.user(ALICE) as connection:
        # Statistics of columns under row security are hidden from those under it.
        assert (
            connection.execute(
                "select * from pg_stats where schemaname = 'public' and tablename = 'auth_users'"
            ).fetchall()
            == []
        )


@pytest.mark.requirement("P2")
def test_a_leaky_function_sees_no_row_of_others(shared: Database) -> None:
    # Only leakproof operators run before the policy; an error would show the value.
    with shared.user(ALICE) as connection:
        rows = connection.execute(
            "select uuid from public.auth_users "
            "where 1 / (case when email = %s then 0 else 1 end) = 1",
            (BOB.email,),
        ).fetchall()
    assert rows == [(ALICE.uuid,)]


@pytest.mark.requirement("P2")
def test_row_security_is_enabled_and_forced_everywhere(shared: Database) -> None:
    guarded = [
        mapper.class_.__tablename__
        for mapper in mappers()
        if made.limited_roles(mapper.class_.__declared__)
    ]
    assert {*OWN, "trail_blocks"} <= set(guarded)
    rows = shared.rows(
        """
        select c.relname, c.relrowsecurity, c.relforcerowsecurity,
            exists (select from pg_policy as p where p.polrelid = c.oid)
        from pg_class as c
        left join pg_inherits as i on c.oid = i.inhrelid
        where c.relkind in ('r', 'p')
            and coalesce(nullif(i.inhparent, 0), c.oid)::regclass = any(%s::regclass[])
        """,
        [f"public.{name}" for name in guarded],
    )
    assert len(rows) > 10
    assert [row for row in rows if row[1:] != (True, True, True)] == []


@pytest.mark.requirement("P2")
def test_every_policy_names_its_role(shared: Database) -> None:
    rows = shared.rows("select tablename, policyname from pg_policies where 'public' = any(roles)")
    assert rows == []


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("table", OWN)
def test_control_without_its_policy_a_table_shows_others(database: Database, table: str) -> None:
    # The same look as above must see strangers as soon as the policy lets them through.
    owner = TABLES[table].class_.__declared__.owner
    with database.owner(owner) as connection:
        connection.execute(
            f"drop policy user_isolation on public.{table};"
            f"create policy user_isolation on public.{table} to pandom_app using (true)".encode()
        )
    with database.user(ALICE) as connection:
        assert _key(table, BOB) in _seen(connection, table)
    with database.owner(owner) as connection:
        connection.execute(f"drop policy user_isolation on public.{table}".encode())
    with database.user(ALICE) as connection:
        assert _seen(connection, table) == set()


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("table", OWN)
def test_control_without_row_security_a_table_shows_others(database: Database, table: str) -> None:
    owner = TABLES[table].class_.__declared__.owner
    with database.owner(owner) as connection:
        connection.execute(f"alter table public.{table} disable row level security".encode())
    with database.user(ALICE) as connection:
        assert _key(table, BOB) in _seen(connection, table)


@pytest.mark.requirement("P2")
def test_the_policy_is_evaluated_once_per_query(shared: Database) -> None:
    with shared.user(ALICE) as connection:
        for table, column in OWN.items():
            plan = "\n".join(
                row[0]
                for row in connection.execute(
                    f"explain (verbose, costs off) select {column} from public.{table}".encode()
                ).fetchall()
            )
            assert "InitPlan" in plan, plan
            assert plan.count("current_user_id()") + plan.count("current_profile_id()") == 1, plan


@pytest.mark.requirement("P2")
def test_parallel_workers_see_the_same_rows(shared: Database) -> None:
    with shared.user(ALICE) as connection:
        connection.execute(
            "set local debug_parallel_query = on; set local parallel_setup_cost = 0;"
            "set local parallel_tuple_cost = 0; set local min_parallel_table_scan_size = 0"
        )
        for table in OWN:
            assert _seen(connection, table) == {_key(table, ALICE)}

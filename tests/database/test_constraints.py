"""Constraints and automatic columns, whoever writes."""

from __future__ import annotations

import uuid

import psycopg
import psycopg.errors
import pytest

from tests.fixtures.databases import ALICE, BOB, Database

HASH = "$2a$04$" + "a" * 53


@pytest.mark.requirement("C4", "C5", "T1", "T2", "T3", "T4", "T5", "C3")
@pytest.mark.parametrize(
    ("statement", "constraint"),
    [
        (
            "insert into public.auth_users (email, password_hash) "
            f"values ('{ALICE.email}', '{HASH}')",
            "uq_auth_users_email",
        ),
        (
            "insert into public.auth_users (email, password_hash) "
            f"values ('{ALICE.email.upper()}', '{HASH}')",
            "idx_auth_users_email",
        ),
        (
            f"insert into public.auth_users (email, password_hash) values ('x@y', '{HASH}')",
            "ck_auth_users_email",
        ),
        (
            "insert into public.auth_users (email, password_hash) values ('x@y.zz', 'secret')",
            "ck_auth_users_password_hash",
        ),
        (
            "update public.auth_users set reset_token = 'clear', reset_token_expiry = now()",
            "ck_auth_users_reset_token",
        ),
        (
            "update public.auth_users set refresh_token = repeat('a', 64)",
            "ck_auth_users_refresh_token",
        ),
        (
            "update public.auth_users set verification_token = repeat('A', 64), "
            "verification_expires = now()",
            "ck_auth_users_verification_token",
        ),
        (
            "update public.auth_users as u set profile_uuid = o.profile_uuid "
            f"from public.auth_users as o where o.uuid = '{BOB.uuid}' and u.uuid = '{ALICE.uuid}'",
            "uq_auth_users_profile_uuid",
        ),
        (
            "update public.auth_users set profile_uuid = gen_random_uuid()",
            "fk_auth_users_profile_uuid_user_profiles",
        ),
        (
            f"delete from public.user_profiles where uuid = '{ALICE.profile}'",
            "fk_auth_users_profile_uuid_user_profiles",
        ),
        ("insert into public.user_profiles (metadata) values ('[]')", "ck_user_profiles_metadata"),
        (
            "insert into public.sessions (user_uuid, token, expires_at) "
            "values (gen_random_uuid(), repeat('a', 64), now() + interval '1 h')",
            "fk_sessions_user_uuid_auth_users",
        ),
        (
            "insert into public.sessions (user_uuid, token, expires_at) "
            f"values ('{ALICE.uuid}', 'a token in clear', now() + interval '1 h')",
            "ck_sessions_token",
        ),
        (
            "insert into public.sessions (user_uuid, token, expires_at) "
            f"values ('{ALICE.uuid}', repeat('a', 64), now())",
            "ck_sessions_expires_at",
        ),
        (
            "insert into public.sessions (user_uuid, token, expires_at) "
            "select user_uuid, token, expires_at from public.sessions",
            "uq_sessions_token",
        ),
        ("update public.account_settings set bcrypt_cost = 3", "ck_account_settings_bcrypt_cost"),
        ("update public.account_settings set lock_limit = '1 s'", "ck_account_settings_positive"),
        (
            "insert into public.account_settings (only_row) values (false)",
            "ck_account_settings_only_row",
        ),
    ],
)
def test_a_constraint_refuses(shared: Database, statement: str, constraint: str) -> None:
    with shared.connect("pandom_user") as connection:
        with pytest.raises(psycopg.errors.IntegrityError) as raised:
            connection.execute(statement.encode())
        assert raised.value.diag.constraint_name == constraint
        connection.rollback()


@pytest.mark.requirement("T3", "T5")
@pytest.mark.parametrize("table", ["audit_logs", "security_logs"])
@pytest.mark.parametrize(
    ("values", "constraint"),
    [
        ("'x', 'fatal', '{}'", "severity"),
        ("'x', 'info', '[]'", "details"),
        ("null, 'info', '{}'", "event_type"),
    ],
)
def test_the_trail_refuses(shared: Database, table: str, values: str, constraint: str) -> None:
    with shared.owner("pandom_trail") as connection:
        with pytest.raises(psycopg.errors.IntegrityError) as raised:
            connection.execute(
                f"insert into public.{table} (event_type, severity, details) "
                f"values ({values})".encode()
            )
        diag = raised.value.diag
        assert constraint in (diag.constraint_name or diag.column_name or "")
        connection.rollback()


@pytest.mark.requirement("T1")
def test_every_column_with_a_default_is_not_null_and_moments_have_time_zones(
    shared: Database,
) -> None:
    rows = shared.rows(
        "select table_name, column_name from information_schema.columns "
        "where table_schema = 'public' and table_name <> 'alembic_version' "
        "and table_name !~ '_default$|_y[0-9]{4}m[0-9]{2}$' "
        "and (column_default is not null and is_nullable = 'YES' "
        "or data_type = 'timestamp without time zone')"
    )
    assert rows == []


@pytest.mark.requirement("T1")
def test_auth_users_has_the_columns_of_the_source(shared: Database) -> None:
    rows = shared.rows(
        "select column_name from information_schema.columns "
        "where table_schema = 'public' and table_name = 'auth_users' order by ordinal_position"
    )
    assert [name for (name,) in rows] == [
        "uuid",
        "email",
        "password_hash",
        "role",
        "is_active",
        "is_verified",
        "is_configured",
        "verification_token",
        "verification_expires",
        "reset_token",
        "reset_token_expiry",
        "refresh_token",
        "refresh_token_expires",
        "last_login_at",
        "profile_uuid",
        "created_at",
        "updated_at",
        "password_hash_encrypted",
    ]


@pytest.mark.requirement("T7")
@pytest.mark.parametrize("table", ["auth_users", "user_profiles"])
def test_updated_at_is_true_whoever_writes(database: Database, table: str) -> None:
    with database.connect("pandom_user", autocommit=True) as connection:
        connection.execute(f"update public.{table} set updated_at = 'epoch'".encode())
        row = connection.execute(
            f"select min(updated_at) > now() - interval '1 min', bool_and(updated_at > created_at) "
            f"from public.{table}".encode()
        ).fetchone()
    assert row == (True, True)


@pytest.mark.requirement("C1")
def test_a_deleted_user_takes_its_profile_along(database: Database) -> None:
    with database.connect("pandom_user") as connection:
        connection.execute("delete from public.auth_users where uuid = %s", (ALICE.uuid,))
    assert (
        database.one("select count(*) from public.user_profiles where uuid = %s", ALICE.profile)
        == 0
    )


@pytest.mark.requirement("C2")
def test_the_trail_names_deleted_users_without_a_foreign_key(database: Database) -> None:
    with database.connect("pandom_user") as connection:
        connection.execute("delete from public.auth_users where uuid = %s", (ALICE.uuid,))
    for table in ("audit_logs", "security_logs"):
        assert database.one(
            f"select count(*) from public.{table} where user_uuid = %s",
            ALICE.uuid,
        )
    assert (
        database.rows(
            "select conname from pg_constraint where contype = 'f' "
            "and conrelid in ('public.audit_logs'::regclass, 'public.security_logs'::regclass)"
        )
        == []
    )


@pytest.mark.requirement("C3")
def test_a_deleted_users_sessions_go_with_it(database: Database) -> None:
    with database.connect("pandom_user") as connection:
        connection.execute("delete from public.auth_users where uuid = %s", (ALICE.uuid,))
    assert (
        database.one("select count(*) from public.sessions where user_uuid = %s", ALICE.uuid) == 0
    )


@pytest.mark.requirement("C3")
def test_every_foreign_key_has_an_index(shared: Database) -> None:
    rows = shared.rows(
        """
        select c.conname from pg_constraint as c
        where c.contype = 'f' and c.connamespace = 'public'::regnamespace
            and not exists (
                select from pg_index as i
                where i.indrelid = c.conrelid
                    and (i.indkey::int2[])[0:cardinality(c.conkey) - 1] = c.conkey
            )
        """
    )
    assert rows == []


@pytest.mark.requirement("A4", "T4")
def test_an_insert_needs_no_sequence_privilege(database: Database) -> None:
    rows = database.rows(
        "select relname from pg_class where case when relkind = 'S' then "
        "has_sequence_privilege('pandom_app', oid, 'usage, select, update') end"
    )
    assert rows == []
    with database.connect("pandom_user") as connection:
        connection.execute(
            "insert into public.sessions (user_uuid, token, expires_at) "
            "values (%s, %s, now() + interval '1 h')",
            (ALICE.uuid, uuid.uuid4().hex * 2),
        )

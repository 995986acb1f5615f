"""Who may do what, exactly: one grant too many fails."""

from __future__ import annotations

import re

import psycopg
import psycopg.errors
import pytest

from pandom.database import cluster
from pandom.database.converge import compare, converge
from schema import access
from tests.fixtures.databases import Database, Factory
from tests.fixtures.server import Server

DENIED = psycopg.errors.InsufficientPrivilege
ALONE = ("vacuum", "create database", "alter system")  # refuse to run in a transaction
DDL = [
    "create table public.t (a int)",
    "create temp table t (a int)",
    "create view public.v as select 1",
    "create function public.f() returns int language sql as 'select 1'",
    "create type public.x as enum ('a')",
    "create schema s",
    "create extension hstore",
    "create sequence public.s",
    "create role r",
    "create database d",
    'create collation public.c from "C"',
    "create domain public.d as int",
    "create operator public.@@@ (function = int4pl, leftarg = int4, rightarg = int4)",
    "alter table public.auth_users add column x int",
    "drop table public.sessions",
    "drop policy user_isolation on public.auth_users",
    "truncate public.sessions",
    "alter table public.auth_users disable row level security",
    "create policy p on public.auth_users using (true)",
    "create trigger t after insert on public.sessions execute function public.watch_account()",
    "create rule r as on delete to public.sessions do instead nothing",
    "create publication p",
    "create event trigger e on ddl_command_end execute function public.watch_account()",
    "select lo_create(0)",
    "select lo_from_bytea(0, 'x')",
    "select lo_import('/etc/passwd')",
    "comment on table public.auth_users is 'mine'",
    "vacuum full public.sessions",
    "grant select on public.auth_users to public",
    "alter role pandom_app bypassrls",
    "alter system set work_mem = '1GB'",
    "copy public.sessions to '/tmp/x'",
    "copy public.sessions to program 'cat'",
    "set session_replication_role = replica",
    "set role pandom_owner",
    "set role pandom_definer",
    "set role pandom_trail",
    "set role postgres",
    "set session authorization postgres",
    "create server s foreign data wrapper w",
    "do language plpython3u 'x'",
    "load 'auto_explain'",
    "select pg_read_file('/etc/passwd')",
]
# Not the two that own tables, or may become who does, nor the one that a setting brings.
LOGINS = tuple(
    role.name
    for role in access.ROLES
    if role.login and not role.opt_in and role.name not in ("pandom_user", "pandom_migrator")
)


def _differences(database: Database) -> list[str]:
    with database.connect("pandom_migrator") as connection:
        found = compare(connection, database.opt_in)
    return [
        *(f"{one.id}: {dict(one.actual)}, not {dict(one.expected)}" for one in found.differences()),
        *(f"does not exist: {name}" for name in found.absent),
    ]


@pytest.mark.requirement("A2", "A3", "A4", "A6", "A7")
def test_object_privileges_are_the_declared_ones(shared: Database) -> None:
    assert _differences(shared) == []


@pytest.mark.requirement("A2", "A3", "A4", "A7")
@pytest.mark.parametrize(
    ("owner", "drift", "said"),
    [
        ("pandom_owner", "grant insert on public.auth_users to pandom_app", "INSERT"),
        ("pandom_owner", "grant select on public.auth_users to public", "PUBLIC"),
        (
            "pandom_owner",
            "grant select (password_hash) on public.auth_users to pandom_app",
            "password_hash",
        ),
        ("pandom_owner", "grant maintain on public.sessions to pandom_auditor", "MAINTAIN"),
        ("pandom_owner", "grant select on public.alembic_version to pandom_app", "alembic_version"),
        (
            "pandom_trail",
            "grant usage on sequence public.audit_logs_id_seq to pandom_app",
            "sequence",
        ),
        ("pandom_trail", "grant insert on public.audit_logs to pandom_service_or_app", "INSERT"),
        ("pandom_trail", "grant select on public.audit_logs_default to pandom_app", "_default"),
        (
            "pandom_definer",
            "grant execute on function public.rotate_context_key() to public",
            "rotate_context_key",
        ),
        (
            "pandom_definer",
            "revoke execute on function public.sign_in(text, text, text) from pandom_app",
            "missing",
        ),
        (
            "pandom_owner",
            "grant select on public.user_profiles to pandom_app with grant option",
            "SELECT*",
        ),
        ("pandom_owner", "grant usage on type public.userrole to public", "type"),
        (
            "pandom_owner",
            "create function public.f() returns int language sql as 'select 1'; "
            "grant execute on function public.f() to pandom_app",
            "public.f()",
        ),
    ],
)
def test_drift_of_an_object_is_found_and_healed(
    database: Database, owner: str, drift: str, said: str
) -> None:
    with database.owner(owner) as connection:
        connection.execute(drift.replace("pandom_service_or_app", "pandom_app").encode())
    found = _differences(database)
    assert len(found) == 1, found
    assert said in found[0]
    with database.connect("pandom_migrator") as connection:
        assert converge(connection, database.opt_in) > 0
    assert _differences(database) == []
    with database.connect("pandom_migrator") as connection:
        assert converge(connection, database.opt_in) == 0


@pytest.mark.requirement("A1", "A7")
def test_roles_are(server: Server, factory: Factory) -> None:
    with server.connect("postgres", "postgres") as connection:
        rows = connection.execute(
            """
            select rolname, rolcanlogin, rolinherit, rolbypassrls, rolconnlimit,
                rolsuper or rolcreatedb or rolcreaterole or rolreplication,
                shobj_description(oid, 'pg_authid')
            from pg_roles where rolname like 'pandom%'
            """
        ).fetchall()
    assert set(rows) == {
        (r.name, r.login, r.inherit, r.bypass_rls, r.connection_limit, False, r.comment)
        for r in access.roles(factory.opt_in)
    }
    assert {r.name for r in access.ROLES if r.bypass_rls} == {"pandom_owner", "pandom_user"}


@pytest.mark.requirement("A7")
def test_memberships_are(server: Server, factory: Factory) -> None:
    with server.connect("postgres", "postgres") as connection:
        rows = connection.execute(
            """
            select roleid::regrole::text, member::regrole::text, inherit_option, set_option,
                admin_option
            from pg_auth_members
            where roleid::regrole::text like 'pandom%' or member::regrole::text like 'pandom%'
            """
        ).fetchall()
    assert set(rows) == {
        (m.group, m.member, m.inherit, m.set_role, m.admin)
        for m in access.MEMBERSHIPS
        if m.member in {r.name for r in access.roles(factory.opt_in)}
    }


@pytest.mark.requirement("A2")
def test_database_and_schema_privileges_are(shared: Database) -> None:
    known = {r.name for r in access.roles(shared.opt_in)}
    rows = shared.rows(
        """
        select kind, grantee, privilege from (
            select 'database' as kind, datdba as owner, coalesce(datacl, acldefault('d', datdba))
            from pg_database where datname = current_database()
            union all
            select 'schema', nspowner, coalesce(nspacl, acldefault('n', nspowner))
            from pg_namespace where nspname = 'public'
        ) as o (kind, owner, acl)
        cross join lateral aclexplode(o.acl) as a (grantor, grantee_id, privilege, grantable)
        cross join lateral (select coalesce(
            (select rolname::text from pg_roles where oid = a.grantee_id), 'public')) as g (grantee)
        where a.grantee_id <> o.owner
        """
    )
    assert set(rows) == {
        (grant.kind, grant.role, privilege)
        for grant in (*access.database_grants(shared.name), *access.SCHEMA_GRANTS)
        for privilege in grant.privileges
        if grant.role in known
    }


@pytest.mark.requirement("A2")
@pytest.mark.parametrize("owner", ["pandom_owner", "pandom_trail", "pandom_definer"])
def test_public_gets_nothing_on_objects_made_later(database: Database, owner: str) -> None:
    with database.owner(owner) as connection:
        connection.execute(
            "create function public.probe() returns int language sql as 'select 1';"
            "create type public.probe_type as enum ('a'); create table public.probe_table (a int);"
        )
    for login in ("pandom_app", "pandom_auditor", "pandom_janitor"):
        with database.connect(login, autocommit=True) as connection:
            with pytest.raises(DENIED):
                connection.execute("select public.probe()")
            with pytest.raises(DENIED):
                connection.execute("select * from public.probe_table")
            row = connection.execute(
                "select has_type_privilege('public.probe_type', 'usage')"
            ).fetchone()
            assert row == (False,)


@pytest.mark.requirement("A2")
@pytest.mark.parametrize("login", LOGINS)
@pytest.mark.parametrize("name", ["postgres", "template1"])
def test_logins_enter_no_other_database(shared: Database, login: str, name: str) -> None:
    with shared.server.connect("postgres", "postgres") as connection:
        cluster.close_other_databases(connection)
    with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
        shared.server.connect(login, name)


@pytest.mark.requirement("A3")
def test_the_application_reads_no_hash_or_token(shared: Database) -> None:
    for column in (
        "password_hash",
        "password_hash_encrypted",
        "verification_token",
        "reset_token",
        "refresh_token",
    ):
        with shared.user() as connection, pytest.raises(DENIED):
            connection.execute(f"select {column} from public.auth_users".encode())
    with shared.user() as connection, pytest.raises(DENIED):
        connection.execute("select token from public.sessions")
    with shared.user() as connection, pytest.raises(DENIED):
        connection.execute("select * from public.alembic_version")
    with shared.user() as connection:
        columns = ", ".join(
            column
            for grant in access.table_grants()
            if (grant.name, grant.role) == ("public.auth_users", "pandom_app")
            for column in grant.columns
        )
        connection.execute(f"select {columns} from public.auth_users".encode())


@pytest.mark.requirement("M2", "A5")
@pytest.mark.parametrize("login", ["pandom_app", "pandom_mailer", "pandom_janitor"])
def test_a_login_creates_changes_and_drops_nothing(shared: Database, login: str) -> None:
    # What names something that does not exist is refused for that before privileges are looked
    # at; ALTER SYSTEM is switched off for everybody in the product's server.
    refusals = (
        DENIED,
        psycopg.errors.UndefinedObject,
        psycopg.errors.InvalidParameterValue,
        psycopg.errors.FeatureNotSupported,
    )
    done = []
    warnings: list[str] = []
    for alone in (False, True):
        with shared.connect(login, autocommit=alone) as connection:
            connection.add_notice_handler(lambda notice: warnings.append(notice.severity or ""))
            for statement in DDL:
                if statement.startswith(ALONE) is not alone:
                    continue
                warnings.clear()
                try:
                    connection.execute(statement.encode())
                except refusals:
                    pass
                else:
                    # VACUUM, GRANT and the like may warn that they did nothing.
                    if warnings != ["WARNING"]:
                        done.append(statement)
                connection.rollback()
    assert done == []
    assert _differences(shared) == []


@pytest.mark.requirement("A5")
@pytest.mark.parametrize(
    "change",
    [
        "alter role pandom_app set statement_timeout to 0",
        "alter role pandom_app set role to pandom_admin",
        "alter role pandom_app in database {} set search_path to pg_temp",
    ],
)
def test_what_a_role_does_to_itself_is_healed(database: Database, change: str) -> None:
    with database.connect("pandom_app", autocommit=True) as connection:
        connection.execute(change.format(database.name).encode())
    with database.server.connect("postgres", "postgres") as connection:
        cluster.apply_roles(connection, database.opt_in)
    with database.connect("pandom_app") as connection:
        row = connection.execute(
            "select current_setting('statement_timeout'), current_setting('role'), "
            "current_setting('search_path')"
        ).fetchone()
    assert row == ("30s", "none", '"$user", public')


@pytest.mark.requirement("A1")
def test_the_application_has_limits_and_a_scram_secret(server: Server, factory: Factory) -> None:
    with server.connect("postgres", "postgres") as connection:
        rows = connection.execute(
            "select rolname, rolpassword from pg_authid "
            "where rolcanlogin and rolname like 'pandom%'"
        ).fetchall()
    assert rows
    for name, stored in rows:
        assert re.match(r"SCRAM-SHA-256\$", stored or ""), name
    with server.connect("postgres", "postgres") as connection:
        settings = connection.execute(
            "select rolconfig from pg_roles where rolname = 'pandom_app'"
        ).fetchone()
    assert settings is not None
    names = {entry.split("=")[0] for entry in settings[0]}
    declared = next(role for role in access.ROLES if role.name == "pandom_app")
    assert names == set(declared.settings)
    assert {"statement_timeout", "temp_file_limit"} <= names


@pytest.mark.requirement("A6")
def test_the_operator_fixes_data_and_reads_everything(database: Database) -> None:
    with database.connect("pandom_user") as connection:
        count = connection.execute("update public.user_profiles set tags = '{}'").rowcount
        assert count > 3  # BYPASSRLS: no context needed
        for table in ("auth_users", "audit_logs", "outbox", "context_key", "alembic_version"):
            connection.execute(f"select * from public.{table}".encode())


@pytest.mark.requirement("A6")
@pytest.mark.parametrize(
    "statement",
    [
        "delete from public.audit_logs",
        "set role pandom_trail",
        "set role pandom_definer",
        "alter table public.audit_logs disable trigger all",
        "drop table public.audit_logs",
        "drop schema public cascade",
        "drop database pandom_db",
    ],
)
def test_the_operator_does_not_reach_the_trail(shared: Database, statement: str) -> None:
    with (
        shared.connect("pandom_user", autocommit=statement.startswith("drop database")) as c,
        pytest.raises((DENIED, psycopg.errors.InvalidCatalogName)),
    ):
        c.execute(statement.encode())


@pytest.mark.requirement("A7")
def test_nobody_but_the_definer_executes_pgcrypto(shared: Database) -> None:
    rows = shared.rows(
        """
        select distinct r.rolname
        from pg_proc as p
        inner join pg_depend as d on d.objid = p.oid and d.deptype = 'e'
        inner join pg_extension as e on d.refobjid = e.oid and e.extname = 'pgcrypto'
        cross join pg_roles as r
        where has_function_privilege(r.oid, p.oid, 'execute') and not r.rolsuper
        """
    )
    assert rows == [("pandom_definer",)]


@pytest.mark.requirement("A7")
def test_extensions_are_the_declared_ones(shared: Database) -> None:
    rows = shared.rows("select extname from pg_extension")
    assert {name for (name,) in rows} == set(access.EXTENSIONS)


@pytest.mark.requirement("A7")
def test_the_auditor_reads_the_evidence_and_writes_nothing(shared: Database) -> None:
    with shared.connect("pandom_auditor") as connection:
        for query in (
            "select count(*) from public.audit_logs",
            "select count(*) from public.security_logs",
            "select * from public.failed_logins_last_hour",
            "select * from public.suspicious_activity",
            "select count(*) from pg_hba_file_rules",
            "show ssl_cert_file",
        ):
            connection.execute(query.encode())
    with shared.connect("pandom_auditor", autocommit=True) as connection:
        connection.execute("set default_transaction_read_only to off")
        for refused in (
            "select * from public.auth_users",
            "insert into public.audit_logs (event_type) values ('x')",
            "select public.record_event('something')",
        ):
            with pytest.raises(DENIED):
                connection.execute(refused.encode())


@pytest.mark.requirement("A7")
@pytest.mark.parametrize(
    ("login", "allowed"),
    [
        ("pandom_mailer", {"claim_messages", "finish_message"}),
        (
            "pandom_janitor",
            {
                "delete_expired",
                "ensure_partitions",
                "drain_default",
                "expired_partitions",
                "read_partition",
                "partition_digest",
                "note_export",
                "drop_partition",
                "end_long_transactions",
            },
        ),
        ("pandom_auditor", set()),
        ("pandom_migrator", set()),
    ],
)
def test_functions_of_a_login_are(shared: Database, login: str, allowed: set[str]) -> None:
    rows = shared.rows(
        "select proname from pg_proc where pronamespace = 'public'::regnamespace "
        "and has_function_privilege(%s, oid, 'execute')",
        login,
    )
    assert {name for (name,) in rows} - {"seal_trail"} == allowed
    tables = shared.rows(
        "select relname from pg_class where relnamespace = 'public'::regnamespace "
        "and relkind in ('r', 'p', 'v') and (has_table_privilege(%s, oid, 'insert, update, "
        "delete, truncate, references, trigger, maintain') "
        "or (%s <> 'pandom_auditor' and has_any_column_privilege(%s, oid, 'select')))",
        login,
        login,
        login,
    )
    assert tables == []

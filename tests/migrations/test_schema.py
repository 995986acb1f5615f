"""Models, schema/sql and the migrated database say the same."""

from __future__ import annotations

import re

import psycopg
import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy.pool import NullPool

from pandom.database import made
from pandom.runtime.paths import ROOT
from schema.models import Base
from tests.fixtures.catalog import differences, facts
from tests.fixtures.databases import Database

SQL = ROOT / "schema" / "sql"
# What a model cannot declare: partitions, and Alembic's own table.
_NOT_MODELLED = re.compile(r"_default$|_y\d{4}m\d{2}$|^alembic_version$")


def _compare(database: Database) -> list[object]:
    raw = database.connect("pandom_migrator")
    raw.execute("set role pandom_owner")
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: raw, poolclass=NullPool
    )
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection,
            opts={
                "compare_type": True,
                "compare_server_default": True,
                "include_name": lambda name, kind, _: (
                    kind != "table" or not _NOT_MODELLED.search(name or "")
                ),
            },
        )
        return list(compare_metadata(context, Base.metadata))


@pytest.mark.requirement("M2", "T1", "T2", "T3", "T4", "T5", "T6")
def test_models_match_the_migrated_database(shared: Database) -> None:
    assert _compare(shared) == []


@pytest.mark.requirement("M2")
def test_columns_are_stored_as_the_models_say(shared: Database) -> None:
    # What alembic does not compare. What is not stated is the type's own way.
    letters = {"p": "plain", "e": "external", "m": "main", "x": "extended"}
    found = {
        (table, column): letters[letter]
        for table, column, letter in shared.rows(
            "select c.relname, a.attname, a.attstorage from pg_attribute as a "
            "inner join pg_class as c on a.attrelid = c.oid "
            "inner join pg_type as t on a.atttypid = t.oid "
            "where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') "
            "and a.attnum > 0 and a.attstorage <> t.typstorage"
        )
    }
    assert found == {
        (table.name, column.name): column.info["storage"]
        for table in Base.metadata.sorted_tables
        for column in table.columns
        if "storage" in column.info
    }


@pytest.mark.requirement("M2")
@pytest.mark.parametrize(
    "fault",
    [
        "alter table public.user_profiles add column extra text",
        "alter table public.sessions alter column ip_address type text",
        "alter table public.auth_users alter column role drop default",
        "drop index public.idx_user_profiles_tags",
        "comment on column public.sessions.token is 'else'",
    ],
)
def test_a_difference_from_the_models_is_found(database: Database, fault: str) -> None:
    with database.owner() as connection:
        connection.execute(fault.encode())
    assert _compare(database) != []


def _constraint_text(connection: psycopg.Connection) -> dict[str, str]:
    rows = connection.execute(
        "select conname, pg_get_constraintdef(oid) from pg_constraint "
        "where connamespace = 'public'::regnamespace and contype = 'c' "
        "and conparentid = 0 and conrelid::regclass::text !~ '_default$|_y[0-9]{4}m[0-9]{2}$'"
    )
    return {str(name): str(text) for name, text in rows.fetchall()}


@pytest.mark.requirement("C5", "C6", "M2")
def test_checks_of_the_models_are_those_of_the_database(database: Database) -> None:
    # Alembic compares names only; the server compares texts by parsing both.
    with psycopg.connect(database.server.dsn("postgres", database.name)) as connection:
        built = _constraint_text(connection)
        for table in Base.metadata.tables.values():
            for check in table.constraints:
                if not isinstance(check, sqlalchemy.CheckConstraint):
                    continue
                assert check.name in built, check.name
                connection.execute(
                    f"create table public.t (like public.{table.name});"
                    f"alter table public.t add constraint c check ({check.sqltext})".encode()
                )
                row = connection.execute(
                    "select pg_get_constraintdef(oid) from pg_constraint "
                    "where conname = 'c' and conrelid = 'public.t'::regclass"
                ).fetchone()
                assert row is not None
                assert row[0] == built[str(check.name)], check.name
                connection.execute("drop table public.t")
        connection.rollback()


@pytest.mark.requirement("M2", "C6")
def test_schema_sql_is_what_the_revisions_made(database: Database) -> None:
    # Applying the declared text once more must change nothing in any catalog.
    with database.connect("pandom_migrator") as connection:
        connection.execute("set role pandom_owner")
        before = facts(connection)
        for text in made.declared().values():
            connection.execute(text.encode())
        connection.execute("set local role pandom_owner")
        assert differences(before, facts(connection)) == []
        connection.rollback()


@pytest.mark.requirement("M2")
def test_an_edited_function_is_found(database: Database) -> None:
    with database.connect("pandom_migrator") as connection:
        before = facts(connection)
        text = (SQL / "functions" / "client_agent.sql").read_text().replace("512", "511")
        connection.execute(text.encode())
        assert differences(before, facts(connection)) != []
        connection.rollback()


@pytest.mark.requirement("M2")
@pytest.mark.parametrize("kind", ["function", "trigger", "policy", "view"])
def test_every_object_has_its_file(shared: Database, kind: str) -> None:
    # Partitions' policies are made by protect_partition().
    with shared.connect("pandom_user") as connection:
        found = {
            name.split("(")[0].removeprefix("public.")
            for name in (key.removeprefix(f"{kind} ") for key in facts(connection, kind))
            if not re.search(r"_(default|y\d{4}m\d{2})\.", name) and not name.endswith(".service")
        }
    if kind == "trigger":
        found = {name.split(".")[1] for name in found}
    folder = {"policy": "policies"}.get(kind, f"{kind}s")
    declared = (name.partition("/") for name in made.declared())
    assert found == {name for kind, _, name in declared if kind == folder}


@pytest.mark.requirement("C6", "T1")
def test_everything_of_ours_has_a_comment(shared: Database) -> None:
    missing = shared.rows(
        r"""
        with commented as (
            select classoid, objoid, objsubid from pg_description
        )
        select 'table ' || c.relname from pg_class as c
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v')
            and c.relname <> 'alembic_version'
            and not exists (select from commented as d where d.classoid = 'pg_class'::regclass
                and d.objoid = c.oid and d.objsubid = 0)
        union all
        select 'column ' || c.relname || '.' || a.attname
        from pg_attribute as a inner join pg_class as c on a.attrelid = c.oid
        where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')
            and not c.relispartition and a.attnum > 0 and not a.attisdropped
            and c.relname <> 'alembic_version'
            and not exists (select from commented as d where d.classoid = 'pg_class'::regclass
                and d.objoid = c.oid and d.objsubid = a.attnum)
        union all
        select 'constraint ' || o.conname from pg_constraint as o
        inner join pg_class as c on o.conrelid = c.oid
        where o.connamespace = 'public'::regnamespace and not c.relispartition
            and c.relname <> 'alembic_version' and o.contype <> 't'
            and not exists (select from commented as d
                where d.classoid = 'pg_constraint'::regclass and d.objoid = o.oid)
        union all
        select 'function ' || p.oid::regprocedure::text from pg_proc as p
        where p.pronamespace = 'public'::regnamespace
            and not exists (select from pg_depend as x where x.objid = p.oid and x.deptype = 'e')
            and not exists (select from commented as d
                where d.classoid = 'pg_proc'::regclass and d.objoid = p.oid)
        union all
        select 'trigger ' || t.tgname from pg_trigger as t
        where not t.tgisinternal and not exists (select from commented as d
                where d.classoid = 'pg_trigger'::regclass and d.objoid = t.oid)
        union all
        select 'policy ' || p.polname from pg_policy as p
        where not exists (select from commented as d
                where d.classoid = 'pg_policy'::regclass and d.objoid = p.oid)
        """
    )
    assert missing == []


@pytest.mark.requirement("C6")
def test_constraints_have_explicit_predictable_names(shared: Database) -> None:
    rows = shared.rows(
        """
        select c.conrelid::regclass::text, c.conname, c.contype
        from pg_constraint as c inner join pg_class as r on c.conrelid = r.oid
        where c.connamespace = 'public'::regnamespace and not r.relispartition
            and r.relname <> 'alembic_version' and c.contype in ('p', 'u', 'f', 'c')
        """
    )
    prefix = {"p": "pk", "u": "uq", "f": "fk", "c": "ck"}
    assert len(rows) > 30
    for table, name, kind in rows:
        kind = kind if isinstance(kind, str) else kind.decode()
        assert name.startswith(f"{prefix[kind]}_{table}"), name


@pytest.mark.requirement("T6")
def test_the_enumeration_has_the_two_values(shared: Database) -> None:
    assert shared.one("select enum_range(null::public.userrole)::text") == "{admin,user}"


@pytest.mark.requirement("T8")
def test_no_cache_is_built() -> None:
    assert "cache" in " ".join(p.name for p in (ROOT / "docs" / "adr").glob("*.md"))
    assert not any("cache" in name for name in Base.metadata.tables)


@pytest.mark.requirement("I1")
def test_the_named_indexes_exist(shared: Database) -> None:
    named = {
        "idx_auth_users_email": "UNIQUE INDEX .*lower\\(\\(email\\)",
        "idx_auth_users_role": "WHERE \\(role = 'admin'",
        "idx_auth_users_active": "\\(created_at DESC\\) WHERE is_active",
        "idx_auth_users_verification": "WHERE \\(verification_token IS NOT NULL\\)",
        "idx_auth_users_reset": "WHERE \\(reset_token IS NOT NULL\\)",
        "idx_audit_logs_user_time": '\\(user_uuid, "timestamp" DESC\\)',
        "idx_sessions_user_expires": "\\(user_uuid, expires_at\\)",
        "idx_user_profiles_tags": "USING gin \\(tags\\)",
        "idx_user_profiles_metadata": "USING gin \\(metadata jsonb_path_ops\\)",
        "idx_sessions_expires": "\\(expires_at\\)",
        "idx_audit_logs_event_time": '\\(event_type, "timestamp"\\)',
        "idx_audit_logs_time": '\\("timestamp"\\)',
    }
    found = dict(
        shared.rows("select indexname, indexdef from pg_indexes where schemaname = 'public'")
    )
    for name, pattern in named.items():
        assert re.search(pattern, found[name]), found[name]

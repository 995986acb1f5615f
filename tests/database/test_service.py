"""The opt-in login for clients that know nothing of contexts."""

from __future__ import annotations

import secrets
from collections.abc import Iterator

import psycopg
import psycopg.conninfo
import psycopg.errors
import pytest
from psycopg import sql

from pandom.database import cluster, converge
from schema import access
from tests.fixtures.databases import Database, Factory


@pytest.fixture(scope="module")
def service(factory: Factory, template: Database) -> Iterator[str]:
    """A connection string of pandom_service, made here if the stack has it off."""
    role = next(r for r in access.ROLES if r.name == "pandom_service")
    opt_in = factory.opt_in | {str(role.opt_in)}
    password = factory.server.passwords.get(role.name) or secrets.token_urlsafe(16)
    with factory.server.connect("postgres", "postgres") as connection:
        there = connection.execute(
            "select exists (select from pg_roles where rolname = %s)", (role.name,)
        ).fetchone() == (True,)
        if not there:
            connection.execute(
                sql.SQL("create role pandom_service login password {}").format(
                    sql.Literal(password)
                )
            )
            cluster.apply_roles(connection, opt_in)
        with factory.made(template.name) as database:
            with factory.server.connect("postgres", database.name) as inside:
                cluster.apply_grants(inside, opt_in)
            with database.connect("pandom_migrator") as migrator:
                converge.converge(migrator, opt_in)
            database.server.passwords.setdefault(role.name, password)
            yield database.server.dsn(role.name, database.name)
            if not there:
                with pytest.raises(psycopg.errors.DependentObjectsStillExist):
                    connection.execute("drop role pandom_service")
                released = cluster.release_roles(
                    template.target.on(access.DATABASE),
                    factory.server.passwords["postgres"],
                    factory.opt_in,
                )
                assert database.name in released
                connection.execute("drop role pandom_service")
                factory.server.passwords.pop(role.name, None)


@pytest.mark.requirement("A3")
def test_a_client_without_contexts_works_as_the_service(service: str) -> None:
    # What TypeORM's repositories send: one statement each, columns listed, no context.
    with psycopg.connect(service) as connection:
        profile = connection.execute(
            """insert into "user_profiles" ("uuid", "tags", "metadata", "created_at", "updated_at")
            values (default, %s, %s, default, default) returning "uuid", "created_at"
            """,
            (["a"], "{}"),
        ).fetchone()
        assert profile is not None
        made = connection.execute(
            """insert into "auth_users" ("email", "password_hash", "role", "profile_uuid")
            values (%s, %s, %s, %s) returning "uuid", "is_active"
            """,
            ("orm@example.com", "$2b$12$" + "a" * 53, "user", profile[0]),
        ).fetchone()
        assert made is not None
        assert made[1] is True
        found = connection.execute(
            """select "u"."uuid", "u"."password_hash", "p"."tags" from "auth_users" "u"
            left join "user_profiles" "p" on "p"."uuid" = "u"."profile_uuid"
            where "u"."email" = %s limit 1
            """,
            ("orm@example.com",),
        ).fetchone()
        assert found == (made[0], "$2a$12$" + "a" * 53, ["a"])
        assert (
            connection.execute(
                """update "auth_users" set "is_verified" = %s, "updated_at" = current_timestamp
            where "uuid" = %s""",
                (True, made[0]),
            ).rowcount
            == 1
        )
        listed = connection.execute('select count(*) from "auth_users"').fetchone()
        assert listed is not None
        assert listed[0] > 5
        assert (
            connection.execute('delete from "auth_users" where "uuid" = %s', (made[0],)).rowcount
            == 1
        )
        for refused in (
            "insert into public.audit_logs (event_type) values ('x')",
            "delete from public.audit_logs",
            "select secret from public.context_key",
            "select * from public.outbox",
            "set role pandom_owner",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(refused.encode())
        connection.rollback()


@pytest.mark.requirement("A3")
def test_the_service_goes_with_its_setting(factory: Factory, service: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(service)["dbname"]
    database = Database(factory.server, str(name), frozenset())
    with database.connect("pandom_migrator") as migrator:
        assert converge.converge(migrator, frozenset()) > 0
    assert database.one("select count(*) from pg_policies where 'pandom_service' = any(roles)") == 0
    with (
        psycopg.connect(service) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("select * from public.auth_users")

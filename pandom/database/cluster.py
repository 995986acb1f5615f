"""What only a superuser can do, idempotently: the cluster job's work.

pulumi-postgresql makes the roles; it cannot comment on them, set most of their settings, fix the
options of a membership, or touch extensions and system catalogs.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import psycopg
from psycopg import sql

from pandom.database import holders
from pandom.database.connect import Target, connect, granting, value
from pandom.database.drift import catalog, declared, remedies
from pandom.runtime.errors import Failure
from pandom.runtime.paths import ROOT
from schema import access

# Queries on catalogs of the whole cluster, and on those of each database.
CATALOGS: Final = ("memberships", "role_settings", "roles")
_DATABASE: Final = ("default_privileges", "privileges")
FILES: Final = ("extensions", "large_objects", "auditor", "trail_archive")
_OTHER_DATABASES: Final = ("postgres", "template1")
# Jobs of one server must not edit the same catalog rows at once. The lock is taken in
# database postgres, to which no other login may connect (docs/adr/0016-locks.md).
_LOCK_KEY: Final = 0x70616E646F6E
# DDL of a policy locks its table: give way to running transactions.
_LOCK_TIMEOUT: Final = "-c lock_timeout=4s"


def apply_roles(connection: psycopg.Connection, opt_in: frozenset[str]) -> None:
    """Bring attributes, settings, memberships and comments of the roles in line.

    Passwords are the provider's. One transaction, under a lock on the cluster. Raises Failure that
    names who holds a lock that is needed, after a bounded wait.
    """
    with connection.transaction():
        _lock(connection)
        expected = declared.cluster(opt_in)
        seen = declared.comparable(catalog.seen(connection, CATALOGS))
        there = {fact.object for fact in seen if fact.kind == "role"}
        if missing := [role.name for role in access.roles(opt_in) if role.name not in there]:
            raise Failure(
                f"role {', '.join(missing)} does not exist. Next: `make up`, which makes it"
            )
        for one, text in remedies.plan(expected, seen):
            try:
                with connection.transaction():
                    connection.execute(text.encode())
            except psycopg.errors.LockNotAvailable:
                name = one.object.partition(" in database ")[0]
                raise Failure(
                    f"role {name} is being changed by somebody for more than "
                    f"{holders.WAIT}: {holders.of_role(connection, name)}. Next: end it: "
                    f"{holders.HOW_TO_END}"
                ) from None


def _lock(connection: psycopg.Connection) -> None:
    connection.execute(f"set local lock_timeout = '{holders.WAIT}'")
    try:
        with connection.transaction():
            connection.execute("select pg_advisory_xact_lock(%s)", (_LOCK_KEY,))
    except psycopg.errors.LockNotAvailable:
        raise Failure(
            f"another job of the cluster did not end within {holders.WAIT}: "
            f"{holders.of_key(connection, _LOCK_KEY)}. Next: wait for it, or end it: "
            f"{holders.HOW_TO_END}"
        ) from None


def release_roles(server: Target, password: str, opt_in: frozenset[str]) -> list[str]:
    """Revoke in other databases what roles of settings that are off may do.

    The provider drops such a role at the end of `up`, which PostgreSQL refuses while any database
    grants it anything. In the stack's own the migration job revokes it. Returns the databases.
    """
    with connect(server.on("postgres"), access.SUPERUSER, password) as connection:
        rows = connection.execute(
            "select d.datname, r.rolname from pg_catalog.pg_database as d "
            "cross join pg_catalog.pg_roles as r "
            "where d.datallowconn and d.datname <> %s and r.rolname = any(%s) order by 1, 2",
            (
                server.database,
                [role.name for role in access.ROLES if role not in access.roles(opt_in)],
            ),
        ).fetchall()
    for database, role in rows:
        target = server.on(database)
        with connect(target, access.SUPERUSER, password, options=_LOCK_TIMEOUT) as connection:
            connection.execute(sql.SQL("drop owned by {}").format(sql.Identifier(role)))
    return sorted({database for database, _ in rows})


def close_other_databases(connection: psycopg.Connection) -> None:
    """PUBLIC has nothing on the databases that every cluster has."""
    with connection.transaction():
        _lock(connection)
        for database in _OTHER_DATABASES:
            connection.execute(
                sql.SQL("revoke all on database {} from public").format(sql.Identifier(database))
            )


def apply_database(target: Target, password: str, files: tuple[str, ...] = FILES) -> None:
    """Extensions and the rights on system catalogs, in one database (schema/sql/cluster)."""
    with connect(target, access.SUPERUSER, password, application_name="pandom cluster") as db:
        db.execute("set client_min_messages = warning")
        for name in files:
            db.execute((ROOT / "schema" / "sql" / "cluster" / f"{name}.sql").read_bytes())


def apply_grants(
    connection: psycopg.Connection,
    opt_in: frozenset[str],
    connecting: Collection[str] | None = None,
) -> None:
    """Bring database, schema and default privileges of the connection's database in line.

    The provider does this for the stack's own; clones for tests and restored copies get them here.
    With ``connecting`` only these logins may connect.
    """
    name = value(connection, "select current_database()")
    expected = declared.database(name, opt_in, connecting)
    with connection.transaction(), granting(connection):
        seen = {
            fact: value
            for fact, value in catalog.seen(connection, _DATABASE, declared.OWNERS).items()
            if fact.kind != "privilege" or fact.object.startswith(("database ", "schema "))
        }
        texts = [text for _, text in remedies.plan(expected, seen)]
        connection.execute("\n".join(texts).encode())

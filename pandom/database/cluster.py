"""What only a superuser can do, idempotently: the cluster job's work.

pulumi-postgresql makes the roles; it cannot comment on them, set most of their
settings, fix the options of a membership, or touch extensions and system
catalogs. Everything here comes from schema/access.py or schema/sql/cluster.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

import psycopg
from psycopg import sql

from pandom.database import holders
from pandom.database.connect import Target, connect, value
from pandom.database.converge import run_file
from pandom.runtime.errors import Failure
from pandom.runtime.paths import ROOT
from schema import access

FILES: Final = ("extensions", "large_objects", "auditor", "trail_archive")
_OTHER_DATABASES: Final = ("postgres", "template1")
# Several jobs of one server must not edit the same catalog rows at once. The key is taken in
# database postgres, to which no other login may connect (docs/adr/0016-locks.md).
_LOCK_KEY: Final = 0x70616E646F6E
# A policy's DDL locks its table: give way to whoever works in it.
_LOCK_TIMEOUT: Final = "-c lock_timeout=4s"


def apply_roles(connection: psycopg.Connection, opt_in: frozenset[str]) -> None:
    """Attributes, settings, memberships and comments of the roles, as declared.

    Heals what a role may do to itself (settings) and what drifted; passwords
    are the provider's. One transaction, serialised by a lock on the cluster. A role may
    change its own settings, too, and hold them as long as its transaction is open.
    Raises: Failure that names who holds what is needed, after a bounded wait.
    """
    with connection.transaction():
        _lock(connection)
        declared = access.roles(opt_in)
        for role in declared:
            try:
                with connection.transaction():
                    _apply_role(connection, role)
            except psycopg.errors.LockNotAvailable:
                raise Failure(
                    f"role {role.name} is being changed by somebody for more than "
                    f"{holders.WAIT}: {holders.of_role(connection, role.name)}. Next: end it: "
                    f"{holders.HOW_TO_END}"
                ) from None
        _apply_memberships(connection, opt_in)


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


def _apply_role(connection: psycopg.Connection, role: access.Role) -> None:
    name = sql.Identifier(role.name)
    connection.execute(
        sql.SQL(
            "alter role {} with nosuperuser nocreatedb nocreaterole noreplication {} {} {} "
            "connection limit {}"
        ).format(
            name,
            sql.SQL("login" if role.login else "nologin"),
            sql.SQL("inherit" if role.inherit else "noinherit"),
            sql.SQL("bypassrls" if role.bypass_rls else "nobypassrls"),
            sql.Literal(role.connection_limit),
        )
    )
    # The schema is written qualified everywhere; a role's own setting could change that.
    found = connection.execute(
        "select d.datname from pg_catalog.pg_db_role_setting as s "
        "inner join pg_catalog.pg_database as d on s.setdatabase = d.oid "
        "where s.setrole = %s::regrole",
        (role.name,),
    ).fetchall()
    for (database,) in found:
        connection.execute(
            sql.SQL("alter role {} in database {} reset all").format(name, sql.Identifier(database))
        )
    connection.execute(sql.SQL("alter role {} reset all").format(name))
    for setting, wanted in role.settings.items():
        connection.execute(
            sql.SQL("alter role {} set {} to {}").format(
                name, sql.Identifier(*setting.split(".")), sql.Literal(_stored(setting, wanted))
            )
        )
    connection.execute(sql.SQL("comment on role {} is {}").format(name, sql.Literal(role.comment)))


def _stored(setting: str, value: str) -> str:
    """Seconds as milliseconds without a unit, where pulumi-postgresql reads the setting
    back: it takes it for a number, and a refresh would fail on `30s`."""
    return str(access.milliseconds(value)) if setting in access.PROVIDER_TIMEOUTS else value


def _apply_memberships(connection: psycopg.Connection, opt_in: frozenset[str]) -> None:
    ours = [role.name for role in access.roles(opt_in)]
    declared = {(m.group, m.member): m for m in access.MEMBERSHIPS if m.member in ours}
    found = connection.execute(
        """
        select
            pg_catalog.pg_get_userbyid(m.roleid), pg_catalog.pg_get_userbyid(m.member),
            pg_catalog.pg_get_userbyid(m.grantor),
            m.inherit_option, m.set_option, m.admin_option
        from pg_catalog.pg_auth_members as m
        where pg_catalog.pg_get_userbyid(m.member) = any(%(ours)s)
            or pg_catalog.pg_get_userbyid(m.roleid) = any(%(ours)s)
        """,
        {"ours": ours},
    ).fetchall()
    right: set[tuple[str, str]] = set()
    for group, member, grantor, inherit, set_role, admin in found:
        wanted = declared.get((group, member))
        if (
            wanted is not None
            and (wanted.inherit, wanted.set_role, wanted.admin) == (inherit, set_role, admin)
            and grantor == access.SUPERUSER
        ):
            right.add((group, member))
        elif wanted is None or grantor != access.SUPERUSER:
            connection.execute(
                sql.SQL("revoke {} from {} granted by {} cascade").format(
                    *(sql.Identifier(name) for name in (group, member, grantor))
                )
            )
    for key, m in declared.items():
        if key not in right:
            connection.execute(
                sql.SQL("grant {} to {} with inherit {}, set {}, admin {}").format(
                    sql.Identifier(m.group),
                    sql.Identifier(m.member),
                    *(sql.SQL(str(v).lower()) for v in (m.inherit, m.set_role, m.admin)),
                )
            )


def release_roles(server: Target, password: str, opt_in: frozenset[str]) -> list[str]:
    """Takes back what roles of settings that are off may do in other databases.

    The provider drops such a role at the end of `up`, and PostgreSQL refuses that while a
    restored database, or one that was kept aside, grants it anything. In ours the
    migration job takes it back. Returns the databases where there may have been something.
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
            run_file(db, ROOT / "schema" / "sql" / "cluster" / f"{name}.sql")


def apply_grants(
    connection: psycopg.Connection,
    opt_in: frozenset[str],
    connecting: Collection[str] | None = None,
) -> None:
    """Database, schema and default privileges of the database that it is connected to.

    The provider does this for the stack's own database; every other one (a clone for
    a test, a restored copy) gets them here, because none of them is cloned. With
    ``connecting`` only these logins may connect: the database is not ready for the others.
    """
    database = value(connection, "select current_database()")
    known = {role.name for role in access.roles(opt_in)} | {access.PUBLIC}
    with connection.transaction():
        for grant in (*access.database_grants(database), *access.SCHEMA_GRANTS):
            if grant.role not in known:
                continue
            grantee = (
                sql.SQL("public") if grant.role == access.PUBLIC else sql.Identifier(grant.role)
            )
            on = sql.SQL("on {} {}").format(sql.SQL(grant.kind), sql.Identifier(grant.name))
            connection.execute(sql.SQL("revoke all {} from {}").format(on, grantee))
            if grant.kind == "database" and connecting is not None and grant.role not in connecting:
                continue
            if grant.privileges:
                words = sql.SQL(", ").join(sql.SQL(p.lower()) for p in sorted(grant.privileges))
                connection.execute(sql.SQL("grant {} {} to {}").format(words, on, grantee))
        for default in access.DEFAULT_PRIVILEGES:
            connection.execute(
                sql.SQL(
                    "alter default privileges for role {} revoke all on {}s from public"
                ).format(sql.Identifier(default.owner), sql.SQL(default.kind))
            )

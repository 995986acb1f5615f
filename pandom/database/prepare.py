"""Before and after a restore as typed: `psql … -d NAME < backup.sql` by pandom_user (D4).

A plain dump makes objects as whoever restores it, hands them to their owners, and
repeats privileges on what only the superuser owns. So ``prepare`` opens what that
takes: on an empty database, which nobody else may connect to, and, as memberships
belong to the whole server, pandom_trail and the other owners everywhere. ``finish``
closes it again. Both are the superuser's work.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

import psycopg
from psycopg import sql

from pandom.database import cluster, converge, health
from pandom.database.connect import Target, connect, value
from pandom.errors import Failure, UserMistake
from schema import access

OPERATOR: Final = "pandom_user"
# Whose objects a dump holds; of pandom_migrator it holds default privileges.
OPENED: Final = ("pandom_owner", "pandom_trail", "pandom_definer", "pandom_migrator")
_NAME: Final = re.compile(r"[a-z][a-z0-9_]{0,39}")
_RESERVED: Final = ("postgres", "template0", "template1")

# A dump repeats grants on objects of the superuser. Whoever has a privilege there
# gets a warning and no more, whoever has none an error. PUBLIC has the others still.
_LENT: Final = (
    sql.SQL("select on pg_catalog.pg_hba_file_rules"),
    sql.SQL("execute on function pg_catalog.pg_hba_file_rules()"),
)


@dataclass(frozen=True)
class Finished:
    """``epoch`` is the trail's new one; ``changed`` counts privileges that were not declared."""

    epoch: int
    changed: int
    health: health.Health


def check_name(name: str) -> None:
    """Raises UserMistake for a name that no database of ours may have."""
    if not _NAME.fullmatch(name) or name in _RESERVED:
        raise UserMistake(
            f"{name!r} is no database to restore into. Expected lower case letters, digits and _, "
            f"at most 40, the first a letter, and not {', '.join(_RESERVED)}."
        )


def prepare(
    target: Target, password: str, opt_in: frozenset[str] = frozenset(), *, confirmed: bool = False
) -> str | None:
    """Makes ``target.database``, empty, and lets pandom_user restore a dump into it.

    One of that name that holds something is refused or, ``confirmed``, renamed, after
    whoever is connected was disconnected: returns its new name. May be repeated.
    Raises: UserMistake, Failure.
    """
    check_name(target.database)
    name, aside = sql.Identifier(target.database), None
    with connect(target.on("postgres"), access.SUPERUSER, password, autocommit=True) as server:
        exists = _exists(server, target.database)
        if exists and not _empty(target, password):
            if not confirmed:
                raise UserMistake(
                    f"The database {target.database} is not empty; nothing was touched.\n"
                    f"Next: restore under another name, or CONFIRM={target.database} keeps the old "
                    "one under a new name and disconnects who uses it."
                )
            aside, exists = _set_aside(server, target.database), False
        if not exists:
            server.execute(sql.SQL("create database {} template template0").format(name))
        for group in OPENED:
            server.execute(
                sql.SQL("grant {} to {} with inherit true, set true").format(
                    sql.Identifier(group), sql.Identifier(OPERATOR)
                )
            )
    with connect(target, access.SUPERUSER, password) as database:
        database.execute("set client_min_messages = warning")
        _make_extensions(database)
        cluster.apply_grants(database, opt_in)
        for login in (role.name for role in access.roles(opt_in) if role.login):
            if login != OPERATOR:
                database.execute(
                    sql.SQL("revoke connect on database {} from {}").format(
                        name, sql.Identifier(login)
                    )
                )
        # The schema trail_archive is made by the operator and handed to its owner.
        for role in (OPERATOR, "pandom_trail"):
            database.execute(
                sql.SQL("grant create on database {} to {}").format(name, sql.Identifier(role))
            )
        for lent in _LENT:
            database.execute(sql.SQL("grant {} to {}").format(lent, sql.Identifier(OPERATOR)))
    return aside


def finish(target: Target, password: str, opt_in: frozenset[str] = frozenset()) -> Finished:
    """Closes what ``prepare`` opened and makes the restored database a working one.

    Privileges as declared, a new key for contexts, because the dump has the old one in
    clear, and a new epoch of the trail, because a server's transaction numbers do not
    go on where another's were. May be repeated; each time begins another epoch.
    Raises: Failure when there is no such database, or it holds no dump of ours.
    """
    check_name(target.database)
    with connect(target.on("postgres"), access.SUPERUSER, password, autocommit=True) as server:
        # First of all, and whatever comes: memberships are open on the whole server.
        cluster.apply_roles(server, opt_in)
        if not _exists(server, target.database):
            raise Failure(f"There is no database {target.database}; the roles are closed again.")
    with connect(target, access.SUPERUSER, password) as database:
        if value(database, "select to_regclass('public.trail_blocks') is null"):
            raise Failure(
                f"{target.database} holds no complete dump of this schema; the roles are closed "
                "again, and only pandom_user may connect.\n"
                f"Next: `pandom db prepare {target.database}`, and restore again."
            )
        for role in (OPERATOR, "pandom_trail"):
            database.execute(
                sql.SQL("revoke create on database {} from {}").format(
                    sql.Identifier(target.database), sql.Identifier(role)
                )
            )
        for lent in _LENT:
            database.execute(sql.SQL("revoke {} from {}").format(lent, sql.Identifier(OPERATOR)))
    cluster.apply_database(target, password)
    with connect(target, access.SUPERUSER, password) as database:
        changed = converge.converge(database, opt_in)
        database.execute("select public.rotate_context_key()")
        epoch = _begin_epoch(database)
        # Last: now the others may connect.
        cluster.apply_grants(database, opt_in)
    with connect(target, access.SUPERUSER, password) as database:
        return Finished(epoch, changed, health.check(database))


def _exists(server: psycopg.Connection, name: str) -> bool:
    found = "select count(*) from pg_catalog.pg_database where datname = %s"
    return bool(value(server, found, name))


def _empty(target: Target, password: str) -> bool:
    with connect(target, access.SUPERUSER, password) as database:
        return not value(
            database,
            "select count(*) from pg_catalog.pg_class as c "
            "inner join pg_catalog.pg_namespace as n on c.relnamespace = n.oid "
            "where n.nspname !~ '^(pg_|information_schema)'",
        )


def _set_aside(server: psycopg.Connection, name: str) -> str:
    aside = f"{name}_{datetime.now(UTC):%Y%m%d%H%M%S}"
    old, new = sql.Identifier(name), sql.Identifier(aside)
    # Or the application would be back before the database has its new name.
    server.execute(sql.SQL("alter database {} allow_connections false").format(old))
    try:
        server.execute(
            "select pg_catalog.pg_terminate_backend(a.pid, 5000) "
            "from pg_catalog.pg_stat_activity as a where a.datname = %s",
            (name,),
        )
        server.execute(sql.SQL("alter database {} rename to {}").format(old, new))
    except psycopg.Error:
        server.execute(sql.SQL("alter database {} allow_connections true").format(old))
        raise
    server.execute(sql.SQL("alter database {} allow_connections true").format(new))
    return aside


def _make_extensions(database: psycopg.Connection) -> None:
    """As the dump expects them; PUBLIC's rights on them go when ``finish`` runs."""
    for extension in access.EXTENSIONS:
        if extension == "plpgsql":
            continue
        name = sql.Identifier(extension)
        database.execute(
            sql.SQL("create extension if not exists {} with schema public").format(name)
        )
        database.execute(sql.SQL("comment on extension {} is null").format(name))


def _begin_epoch(database: psycopg.Connection) -> int:
    """The trail's next epoch, which is the default of its column; noted in the trail."""
    epoch = 0
    for log in access.TRAIL_TABLES:
        table = sql.Identifier(*log.split("."))
        row = database.execute(
            sql.SQL(
                "select greatest(max(t.epoch), (select pg_get_expr(d.adbin, d.adrelid)::integer "
                "from pg_catalog.pg_attrdef as d inner join pg_catalog.pg_attribute as a "
                "on d.adrelid = a.attrelid and d.adnum = a.attnum "
                "where a.attrelid = {}::regclass and a.attname = 'epoch')) from {} as t"
            ).format(sql.Literal(log), table)
        ).fetchone()
        epoch = max(epoch, row[0] if row else 0)
    epoch += 1
    database.execute("set local role pandom_trail")
    for log in access.TRAIL_TABLES:
        database.execute(
            sql.SQL("alter table {} alter column epoch set default {}").format(
                sql.Identifier(*log.split(".")), sql.Literal(epoch)
            )
        )
    database.execute(
        "select public.write_event('security_logs', null, 'trail_restored', 'warning', "
        "jsonb_build_object('epoch', %s::int))",
        (epoch,),
    )
    database.execute("set local role none")
    return epoch

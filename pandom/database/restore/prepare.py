"""A database to restore into, and what makes the restored one ours again.

The source document restores with ``psql … < backup.sql`` as pandom_user. A dump
says who owns what, what extensions there are and who may do what; pandom_user may
say none of that. So ``prepare`` makes the database with what only a superuser can
make and opens pandom_user's way to the owners; ``finish`` closes it, converges, and
starts a new context key and a new epoch of the trail, because a backup may have
been read or edited by others. The opening is of the whole cluster: keep it short.

No login but the operator's may connect from the one to the end of the other, however
often it is killed and run again: who connected earlier could use the backup's key.
A mark on the database (``restoring``) stops `pandom up` meanwhile.
"""

from __future__ import annotations

from typing import Final

import psycopg
from psycopg import sql

from pandom.database import cluster, janitor, migrate, revisions, seed
from pandom.database import settings as row_settings
from pandom.database.connect import Target, connect, value
from pandom.database.converge import converge
from pandom.database.health import Health, check
from pandom.database.restore import restoring
from pandom.database.settings import DatabaseSettings
from pandom.runtime.errors import Failure, UsageError
from schema import access

OPERATOR: Final = "pandom_user"
# The dump makes trail_archive itself; everything else of the cluster's files must be there.
_BEFORE: Final = tuple(name for name in cluster.FILES if name != "trail_archive")
_OPENED: Final = ("pandom_trail", "pandom_definer", "pandom_migrator")
# How long a connection may take to end, in milliseconds.
_END_MS: Final = 5000

# Objects of the superuser whose privileges differ from PostgreSQL's: a dump states them,
# and REVOKE or GRANT by somebody without grant option is an error.
_CHANGED_ACLS: Final = """
select 'function', p.oid::regprocedure::text
from pg_catalog.pg_proc as p
where p.proowner = 10 and p.proacl is not null
    and p.proacl is distinct from (
        select i.initprivs from pg_catalog.pg_init_privs as i
        where i.objoid = p.oid and i.classoid = 'pg_catalog.pg_proc'::regclass
    )
union all
select 'table', c.oid::regclass::text
from pg_catalog.pg_class as c
where c.relowner = 10 and c.relacl is not null
    and c.relacl is distinct from (
        select i.initprivs from pg_catalog.pg_init_privs as i
        where i.objoid = c.oid and i.objsubid = 0 and i.classoid = 'pg_catalog.pg_class'::regclass
    )
"""


def prepare(server: Target, password: str, name: str, opt_in: frozenset[str]) -> None:
    """Make an empty database that pandom_user, and nobody else, can restore a dump into.

    Raises: UsageError when a database of this name has anything in it.
    """
    with _superuser(server, password, access.SUPERUSER) as connection:
        exists = value(
            connection, "select exists (select from pg_database where datname = %s)", name
        )
        if not exists:
            # A new database is open to PUBLIC; the limit stops all but the superuser.
            connection.execute(
                sql.SQL("create database {} template template0 connection limit 0").format(
                    sql.Identifier(name)
                )
            )
    target = server.on(name)
    with _superuser(server, password, name) as connection:
        if value(
            connection,
            "select exists (select from pg_class where relnamespace = 'public'::regnamespace "
            "and relkind in ('r', 'p'))",
        ):
            raise UsageError(
                f"database {name} is not empty. Next: choose another name; or\n"
                f"`CONFIRM={name} .venv/bin/pandom db prepare {name}` keeps it under another"
            )
        restoring.mark(connection, name)
        cluster.apply_grants(connection, opt_in, connecting=(OPERATOR,))
    cluster.apply_database(target, password, _BEFORE)
    with _superuser(server, password, name) as connection:
        connection.execute("drop schema if exists trail_archive")
        connection.execute(
            sql.SQL("grant create on database {} to {}").format(
                sql.Identifier(name), sql.Identifier(OPERATOR)
            )
        )
        for kind, what in _changed(connection):
            connection.execute(
                sql.SQL("grant all on {} {} to {} with grant option").format(
                    sql.SQL(kind), sql.SQL(what), sql.Identifier(OPERATOR)
                )
            )
        for owner in _OPENED:
            connection.execute(
                sql.SQL("grant {} to {} with inherit true, set true, admin false").format(
                    sql.Identifier(owner), sql.Identifier(OPERATOR)
                )
            )
        connection.execute(
            sql.SQL("alter database {} connection limit -1").format(sql.Identifier(name))
        )


def finish(
    server: Target,
    password: str,
    name: str,
    opt_in: frozenset[str],
    settings: DatabaseSettings,
    hash_key: str | None,
    administrator: str | None = None,
) -> tuple[Health, list[str]]:
    """Close what prepare() opened, make the restored database one of ours, and open it last.

    The dump's settings give way to the stack's before anybody is let in; ``administrator``
    is the stack's adminEmail. Returns the health
    of the result, and which settings changed; if it is not good, only the operator gets in,
    to repair the rows. Raises: Failure when the restore is not complete, UsageError when
    hashes are encrypted with another key; the database then stays closed to all but the
    migration job, which can lift an older dump.
    """
    with _superuser(server, password, access.SUPERUSER) as connection:
        cluster.apply_roles(connection, opt_in)
    with _superuser(server, password, name) as connection:
        restoring.mark(connection, name)
        cluster.apply_grants(connection, opt_in, connecting=(migrate.MIGRATOR,))
        _disconnect(connection)
        with connection.transaction():
            for kind, what in _changed(connection):
                connection.execute(
                    sql.SQL("revoke all on {} {} from {} cascade").format(
                        sql.SQL(kind), sql.SQL(what), sql.Identifier(OPERATOR)
                    )
                )
        _check_complete(connection, name)
    cluster.apply_database(server.on(name), password)
    with connect(server.on(name), access.SUPERUSER, password) as connection:
        converge(connection, opt_in)
        changed = row_settings.apply(connection, settings, hash_key)
        seed.forget(connection, administrator)
        _begin_epoch(connection)
        connection.execute("select public.rotate_context_key()")
        connection.execute(
            "select public.write_event('security_logs', null, 'trail_restored', 'warning', '{}')"
        )
    with _superuser(server, password, name) as connection:
        # An older dump has no partition of this month, and the janitor is not let in yet.
        janitor.partitions(connection)
        connection.execute("analyze")
        health = check(connection, settings=settings)
        cluster.apply_grants(
            connection, opt_in, connecting=None if health.ok else (OPERATOR, migrate.MIGRATOR)
        )
        if health.ok:
            restoring.unmark(connection, name)
        return health, changed


def _disconnect(connection: psycopg.Connection) -> None:
    """End who is in the database, and the operator wherever it is.

    A role that was entered by SET ROLE stays entered when the membership is revoked.
    """
    connection.execute(
        """
        select pg_catalog.pg_terminate_backend(a.pid, %s)
        from pg_catalog.pg_stat_activity as a
        inner join pg_catalog.pg_roles as r on a.usesysid = r.oid
        where not r.rolsuper and r.rolname <> %s
            and (a.datname = current_database() or r.rolname = %s)
        """,
        (_END_MS, migrate.MIGRATOR, OPERATOR),
    )


def _check_complete(connection: psycopg.Connection, name: str) -> None:
    """Raise Failure unless the dump is there and of this program's revision."""
    if not value(connection, "select to_regclass('public.audit_logs') is not null"):
        raise Failure(
            f"database {name} has no audit_logs: the dump was not restored. Next: restore it "
            "with psql and look at its messages, then finish again"
        )
    there, applied = revisions.every(), revisions.read(connection)
    revisions.refuse_unknown(there, applied)
    if waiting := revisions.pending(there, applied):
        raise Failure(
            f"database {name} is at revision {applied.reached}, this program at "
            f"{waiting[-1].number}. Next: "
            f"`pandom migrate run`, which works on {access.DATABASE}, then finish again"
        )


def _begin_epoch(connection: psycopg.Connection) -> None:
    """Rows written from now on are of a new epoch: transaction numbers begin again elsewhere.

    The chain knows epochs whose rows retention took; sealing never goes back behind it.
    """
    for table in access.TRAIL_TABLES:
        connection.execute("set local role pandom_trail")
        identifier = sql.Identifier(*table.split("."))
        row = connection.execute(
            sql.SQL(
                "select 1 + greatest(0, (select max(epoch) from {}), "
                "(select max(last_epoch) from public.trail_blocks where log = {}))"
            ).format(identifier, sql.Literal(table.rpartition(".")[2]))
        ).fetchone()
        if row is None:
            raise Failure(f"{table} cannot be read")
        connection.execute(
            sql.SQL("alter table {} alter column epoch set default {}").format(
                identifier, sql.Literal(row[0])
            )
        )
    connection.execute("set local role none")


def _changed(connection: psycopg.Connection) -> list[tuple[str, str]]:
    """Kind and name of each object of the superuser with other privileges than by default."""
    return [(kind, what) for kind, what in connection.execute(_CHANGED_ACLS.encode()).fetchall()]


def _superuser(server: Target, password: str, database: str) -> psycopg.Connection:
    return connect(server.on(database), access.SUPERUSER, password, autocommit=True)

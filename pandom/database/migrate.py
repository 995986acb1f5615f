"""Migrations on Alembic: generate, run, revert, show (M1), one runner at a time (M4).

One lock on a connection of its own: of Alembic's table, which no login of an application
reaches; an advisory lock anybody can take (docs/adr/0015-locks.md). It is tried again and
again: LOCK TABLE waits without a snapshot, so that the holder's CREATE INDEX CONCURRENTLY
does not wait for those who wait. One transaction per revision, in which the privileges
converge, too.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

import psycopg
import sqlalchemy
from alembic import command
from alembic.config import Config
from alembic.script import ScriptDirectory
from psycopg import sql
from sqlalchemy.pool import NullPool

from pandom.database import converge, holders
from pandom.database.connect import Target, connect, value
from pandom.errors import Failure, UserMistake
from pandom.paths import ROOT
from schema import access

FOLDER: Final = ROOT / "migrations"
MIGRATOR: Final = "pandom_migrator"
# Alembic's own statements and readers pass it, another runner does not.
LOCK_MODE: Final = "ShareUpdateExclusiveLock"
LOCK_WAIT_S: Final = 120.0
POLL_S: Final = 0.2
TRY_MS: Final = 500
# A revision that cannot get a lock gives way to the traffic behind it, and is tried again.
LOCK_TIMEOUT_MS: Final = 4000
ATTEMPTS: Final = 3
PAUSE_S: Final = 2.0
# A killed runner's server process notices within this time that its client is gone.
CLIENT_CHECK_MS: Final = 1000
_NO_LOCK: Final = ("55P03", "40P01")


@dataclass(frozen=True)
class Runner:
    """Who migrates which database: the migrator's login and the roles that exist."""

    target: Target
    password: str
    opt_in: frozenset[str] = frozenset()
    production: bool = False
    lock_wait_s: float = LOCK_WAIT_S

    def connect(self, *, autocommit: bool = False) -> psycopg.Connection:
        """A connection as the migrator that waits for no lock longer than the limit."""
        return connect(
            self.target,
            MIGRATOR,
            self.password,
            autocommit=autocommit,
            application_name=f"pandom migrate {socket.gethostname()}/{os.getpid()}",
            options=(
                f"-c lock_timeout={LOCK_TIMEOUT_MS} "
                f"-c client_connection_check_interval={CLIENT_CHECK_MS} "
                "-c client_min_messages=warning"
            ),
        )


def configuration() -> Config:
    """Alembic's configuration, wherever the process was started."""
    # Alembic reports "Running upgrade …" on loggers that nobody configured: keep it quiet.
    logging.getLogger("alembic").setLevel(logging.ERROR)
    return Config(FOLDER / "alembic.ini")


def head() -> str:
    """The newest revision of this copy of the program."""
    newest = ScriptDirectory.from_config(configuration()).get_current_head()
    if newest is None:
        raise Failure("migrations/versions holds no revision")
    return newest


def current(connection: psycopg.Connection) -> str | None:
    """The revision that the database is at; None when it is empty."""
    row = connection.execute("select to_regclass('public.alembic_version')").fetchone()
    if row is None or row[0] is None:
        return None
    row = connection.execute("select version_num from public.alembic_version").fetchone()
    return None if row is None else str(row[0])


@contextmanager
def session_lock(runner: Runner, waiting: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Holds the migration lock of the database on a connection of its own.

    Raises: Failure that names the holder when it is not free within the limit.
    """
    connection = runner.connect(autocommit=True)
    try:
        deadline = time.monotonic() + runner.lock_wait_s
        told = False
        _make_version_table(connection)
        while not _try_lock(connection):
            held = holders.of_table(connection, "public.alembic_version", LOCK_MODE)
            if not told:
                waiting(held)
                told = True
            if time.monotonic() >= deadline:
                raise Failure(
                    "another migration holds the lock for more than "
                    f"{runner.lock_wait_s:.0f} s: {held}. Next: wait for it, or end it: "
                    f"{holders.HOW_TO_END}"
                )
            time.sleep(POLL_S)
        yield
    finally:
        connection.close()


def _make_version_table(connection: psycopg.Connection) -> None:
    """Alembic's table, as Alembic makes it: in an empty database there is nothing else to lock."""
    connection.execute("set role pandom_owner")
    if value(connection, "select to_regclass('public.alembic_version') is not null"):
        return
    # Of two runners one is first; what the other is told depends on how far the first got.
    with contextlib.suppress(
        psycopg.errors.UniqueViolation,
        psycopg.errors.DuplicateTable,
        psycopg.errors.DuplicateObject,
    ):
        connection.execute(
            "create table public.alembic_version (version_num varchar(32) not null, "
            "constraint alembic_version_pkc primary key (version_num))"
        )


def _try_lock(connection: psycopg.Connection) -> bool:
    connection.execute("begin")
    try:
        # No NOWAIT: each attempt would be an error in the server's log.
        connection.execute(f"set local lock_timeout = {TRY_MS}")
        connection.execute("lock table public.alembic_version in share update exclusive mode")
    except psycopg.errors.LockNotAvailable:
        connection.execute("rollback")
        return False
    # What holds it is an open transaction without a number and without a snapshot.
    return True


@contextmanager
def _alembic(runner: Runner) -> Iterator[tuple[Config, psycopg.Connection]]:
    """Alembic's configuration with a connection in it, both closed at the end."""
    raw = runner.connect()
    engine = sqlalchemy.create_engine(
        "postgresql+psycopg://", creator=lambda: raw, poolclass=NullPool
    )
    try:
        with engine.connect() as connection:
            config = configuration()
            config.attributes["connection"] = connection
            config.attributes["opt_in"] = runner.opt_in
            config.attributes["production"] = runner.production
            yield config, raw
    finally:
        engine.dispose()
        raw.close()


def upgrade(runner: Runner, target: str = "head") -> tuple[str | None, str | None]:
    """Applies the revisions up to ``target``; the caller holds the session lock.

    Returns the revision before and after. Raises: Failure naming the revision.
    """
    return _move(runner, lambda config: command.upgrade(config, target), forward=True)


def revert(runner: Runner, target: str) -> tuple[str | None, str | None]:
    """Takes revisions back, down to ``target`` (a revision, ``base`` or ``-1``).

    Raises: UserMistake for a revision that does not exist; Failure as upgrade().
    """
    known = {s.revision for s in ScriptDirectory.from_config(configuration()).walk_revisions()}
    if target not in known | {"base"} and not (target.startswith("-") and target[1:].isdigit()):
        raise UserMistake(
            f"there is no revision {target!r}; use -1, base or one of {', '.join(sorted(known))}"
        )
    return _move(runner, lambda config: command.downgrade(config, target), forward=False)


def _move(
    runner: Runner, action: Callable[[Config], None], *, forward: bool
) -> tuple[str | None, str | None]:
    with runner.connect(autocommit=True) as connection:
        before = _current_as_owner(connection)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            with _alembic(runner) as (config, _):
                action(config)
            break
        except (psycopg.Error, sqlalchemy.exc.DBAPIError) as error:
            cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
            if getattr(cause, "sqlstate", None) in _NO_LOCK and attempt < ATTEMPTS:
                time.sleep(PAUSE_S)
                continue
            raise _failure(runner, cause, forward=forward) from None
    with runner.connect(autocommit=True) as connection:
        return before, _current_as_owner(connection)


def _current_as_owner(connection: psycopg.Connection) -> str | None:
    connection.execute("set role pandom_owner")
    return current(connection)


def _failure(runner: Runner, cause: BaseException | None, *, forward: bool) -> Failure:
    """What went wrong in which revision, and what the database is at now."""
    if not isinstance(cause, psycopg.Error):
        return Failure(f"the migration failed: {cause}")
    try:
        with runner.connect(autocommit=True) as connection:
            reached = _current_as_owner(connection)
            held = holders.of_database(connection) if cause.sqlstate in _NO_LOCK else ""
    except Failure:
        return Failure(f"the migration failed, and the server is gone: {cause}")
    scripts = ScriptDirectory.from_config(configuration())
    failing = reached
    if forward:
        order = [s.revision for s in reversed(list(scripts.walk_revisions()))]
        failing = order[0] if reached is None else next(iter(order[order.index(reached) + 1 :]), "")
    direction = "revision" if forward else "taking back revision"
    message = [f"{direction} {failing} failed: {cause.diag.message_primary or cause}"]
    if cause.diag.context:
        message.append(cause.diag.context.splitlines()[0])
    message.append(
        f"nothing of it was applied; the database is at {reached or 'no revision'}. "
        + (
            f"Some transaction holds a lock that it needs: {held}. Next: wait for it, or end it: "
            f"{holders.HOW_TO_END}; then run it again."
            if cause.sqlstate in _NO_LOCK
            else "Correct the revision and run it again."
        )
    )
    return Failure("\n".join(message))


def finish(runner: Runner) -> int:
    """Converges the privileges at head; returns how many were changed.

    Raises: Failure when a declared object does not exist.
    """
    with runner.connect() as connection:
        return converge.converge(connection, runner.opt_in)


def validate(runner: Runner) -> list[str]:
    """Validates limits that rows of an older revision did not keep; names those that still do not.

    A constraint that is NOT VALID holds for new rows. Rows of the trail are never edited:
    they leave with their month; other rows are made smaller by hand.
    """
    left = []
    with runner.connect(autocommit=True) as connection:
        rows = connection.execute(
            "select c.conrelid::regclass::text, c.conname::text, "
            "pg_catalog.pg_get_userbyid(r.relowner)::text, c.conrelid = any(%s::regclass[]) "
            "from pg_catalog.pg_constraint as c "
            "inner join pg_catalog.pg_class as r on c.conrelid = r.oid "
            "where not c.convalidated and c.contype = 'c' and c.conparentid = 0 "
            "and c.coninhcount = 0 and c.connamespace = 'public'::regnamespace order by 1, 2",
            (list(access.TRAIL_TABLES),),
        ).fetchall()
        for table, name, owner, of_trail in rows:
            connection.execute(sql.SQL("set role {}").format(sql.Identifier(owner)))
            try:
                connection.execute(
                    sql.SQL("alter table {} validate constraint {}").format(
                        sql.Identifier(*table.split(".")), sql.Identifier(name)
                    )
                )
            except psycopg.errors.CheckViolation:
                how = "they leave with their month" if of_trail else "make them smaller"
                left.append(f"{name} not valid yet: {table} has larger rows of before, {how}")
    return left


def history(runner: Runner) -> list[tuple[str, str, bool]]:
    """Every revision, newest first: number, purpose, and whether it is applied."""
    with runner.connect(autocommit=True) as connection:
        reached = _current_as_owner(connection)
    rows: list[tuple[str, str, bool]] = []
    applied = False
    for script in ScriptDirectory.from_config(configuration()).walk_revisions():
        applied = applied or script.revision == reached
        rows.append((script.revision, script.doc, applied))
    return rows

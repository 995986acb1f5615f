"""Migrations on Alembic: run and revert, one runner at a time, one transaction per revision.

The lock is on Alembic's table, which no application's login reaches (docs/adr/0016-locks.md). It is
polled: LOCK TABLE waits without a snapshot, so that the holder's CREATE INDEX CONCURRENTLY does not
wait for the waiting runners.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from configparser import ConfigParser
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

import psycopg
from psycopg import sql

from pandom.database import converge, holders, losses, revisions
from pandom.database.connect import Target, connect, value
from pandom.database.revisions import Applied, Revision
from pandom.runtime.errors import Failure, PandomError, UsageError
from pandom.runtime.numbers import is_number
from schema import access

if TYPE_CHECKING:
    # Imported where a revision runs: most runs find the database at the newest one.
    from alembic.config import Config

FOLDER: Final = revisions.FOLDER
MIGRATOR: Final = "pandom_migrator"
# Blocks other runners, but neither readers nor Alembic's own statements.
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
T = TypeVar("T")


@dataclass(frozen=True)
class Runner:
    """Who migrates which database: the migrator's login and the roles that exist."""

    target: Target
    password: str
    opt_in: frozenset[str] = frozenset()
    production: bool = False
    lock_wait_s: float = LOCK_WAIT_S

    def connect(self, *, autocommit: bool = False) -> psycopg.Connection:
        """Return a connection as the migrator that waits for no lock longer than the limit."""
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
    from alembic.config import Config

    # Alembic reports "Running upgrade …" on loggers that nobody configured: keep it quiet.
    logging.getLogger("alembic").setLevel(logging.ERROR)
    found = Config(FOLDER / "alembic.ini")
    # Alembic's interpolation would take a % in the clone's path for a variable.
    folder = str(FOLDER).replace("%", "%%")
    found.file_config = ConfigParser({"here": folder})
    found.file_config.read(FOLDER / "alembic.ini", encoding="utf-8")
    return found


def head() -> str:
    """Return the newest revision of this copy of the program."""
    return revisions.every(FOLDER)[-1].number


def current(connection: psycopg.Connection) -> str | None:
    """Return the revision that the database is at; None when it is empty."""
    return revisions.read(connection).reached


@contextmanager
def session_lock(runner: Runner, waiting: Callable[[str], None] = lambda _: None) -> Iterator[None]:
    """Hold the migration lock of the database on a connection of its own.

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
    # Of two runners at once one gets an error that depends on how far the other is.
    if not value(connection, "select to_regclass('public.alembic_version') is not null"):
        with contextlib.suppress(
            psycopg.errors.UniqueViolation,
            psycopg.errors.DuplicateTable,
            psycopg.errors.DuplicateObject,
        ):
            connection.execute(
                "create table public.alembic_version (version_num varchar(32) not null, "
                "constraint alembic_version_pkc primary key (version_num))"
            )
    connection.execute(f"set lock_timeout = {TRY_MS}")
    with contextlib.suppress(psycopg.errors.LockNotAvailable):
        revisions.add_column(connection)


def _try_lock(connection: psycopg.Connection) -> bool:
    connection.execute("begin")
    try:
        # No NOWAIT: each attempt would be an error in the server's log.
        connection.execute(f"set local lock_timeout = {TRY_MS}")
        connection.execute("lock table public.alembic_version in share update exclusive mode")
    except psycopg.errors.LockNotAvailable:
        connection.execute("rollback")
        return False
    # The open transaction has neither a number nor a snapshot.
    return True


@contextmanager
def _alembic(
    runner: Runner, there: Sequence[Revision], *, trial: bool = False
) -> Iterator[tuple[Config, psycopg.Connection]]:
    """Alembic's configuration with a connection in it, both closed at the end."""
    import sqlalchemy
    from sqlalchemy.pool import NullPool

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
            config.attributes["revisions"] = there
            config.attributes["trial"] = trial
            yield config, raw
    finally:
        engine.dispose()
        raw.close()


def upgrade(runner: Runner, target: str = "head") -> tuple[str | None, str | None]:
    """Apply the revisions up to ``target``; the caller holds the session lock.

    Returns the revision before and after. Raises UsageError for a folder or database that must not
    be used, Failure naming the revision.
    """
    there = revisions.every(FOLDER, run=False)

    def look() -> Applied:
        with runner.connect() as connection:
            before = _as_owner(connection)
            revisions.refuse_unknown(there, before)
            revisions.refuse_changed(there, before)
            revisions.keep(connection, there)
            return before

    def action(config: Config) -> None:
        from alembic import command

        command.upgrade(config, target)

    before = _tried(runner, there, look, None, forward=True)
    if target == "head" and before.reached == there[-1].number:
        return before.reached, before.reached
    there = revisions.every(FOLDER)
    return before.reached, _move(runner, there, action, before.reached, forward=True)


def revert(
    runner: Runner, target: str, *, losing: bool | None = None
) -> tuple[str | None, str | None, list[str]]:
    """Revert revisions down to ``target`` (a revision, ``base`` or ``-1``).

    Returns the revision before and after, and what was lost, which is counted unless ``losing`` is
    None. Raises UsageError for an unknown revision, and for losses if ``losing`` is False; Failure
    as upgrade().
    """
    there = revisions.every(FOLDER)
    known = {revision.number for revision in there}
    if target not in known | {"base"} and not (target.startswith("-") and is_number(target[1:])):
        raise UsageError(
            f"there is no revision {target!r}; use -1, base or one of {', '.join(sorted(known))}"
        )
    with runner.connect() as connection:
        before = _as_owner(connection)
    revisions.refuse_unknown(there, before)
    goal = _goal(target, before.reached)

    def action(config: Config) -> None:
        from alembic import command

        command.downgrade(config, goal)

    lost = [] if losing is None or not before.reached else _lost(runner, there, action, before)
    if lost and losing is False:
        raise losses.WouldLose(
            f"Going back from {before.reached} to {goal} would lose:\n  "
            + "\n  ".join(lost)
            + "\nNothing was changed."
        )
    after = _move(runner, there, action, before.reached, forward=False)
    return before.reached, after, lost


def _goal(target: str, reached: str | None) -> str:
    """Return the revision that ``target`` means. Raises UsageError unless it lies behind."""
    at = int(reached or 0)
    if target == "base":
        return target
    goal = at + int(target) if target.startswith("-") else int(target)
    if goal > at or goal < 0:
        raise UsageError(
            f"the database is at {reached or 'no revision'}: there is no way back to {target}"
        )
    return f"{goal:04}" if goal else "base"


def _lost(
    runner: Runner, there: Sequence[Revision], action: Callable[[Config], None], before: Applied
) -> list[str]:
    """Return what a revert would delete, found by running it and rolling back."""

    def trial() -> list[str]:
        with _alembic(runner, there, trial=True) as (config, raw):
            raw.execute("set role pandom_owner")
            return losses.of(raw, lambda: action(config))

    found = _tried(runner, there, trial, before.reached, forward=False)
    return list(found)


def _move(
    runner: Runner,
    there: Sequence[Revision],
    action: Callable[[Config], None],
    before: str | None,
    *,
    forward: bool,
) -> str | None:
    def move() -> None:
        with _alembic(runner, there) as (config, _):
            action(config)

    _tried(runner, there, move, before, forward=forward)
    with runner.connect(autocommit=True) as connection:
        return _as_owner(connection).reached


def _tried(
    runner: Runner,
    there: Sequence[Revision],
    action: Callable[[], T],
    before: str | None,
    *,
    forward: bool,
) -> T:
    """Do it, and again where a lock was in the way."""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return action()
        except PandomError:
            raise
        except Exception as error:  # noqa: BLE001 - a revision's own code may raise anything
            cause = getattr(error, "orig", None) or error  # what SQLAlchemy wrapped
            if _lacks_lock(cause) and attempt < ATTEMPTS:
                time.sleep(PAUSE_S)
                continue
            raise _failure(runner, there, cause or error, before, forward=forward) from None
    raise AssertionError("unreachable")


def _as_owner(connection: psycopg.Connection) -> Applied:
    connection.execute("set role pandom_owner")
    return revisions.read(connection)


def _lacks_lock(cause: BaseException | None) -> bool:
    return getattr(cause, "sqlstate", None) in _NO_LOCK


def _failure(
    runner: Runner,
    there: Sequence[Revision],
    cause: BaseException,
    before: str | None,
    *,
    forward: bool,
) -> Failure:
    """Return what went wrong in which revision, and what the database is at now."""
    try:
        with runner.connect(autocommit=True) as connection:
            applied = _as_owner(connection)
            held = holders.of_database(connection) if _lacks_lock(cause) else ""
    except Failure:
        return Failure(f"the migration failed, and the server is gone: {cause}")
    reached = applied.reached
    failing = reached
    if forward:
        failing = next(
            (revision.number for revision in there if revision.number > (reached or "")), reached
        )
    direction = "revision" if forward else "taking back revision"
    if isinstance(cause, psycopg.Error):
        message = [f"{direction} {failing} failed: {cause.diag.message_primary or cause}"]
        if cause.diag.context:
            message.append(cause.diag.context.splitlines()[0])
    else:
        file = next(iter((FOLDER / "versions").glob(f"{failing}_*.py")), FOLDER)
        where = f"versions/{file.name}{revisions.line_in(cause, file)}"
        message = [f"{direction} {failing} failed: {revisions.described(cause)} ({where})"]
    if _lacks_lock(cause):
        advice = (
            f"Some transaction holds a lock that it needs: {held}. Next: wait for it, or end it: "
            f"{holders.HOW_TO_END}; then run it again."
        )
    elif not forward and any(
        revision.number == failing for revision in revisions.changed(there, applied)
    ):
        advice = (
            "It was applied with other text than is there now: put back that text, take it back, "
            "then put the new one in place."
        )
    else:
        advice = "Correct the revision and run it again."
    done = f" ({before or 'empty'} before)" if before != reached else ""
    message.append(
        f"nothing of it was applied; the database is at {reached or 'no revision'}{done}. {advice}"
    )
    return Failure("\n".join(message))


def finish(runner: Runner) -> int:
    """Converge the privileges at head; returns how many were changed.

    Raises: Failure when a declared object does not exist.
    """
    with runner.connect() as connection:
        return converge.converge(connection, runner.opt_in)


def validate(runner: Runner) -> list[str]:
    """Validate constraints that older rows violate; describe those that still cannot be.

    NOT VALID constraints hold for new rows. Rows of the trail are never edited: they leave with
    their month; others are made smaller by hand.
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

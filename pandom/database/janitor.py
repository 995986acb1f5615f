"""What pandom_janitor does: retention, partitions ahead, sealing; each a task of the schedule.

`watch` ends client sessions that block everybody, on a connection that it keeps: when a session
has taken all locks of the server, nobody can connect.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

import psycopg

from pandom.database import holders
from pandom.database.connect import Target, connect, target_from_environment, value
from pandom.runtime.errors import Failure
from pandom.runtime.inputs import secret
from schema import access

ROLE: Final = "pandom_janitor"
BATCH: Final = 1000
# The longest that a session which took all locks keeps everybody out.
WATCH_S: Final = 5


def expired(connection: psycopg.Connection) -> list[str]:
    """Delete what nobody may use any more, in batches."""
    total = 0
    while True:
        batch = value(connection, "select public.delete_expired(%s)", BATCH)
        if batch == 0:
            return [f"{total} expired rows deleted"] if total else []
        total += batch


def partitions(connection: psycopg.Connection) -> list[str]:
    """Make partitions ahead, after emptying the default ones, whose rows would be in the way."""
    done: list[str] = []
    # security_logs first: draining and making partitions writes events into it.
    for table in sorted(access.TRAIL_TABLES, reverse=True):
        log = table.removeprefix("public.")
        moved = value(connection, "select public.drain_default(%s)", log)
        if moved:
            done.append(f"{moved} rows moved out of {log}_default")
    rows = connection.execute("select public.ensure_partitions()").fetchall()
    return done + [f"partition {name} made" for (name,) in rows]


def sealed(connection: psycopg.Connection) -> list[str]:
    """Seal the trail in batches that are too short to hold up writers."""
    total = 0
    while batch := value(connection, "select public.seal_trail()"):
        total += batch
    return [f"{total} rows of the trail sealed"] if total else []


def password() -> str:
    """Return its password as it is now: a rotation changes it while this runs."""
    return secret(f"{ROLE}_password")


Routine = Callable[[psycopg.Connection], list[str]]


def work(target: Target, known: str, *routines: Routine) -> list[str]:
    """Connect, run routines, disconnect; return one line for each thing that was done.

    The connection is in autocommit mode, so that each batch is a transaction.
    Raises: Failure with the server's words.
    """
    with connect(
        target, ROLE, known, autocommit=True, application_name="pandom janitor"
    ) as connection:
        try:
            return [line for routine in routines for line in routine(connection)]
        except psycopg.Error as error:
            raise Failure(error.diag.message_primary or str(error)) from None


def _task(routine: Routine) -> None:
    for line in work(target_from_environment(), password(), routine):
        print(line, flush=True)


def delete_expired() -> None:
    """Run the task `expiry`."""
    _task(expired)


def make_partitions() -> None:
    """Run the task `partitions`."""
    _task(partitions)


def seal() -> None:
    """Run the task `seal`."""
    _task(sealed)


class Watch:
    """A connection that is kept, and ends what holds up everybody (end_long_transactions)."""

    def __init__(self, target: Target, password: Callable[[], str] = password) -> None:
        self._target, self._password = target, password
        self._connection: psycopg.Connection | None = None

    def look(self) -> list[str]:
        """End long transactions; return a line each. After a Failure the next call reconnects."""
        try:
            if self._connection is None:
                self._connection = connect(
                    self._target,
                    ROLE,
                    self._password(),
                    autocommit=True,
                    application_name="pandom janitor, watching",
                )
            return holders.end_long(self._connection)
        except psycopg.Error as error:
            self.close()
            raise Failure(f"watching: {error.diag.message_primary or error}") from None

    def close(self) -> None:
        """Disconnects."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None


def watch() -> None:
    """Run the task `watch`, which ends with its container."""
    watching, before = Watch(target_from_environment()), ""
    while True:
        try:
            lines = watching.look()
            before = ""
        except Failure as failure:
            text = f"will be tried again every {WATCH_S} s: {failure}"
            lines = [] if text == before else [text]
            before = text
        for line in lines:
            print(line, flush=True)
        time.sleep(WATCH_S)

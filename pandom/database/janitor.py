"""The janitor: deletes expired rows and makes partitions ahead, in a loop.

Each routine is a transaction of its own, so that one that fails does not stop the others. Between
rounds it ends client sessions that block everybody, on a connection that it keeps: when a session
has taken all locks of the server, nobody can connect.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import psycopg

from pandom.database import holders
from pandom.database.connect import Target, connect, target_from_environment, value
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.inputs import secret
from schema import access

ROLE: Final = "pandom_janitor"
INTERVAL_S: Final = 300
_AGAIN_S: Final = 10  # after a failed round: what was in its way is often gone soon
BATCH: Final = 1000
# The longest that a session which took all locks keeps everybody out.
WATCH_S: Final = 5
# The container's health check looks at this file's age.
ALIVE: Final = Path(os.environ.get("PANDOM_JANITOR_ALIVE", "/tmp/janitor-alive"))  # noqa: S108


def routines(connection: psycopg.Connection) -> list[str]:
    """Run one round; return one line for each thing that was done.

    The connection is in autocommit mode, so that each batch is a transaction.
    Raises: Failure naming each routine that failed, after all were tried.
    """
    done: list[str] = []
    failed: list[str] = []
    for name, routine in (
        ("expired rows", _expired),
        ("partitions", partitions),
        ("sealing of the trail", _sealed),
    ):
        try:
            done += routine(connection)
        except psycopg.Error as error:
            failed.append(f"{name}: {error.diag.message_primary or error}")
    if failed:
        raise Failure("; ".join(failed))
    return done


def _expired(connection: psycopg.Connection) -> list[str]:
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


def _sealed(connection: psycopg.Connection) -> list[str]:
    """Seal the trail in batches that are too short to hold up writers."""
    total = 0
    while batch := value(connection, "select public.seal_trail()"):
        total += batch
    return [f"{total} rows of the trail sealed"] if total else []


def password() -> str:
    """Return its password as it is now: a rotation changes it while this runs."""
    return secret(f"{ROLE}_password")


def run_once(target: Target, known: str) -> list[str]:
    """Connect, runs one round, disconnects."""
    with connect(
        target, ROLE, known, autocommit=True, application_name="pandom janitor"
    ) as connection:
        return routines(connection)


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


def run() -> None:
    """Repeat the round every PANDOM_JANITOR_INTERVAL_S seconds; report and retry failed ones.

    Only a round without a failure makes the container healthy.
    """
    interval = os.environ.get("PANDOM_JANITOR_INTERVAL_S", str(INTERVAL_S))
    if not interval.isdigit() or int(interval) < 1:
        raise UsageError(f"PANDOM_JANITOR_INTERVAL_S must be 1 or more, found {interval!r}")
    target = target_from_environment()
    watch = Watch(target)
    while True:
        pause = int(interval)
        try:
            for line in run_once(target, password()):
                print(line, flush=True)
            ALIVE.touch()
        except Exception as failure:  # noqa: BLE001 - one that ends would be silent
            pause = min(pause, _AGAIN_S)
            print(f"failed, will be tried again in {pause} s: {failure}", flush=True)
        until = time.monotonic() + pause
        while (left := until - time.monotonic()) > 0:
            try:
                for line in watch.look():
                    print(line, flush=True)
            except Failure as failure:
                print(f"failed, will be tried again in {WATCH_S} s: {failure}", flush=True)
            time.sleep(min(WATCH_S, left))

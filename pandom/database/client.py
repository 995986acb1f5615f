"""How an application talks to the database: pool, context, retry (D1, P2).

The pool has the source document's numbers. Whoever works on behalf of a user says
so at the beginning of each transaction; the setting ends with it, so that a pooled
connection carries nothing over to the next user. An application may use this
module, or do the same in its own language: it is three statements.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self, TypeVar
from uuid import UUID

import psycopg
import sqlalchemy
from psycopg_pool import ConnectionPool
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

from pandom.errors import Failure

POOL_SIZE: Final = 20
CONNECT_TIMEOUT_S: Final = 5
IDLE_S: Final = 30
ATTEMPTS: Final = 5
BACKOFF_S: Final = 0.05
# Serialisation failure, deadlock, shutdown, too many connections: the same again may succeed.
_AGAIN: Final = ("40001", "40P01", "57P01", "57P02", "57P03", "53300")

T = TypeVar("T")


@dataclass(frozen=True)
class Caller:
    """On whose behalf a transaction runs.

    ``token`` is the user's session token; ``user`` its uuid, for stacks without
    signed contexts. ``admin`` enters the administrators' role, which gives nothing
    to anybody else.
    """

    token: str | None = None
    user: UUID | None = None
    admin: bool = False
    client_ip: str = ""
    user_agent: str = ""


NOBODY: Final = Caller()


class Client:
    """A pool of connections, as the SQLAlchemy models' sessions or as plain psycopg.

    ``conninfo`` is a libpq connection string or URL. ``log_statements`` prints each
    statement, never its parameters; it is for development.
    """

    def __init__(self, conninfo: str, *, log_statements: bool = False) -> None:
        """Open nothing yet; the first use does."""
        self._pool = ConnectionPool(
            conninfo,
            min_size=0,
            max_size=POOL_SIZE,
            timeout=CONNECT_TIMEOUT_S,
            max_idle=IDLE_S,
            kwargs={"connect_timeout": CONNECT_TIMEOUT_S},
            check=ConnectionPool.check_connection,
            close_returns=True,  # SQLAlchemy closes; the pool keeps
            open=False,
        )
        self._engine = sqlalchemy.create_engine(
            "postgresql+psycopg://",
            creator=self._pool.getconn,
            poolclass=NullPool,
            echo=log_statements,
            hide_parameters=True,
        )

    def __enter__(self) -> Self:
        """Open the pool."""
        self._pool.open()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the pool and its connections."""
        self._engine.dispose()
        self._pool.close()

    @contextmanager
    def session(self, caller: Caller = NOBODY) -> Iterator[Session]:
        """One transaction of the ORM in somebody's context; commits at the end.

        Raises: Failure when the session token opens no context.
        """
        with Session(self._engine) as session, session.begin():
            begin(session.connection().connection.driver_connection, caller)
            yield session

    @contextmanager
    def connection(self, caller: Caller = NOBODY) -> Iterator[psycopg.Connection]:
        """One transaction of plain psycopg in somebody's context; commits at the end."""
        with self._pool.connection() as connection, connection.transaction():
            begin(connection, caller)
            yield connection

    def run(self, work: Callable[[Session], T], caller: Caller = NOBODY) -> T:
        """Does ``work`` in a transaction, again with growing pauses where that can help.

        What the statement itself got wrong is raised at once.
        """
        for attempt in range(1, ATTEMPTS + 1):
            try:
                with self.session(caller) as session:
                    return work(session)
            except (sqlalchemy.exc.OperationalError, psycopg.OperationalError) as error:
                if attempt == ATTEMPTS or not _may_succeed(error):
                    raise
                # Those who collided must not collide again.
                time.sleep(BACKOFF_S * 2**attempt * random.uniform(0.5, 1.5))  # noqa: S311
        raise AssertionError("unreachable")


def begin(connection: object, caller: Caller) -> None:
    """Opens a transaction's context: what every client has to do first."""
    if not isinstance(connection, psycopg.Connection):
        raise TypeError("the client runs on psycopg")
    connection.execute(
        "select set_config('app.client_ip', %s, true), set_config('app.user_agent', %s, true)",
        (caller.client_ip, caller.user_agent),
    )
    if caller.token is not None:
        row = connection.execute("select public.begin_context(%s)", (caller.token,)).fetchone()
        if row is None or row[0] is None:
            connection.commit()  # the rejection is recorded
            raise Failure("the session has ended; sign in again")
    elif caller.user is not None:
        connection.execute(
            "select set_config('app.current_user_id', %s, true)", (str(caller.user),)
        )
    if caller.admin:
        connection.execute("set local role pandom_admin")


def _may_succeed(error: Exception) -> bool:
    cause = error.orig if isinstance(error, sqlalchemy.exc.DBAPIError) else error
    state = getattr(cause, "sqlstate", None)
    # Without a state the connection was lost or never made.
    return state is None or state in _AGAIN

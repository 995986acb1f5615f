"""Transactions of an application: its pool, its user, and what may be tried again (D1, P2).

What an application imports beside ``schema.models``. It reads the variables that
``pandom env`` prints and needs nothing else of this project::

    with Database() as database:
        profile = database.run(lambda session: …, token=token)

Every transaction is opened for somebody, because without a context row security
shows nothing. The context ends with the transaction, so the next user of the same
connection, also behind a transaction pooler, starts without one.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType
from typing import Any, Final, Self, TypeVar
from uuid import UUID

import psycopg
import psycopg_pool
from psycopg.conninfo import make_conninfo
from sqlalchemy import create_engine, func, select, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

Result = TypeVar("Result")

ATTEMPTS: Final = 5
# Doubled each time, and up to as much again by chance, or two that met meet again.
FIRST_WAIT_S: Final = 0.05

# serialization_failure, deadlock_detected: the server says that it rolled back.
_ROLLED_BACK: Final = frozenset({"40001", "40P01"})
# admin_shutdown, crash_shutdown, cannot_connect_now. Not the time-out of idle
# transactions: a program that lets one idle would only do it again.
_SERVER_WENT: Final = frozenset({"57P01", "57P02", "57P03"})


class NotSignedIn(Exception):
    """The session token is unknown or expired, or its user inactive; nothing was done."""


class OutcomeUnknown(Exception):
    """The connection broke while committing: the work is done or not, nobody can tell.

    Never tried again by itself; look at the data first.
    """


class Database:
    """The application's login: one pool, one transaction for each piece of work.

    ``log_statements`` is for development; parameters are never shown, neither in the
    log nor in errors, because tokens and passwords are among them.
    """

    def __init__(
        self, environment: Mapping[str, str] = os.environ, *, log_statements: bool = False
    ) -> None:
        """Opens no connection yet. Raises ValueError that names a missing variable."""
        self.pool = pool(environment)
        self.engine = create_engine(
            "postgresql+psycopg://",
            # psycopg's pool closes idle connections; SQLAlchemy's cannot.
            creator=self.pool.getconn,
            poolclass=NullPool,
            echo=log_statements,
            hide_parameters=True,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Closes every connection."""
        self.pool.close()

    @contextmanager
    def transaction(
        self,
        *,
        token: str | None = None,
        user: UUID | None = None,
        admin: bool = False,
        client_ip: str = "",
        user_agent: str = "",
    ) -> Iterator[Session]:
        """One transaction: committed at the end, rolled back by an exception.

        ``token`` is the session token that sign_in() returned and works everywhere;
        ``user`` alone is enough only where contexts are unsigned. With neither there is
        no context, which is right for sign_in() and register(). ``admin`` enters
        pandom_admin, whose policies ask whether the user is an administrator.
        ``client_ip`` and ``user_agent`` are what the trail notes.

        Raises: NotSignedIn, OutcomeUnknown, and SQLAlchemy's errors.
        """
        with Session(self.engine, expire_on_commit=False) as session:
            _note(session, "app.client_ip", client_ip)
            _note(session, "app.user_agent", user_agent)
            if token is not None:
                if session.scalar(select(func.public.begin_context(token))) is None:
                    session.commit()  # The refusal is an event of the trail; keep it.
                    raise NotSignedIn("the session has ended; sign in again")
            elif user is not None:
                _note(session, "app.current_user_id", str(user))
            if admin:
                session.execute(text("set local role pandom_admin"))
            yield session
            session.flush()
            try:
                session.commit()
            except DBAPIError as error:
                if _connection_lost(error):
                    raise OutcomeUnknown(
                        "the connection broke while committing; the work may be done: look "
                        "before you do it again"
                    ) from error
                raise

    def run(
        self, work: Callable[[Session], Result], *, attempts: int = ATTEMPTS, **whose: Any
    ) -> Result:
        """``work`` in a transaction of its own, again when that is safe and may help.

        That is: a serialization failure, a deadlock, and a connection that broke before
        COMMIT was sent. ``work`` may run several times, so what it does outside of the
        database must bear that. ``whose`` is passed to ``transaction``.
        """
        for attempt in range(1, attempts + 1):
            try:
                with self.transaction(**whose) as session:
                    return work(session)
            except DBAPIError as error:
                if attempt == attempts or not worth_another_try(error):
                    raise
                if _connection_lost(error):
                    # The others in the pool are probably as dead.
                    self.pool.check()
            time.sleep(FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(1, 2))  # noqa: S311
        raise AssertionError("attempts must be at least 1")


def pool(environment: Mapping[str, str] = os.environ) -> psycopg_pool.ConnectionPool:
    """D1's pool, also for psycopg without SQLAlchemy: 20 connections, 5 s to connect or
    to wait for a free one, closed after 30 s without work.

    The first connection is made when it is needed; the rest as well.
    """

    def wanted(name: str) -> str:
        value = environment.get(name)
        if not value:
            raise ValueError(f"{name} is not set; `pandom env` prints it and its neighbours")
        return value

    timeout_s = float(wanted("DB_CONNECT_TIMEOUT_MS")) / 1000
    return psycopg_pool.ConnectionPool(
        make_conninfo(
            host=wanted("DB_HOST"),
            port=wanted("DB_PORT"),
            dbname=wanted("DB_DATABASE"),
            user=wanted("DB_USERNAME"),
            password=wanted("DB_PASSWORD"),
            sslmode=wanted("DB_SSLMODE"),
            sslrootcert=wanted("DB_SSLROOTCERT"),
            connect_timeout=max(2, round(timeout_s)),  # libpq takes no less than 2
        ),
        min_size=0,
        max_size=int(wanted("DB_POOL_MAX")),
        timeout=timeout_s,
        max_idle=float(wanted("DB_IDLE_TIMEOUT_MS")) / 1000,
        # SQLAlchemy knows close() only.
        close_returns=True,
        open=True,
    )


def worth_another_try(error: DBAPIError) -> bool:
    """Whether the same work may succeed, and certainly has not been done."""
    state = getattr(error.orig, "sqlstate", None)
    # The pool waited for its time-out already; asking again would make it worse.
    exhausted = isinstance(error.orig, psycopg_pool.PoolTimeout)
    return state in _ROLLED_BACK or (_connection_lost(error) and not exhausted)


def _connection_lost(error: DBAPIError) -> bool:
    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state in _SERVER_WENT or state.startswith("08")
    return isinstance(error.orig, psycopg.OperationalError)


def _note(session: Session, name: str, value: str) -> None:
    """SET LOCAL by a function, which takes parameters; nothing to say, nothing said."""
    if value:
        session.execute(select(func.set_config(name, value, True)))

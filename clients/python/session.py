"""Transactions of an application: its pool, its user, and retries.

Import it beside ``schema.models``. It reads the variables that ``pandom env`` prints and needs
nothing else of this project::

    with Database() as database:
        profile = database.run(lambda session: …, token=token)

Every transaction is opened for a user, because without a context row security shows no rows. The
context ends with the transaction; the next one of the same work opens it again. The statement that
ends a transaction also clears the session, so that nothing stays on the connection, even behind a
transaction pooler, which may hand the server's session to another client at once.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Any, Final, Self, TypedDict, TypeVar, Unpack
from uuid import UUID

import psycopg
import psycopg_pool
from psycopg import generators, pq
from psycopg.conninfo import make_conninfo
from psycopg.pq import ExecStatus, TransactionStatus
from psycopg.rows import TupleRow, tuple_row
from sqlalchemy import create_engine, event
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session
from sqlalchemy.pool import NullPool

Result = TypeVar("Result")

ATTEMPTS: Final = 5
# Exponential backoff with jitter, so that colliding transactions do not collide again.
FIRST_WAIT_S: Final = 0.05

# serialization_failure, deadlock_detected: the server says that it rolled back.
_ROLLED_BACK: Final = frozenset({"40001", "40P01"})
# admin_shutdown, crash_shutdown, cannot_connect_now. Not the idle transaction time-out: a
# program that idles once would idle again.
_SERVER_WENT: Final = frozenset({"57P01", "57P02", "57P03"})

# What DISCARD ALL does, which may not follow another statement in one message. The
# settings first: a time-out among them would hold for the rest.
_CLEAR: Final = (
    b"reset all; set session authorization default; close all; unlisten *; "
    b"select pg_catalog.pg_advisory_unlock_all(); discard temp; discard sequences"
)
_CLEAR_STATEMENTS: Final = b"; deallocate all; discard plans"
# Command tags of statements that end a transaction or may clear its context. ROLLBACK TO has
# the tag ROLLBACK, too, and keeps the context.
_MAY_END: Final = frozenset({b"COMMIT", b"ROLLBACK", b"SET", b"RESET"})


class NotSignedIn(Exception):
    """No user to work for: no valid token, an inactive user, or contexts must be signed.

    Nothing was done.
    """


class NotAdministrator(Exception):
    """``admin=True`` for a user who is not an administrator. Nothing was done."""


class OutcomeUnknown(Exception):
    """The connection broke while committing: the work may be done or not. It is never retried."""


class ContextLost(Exception):
    """SQL ended the transaction, cleared its context, or began work outside of a transaction.

    What follows would have no user and see no rows. Use commit() and rollback() instead.
    """


class OtherProcess(Exception):
    """A connection was made before this process was forked, and belongs to its parent."""


class Whose(TypedDict, total=False):
    """For whom a transaction is opened.

    ``token`` is the session token from sign_in(); ``user`` alone is enough only where contexts are
    unsigned. With neither there is no context, as for sign_in() and register(). ``admin`` enters
    pandom_admin, whose policies check the user. ``client_ip`` and ``user_agent`` go into the trail.
    """

    token: str
    user: UUID
    admin: bool
    client_ip: str
    user_agent: str


@dataclass(frozen=True)
class _Context:
    """What is said to the server at the beginning of each transaction."""

    whose: Whose = field(repr=False)  # the token is a secret

    def __post_init__(self) -> None:
        for name in ("token", "user"):
            if name in self.whose and not self.whose.get(name):
                raise NotSignedIn(
                    f"{name} is {self.whose.get(name)!r}: there is nobody to work for. Leave it "
                    "out where that is meant, as for sign_in() and register()"
                )

    @property
    def somebody(self) -> bool:
        return "token" in self.whose or "user" in self.whose

    def statement(self) -> tuple[str, list[str]]:
        """Return the statement that opens the context and its parameters; "" if none is needed."""
        settings = {
            "app.client_ip": self.whose.get("client_ip", ""),
            "app.user_agent": self.whose.get("user_agent", ""),
        }
        opened, parameters = "", []
        if "token" in self.whose:
            opened, parameters = "public.begin_context(%s)", [self.whose["token"]]
        elif "user" in self.whose:
            opened = "public.current_user_id()"
            settings["app.current_user_id"] = str(self.whose["user"])
        said = {name: value for name, value in settings.items() if value}
        if not opened and not said:
            return "", []
        # set_config() instead of SET LOCAL, because it takes parameters; FROM is evaluated first.
        calls = ", ".join(f"set_config('{name}', %s, true)" for name in said)
        query = f"select {opened or 1}" + (f" from {calls}" if said else "")  # noqa: S608 - names
        return query, [*parameters, *said.values()]

    def open(self, connection: Connection) -> None:
        """Begin a transaction with it. Raises NotSignedIn and NotAdministrator."""
        cursor = psycopg.Cursor(connection, row_factory=tuple_row)
        query, parameters = self.statement()
        if query:
            connection.log(query)
            row = cursor.execute(query.encode(), parameters).fetchone()
            if self.somebody and (row is None or row[0] is None):
                connection.commit()  # The refusal is an event of the trail; keep it.
                raise NotSignedIn(
                    "the session has ended; sign in again"
                    if "token" in self.whose
                    else "the user is unknown or inactive, or contexts are signed here and "
                    "want a session token"
                )
        if self.whose.get("admin"):
            cursor.execute("set local role pandom_admin")
            row = cursor.execute("select public.current_user_is_admin()").fetchone()
            if row != (True,):
                connection.rollback()
                raise NotAdministrator("the user is no administrator, or no longer")

    def is_open(self, connection: Connection) -> bool:
        """Return whether the transaction still has it."""
        row = (
            psycopg.Cursor(connection, row_factory=tuple_row)
            .execute("select current_setting('app.current_user_id', true) <> ''")
            .fetchone()
        )
        return row == (True,)


class _Watched:
    """What every kind of cursor does before and after a statement."""

    connection: Connection

    def execute(self, *arguments: Any, **options: Any) -> Any:
        self.connection.before_statement()
        done = super().execute(*arguments, **options)  # type: ignore[misc]
        self.connection.after_statement(self)
        return done

    def executemany(self, *arguments: Any, **options: Any) -> Any:
        self.connection.before_statement()
        return super().executemany(*arguments, **options)  # type: ignore[misc]

    def stream(self, *arguments: Any, **options: Any) -> Any:
        self.connection.before_statement()
        return super().stream(*arguments, **options)  # type: ignore[misc]

    def copy(self, *arguments: Any, **options: Any) -> Any:
        self.connection.before_statement()
        return super().copy(*arguments, **options)  # type: ignore[misc]


class Cursor(_Watched, psycopg.Cursor[TupleRow]):
    """A cursor whose statements run in the context of its connection."""


class ServerCursor(_Watched, psycopg.ServerCursor[TupleRow]):
    """The same, for results that stay on the server."""


class Connection(psycopg.Connection[TupleRow]):
    """psycopg's connection, with a context for each transaction.

    The end of a transaction clears the session, and a forked process cannot use the connection.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._process = os.getpid()
        self._context: _Context | None = None
        self._used = self._opening = self._lent = False
        self.log: Callable[[str], None] = lambda _: None
        self.cursor_factory = Cursor
        self.server_cursor_factory = ServerCursor

    def work_for(self, context: _Context) -> None:
        """Take on a context and open it, unless a transaction is under way in it."""
        self._context = context
        self.before_statement()

    def before_statement(self) -> None:
        """Open the context if the statement is the first one of a transaction."""
        self._refuse_other_process()
        self._used = True
        if self._context is None:
            return
        if self.autocommit and self._context.somebody:
            raise ContextLost("a context lasts for a transaction, and autocommit has none")
        if self.info.transaction_status == TransactionStatus.IDLE:
            self._opening = True
            try:
                self._context.open(self)
            finally:
                self._opening = False

    def after_statement(self, cursor: Any) -> None:
        """Refuse SQL that ended the transaction or its context, for each statement of a string."""
        if self._context is None or not self._context.somebody or self.autocommit:
            return
        status = self.info.transaction_status
        said = {answer.command_status or b"" for answer in cursor._results}
        doubtful = status == TransactionStatus.INTRANS and not said.isdisjoint(_MAY_END)
        if status == TransactionStatus.IDLE or (doubtful and not self._context.is_open(self)):
            raise ContextLost(
                "SQL ended the transaction, and its context with it, or took the context away; "
                "use commit() and rollback() of the session or the connection"
            )

    def _start_query(self) -> Generator[Any, Any, None]:
        """Refuse a cursor that was not made by cursor() as the first of a transaction.

        It would not open the context. Every cursor of psycopg calls this first.
        """
        self._refuse_other_process()
        if (
            self._context is not None
            and self._context.somebody
            and not self._opening
            and self.info.transaction_status == TransactionStatus.IDLE
        ):
            raise ContextLost(
                "a cursor of another class cannot begin a transaction of a user: make it by "
                "cursor(), or execute a first statement on the connection"
            )
        yield from super()._start_query()

    @contextmanager
    def transaction(
        self, savepoint_name: str | None = None, force_rollback: bool = False
    ) -> Iterator[psycopg.Transaction]:
        """Open psycopg's transaction block, which begins without a cursor, in the context."""
        outermost = self.info.transaction_status == TransactionStatus.IDLE
        with super().transaction(savepoint_name, force_rollback) as made:
            if outermost and self._context is not None:
                self._used = True
                self._context.open(self)
            yield made

    def _exec_command(self, command: Any, *rest: Any, **named: Any) -> Generator[Any, Any, Any]:
        """Send psycopg's BEGIN, COMMIT or ROLLBACK; the last two also clear the session.

        If psycopg ever sends them another way, hand_back() clears it with one more message, though
        not behind a pooler.
        """
        if command not in (b"COMMIT", b"ROLLBACK"):
            return (yield from super()._exec_command(command, *rest, **named))
        if self.pgconn.pipeline_status:
            raise psycopg.ProgrammingError(
                "commit() and rollback() clear the session, which a pipeline cannot: leave its "
                "block first"
            )
        if command == b"COMMIT":
            self._refuse_other_process()
            if self.info.transaction_status == TransactionStatus.INERROR:
                raise psycopg.errors.InFailedSqlTransaction(
                    "nothing was committed: a statement failed, and its error was caught. Call "
                    "rollback(), or put what may fail into a savepoint"
                )
        elif self._process != os.getpid():
            return None  # nothing of this process to roll back
        self.pgconn.send_query(command + b"; " + self._clear)
        results = yield from generators.execute(self.pgconn)
        if results[0].status != ExecStatus.COMMAND_OK:
            raise psycopg.errors.error_from_result(results[0], encoding=self.info.encoding)
        self._used = results[-1].status == ExecStatus.FATAL_ERROR
        return results[0]

    @property
    def _clear(self) -> bytes:
        # Keep psycopg's prepared statements where somebody asked for them.
        return _CLEAR if self.prepare_threshold is not None else _CLEAR + _CLEAR_STATEMENTS

    def hand_back(self, prepare_threshold: int | None) -> None:
        """Leave nothing for the next borrower: no context, no state of server or driver."""
        self._context, self._lent = None, False
        if self.info.transaction_status in (TransactionStatus.INTRANS, TransactionStatus.INERROR):
            self.rollback()
        if self.info.transaction_status != TransactionStatus.IDLE:
            return  # broken or still at work: the pool closes it
        if self.autocommit:
            self.autocommit = False
        self.isolation_level = self.read_only = self.deferrable = None
        self.row_factory = tuple_row
        self.cursor_factory, self.server_cursor_factory = Cursor, ServerCursor
        self.prepare_threshold = prepare_threshold
        if self._used:
            psycopg.Cursor(self).execute(b"rollback; " + self._clear)
            self._used = False

    def close(self) -> None:
        """Close it or return it to its pool; does nothing in a forked process.

        In a ``with`` block of the pool it is closed for good: returned early, it could be another
        borrower's before the block ends.
        """
        if self._process != os.getpid():
            return
        if self._lent:
            self._closed = True
            self.pgconn.finish()
        else:
            super().close()

    def lend(self) -> None:
        """Mark it as lent to a block, which hands it back at its end."""
        self._lent = True

    def _refuse_other_process(self) -> None:
        if self._process != os.getpid():
            raise OtherProcess(
                f"this connection belongs to process {self._process}, from which this one was "
                "forked: begin a transaction of its own here"
            )


class Pool(psycopg_pool.ConnectionPool[Connection]):
    """psycopg's pool; what comes back is clean, and a forked process is refused."""

    def __init__(
        self, conninfo: str, *, prepare_threshold: int | None = None, **options: Any
    ) -> None:
        self.process, self._threshold = os.getpid(), prepare_threshold
        kwargs = {"prepare_threshold": prepare_threshold}
        super().__init__(conninfo, connection_class=Connection, kwargs=kwargs, **options)

    def getconn(self, timeout: float | None = None) -> Connection:
        """Return a connection. Raises OtherProcess in a process that was forked from the pool's."""
        if self.process != os.getpid():
            raise OtherProcess(
                f"this pool belongs to process {self.process}, from which this one was forked: "
                "make one after the fork, or use Database, which does"
            )
        return super().getconn(timeout)

    @contextmanager
    def connection(self, timeout: float | None = None) -> Iterator[Connection]:
        """Lend a connection to a block; it goes back at the block's end in any case."""
        with super().connection(timeout) as connection:
            connection.lend()
            yield connection

    def putconn(self, conn: Connection) -> None:
        """Take a connection back, cleared; one that cannot be cleared is closed.

        Here and not by the pool's ``reset``, which costs two changes of thread each time.
        """
        if self.process != os.getpid():
            return
        try:
            conn.hand_back(self._threshold)
        except psycopg.Error:
            conn.pgconn.finish()
        super().putconn(conn)

    def close(self, timeout: float = 5.0) -> None:
        """Close every connection that is this process's."""
        if self.process == os.getpid():
            super().close(timeout)


class Database:
    """The application's login: one pool, one transaction for each piece of work.

    ``log_statements`` is for development; parameters, which may be secrets, are never shown.
    ``prepare_threshold`` is psycopg's, for direct connections only: behind a transaction pooler
    prepared statements would give one client another's answers.
    """

    def __init__(
        self,
        environment: Mapping[str, str] = os.environ,
        *,
        log_statements: bool = False,
        prepare_threshold: int | None = None,
    ) -> None:
        """Open no connection yet. Raises ValueError that names a missing variable."""
        self._make_pool: Callable[[], Pool] = partial(
            pool, environment, prepare_threshold=prepare_threshold
        )
        self._pools = {os.getpid(): self._make_pool()}
        self.engine = create_engine(
            "postgresql+psycopg://",
            # psycopg's pool closes idle connections; SQLAlchemy's cannot.
            creator=lambda: self.pool.getconn(),
            poolclass=NullPool,
            echo=log_statements,
            hide_parameters=True,
        )

    @property
    def pool(self) -> Pool:
        """The pool of this process. A fork starts with one of its own; its parent's is kept
        and never touched, because the connections are the parent's."""
        found = self._pools.get(os.getpid())
        if found is None:
            made = self._make_pool()
            found = self._pools.setdefault(os.getpid(), made)
            if found is not made:  # another thread was faster
                made.close()
        return found

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
        """Close every connection."""
        self.pool.close()

    @contextmanager
    def transaction(self, **whose: Unpack[Whose]) -> Iterator[Session]:
        """Open a transaction: committed at the end, rolled back by an exception.

        After commit() or rollback() of the session another one begins in the same context;
        NotSignedIn if that has ended. The session cannot be used after the block. Raises
        NotSignedIn, NotAdministrator, ContextLost, OutcomeUnknown, OtherProcess, and SQLAlchemy's
        errors.
        """
        context = _Context(whose)
        session = Session(self.engine, expire_on_commit=False, close_resets_only=False)

        def begun(_: Session, transaction: Any, connection: Any) -> None:
            if not transaction.nested:
                driver = connection.connection.driver_connection
                driver.log = self.engine.logger.info
                driver.work_for(context)

        event.listen(session, "after_begin", begun)
        with session:
            session.connection()
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

    @contextmanager
    def connection(self, **whose: Unpack[Whose]) -> Iterator[Connection]:
        """Open the same for psycopg without SQLAlchemy; raises psycopg's errors."""
        context = _Context(whose)
        with self.pool.connection() as connection:
            connection.work_for(context)
            yield connection

    def run(
        self,
        work: Callable[[Session], Result],
        *,
        attempts: int = ATTEMPTS,
        **whose: Unpack[Whose],
    ) -> Result:
        """Run ``work`` in a transaction, and again when that is safe and may help.

        It is after a serialization failure, a deadlock, and a connection that broke before COMMIT
        was sent. ``work`` may run several times, which its side effects must allow.
        """
        for attempt in range(1, attempts + 1):
            try:
                with self.transaction(**whose) as session:
                    return work(session)
            except DBAPIError as error:
                if attempt == attempts or not worth_another_try(error):
                    raise
                if _connection_lost(error):
                    # The pool's other connections are probably broken, too.
                    self.pool.check()
            time.sleep(FIRST_WAIT_S * 2 ** (attempt - 1) * random.uniform(1, 2))  # noqa: S311
        raise AssertionError("attempts must be at least 1")


def pool(
    environment: Mapping[str, str] = os.environ, *, prepare_threshold: int | None = None
) -> Pool:
    """Return the source document's pool: 20 connections, 5 s to connect or wait, 30 s idle.

    Connections are made when they are needed. libpq's variables are ignored: a pooler refuses some,
    and PGHOSTADDR names another server.
    """

    def wanted(name: str) -> str:
        value = environment.get(name)
        if not value:
            raise ValueError(f"{name} is not set; `pandom env` prints it and its neighbours")
        return value

    timeout_s = float(wanted("DB_CONNECT_TIMEOUT_MS")) / 1000
    return Pool(
        make_conninfo(
            **{
                **_without_libpq_variables(),
                "host": wanted("DB_HOST"),
                "port": wanted("DB_PORT"),
                "dbname": wanted("DB_DATABASE"),
                "user": wanted("DB_USERNAME"),
                "password": wanted("DB_PASSWORD"),
                "sslmode": wanted("DB_SSLMODE"),
                "sslrootcert": wanted("DB_SSLROOTCERT"),
                "connect_timeout": str(max(2, round(timeout_s))),  # libpq takes no less than 2
            }
        ),
        prepare_threshold=prepare_threshold,
        min_size=0,
        max_size=int(wanted("DB_POOL_MAX")),
        timeout=timeout_s,
        max_idle=float(wanted("DB_IDLE_TIMEOUT_MS")) / 1000,
        # SQLAlchemy returns connections by close().
        close_returns=True,
        open=True,
    )


# Defaults that libpq does not report and that an empty value does not select.
_DEFAULTS: Final = {
    "client_encoding": "UTF8",
    "sslcertmode": "allow",
    "require_auth": "!gss",  # "" is no method at all; ours has no Kerberos
    "min_protocol_version": "3.0",
    "max_protocol_version": "3.0",
}


def _without_libpq_variables() -> dict[str, str]:
    """State libpq's defaults for what its variables or a service file would change."""
    stated = {}
    for option in pq.Conninfo.get_defaults():
        name, variable = option.keyword.decode(), (option.envvar or b"").decode()
        if (
            variable
            and name != "service"
            and not os.environ.keys().isdisjoint({variable, "PGSERVICE"})
        ):
            stated[name] = _DEFAULTS.get(name, (option.compiled or b"").decode())
    return stated


def worth_another_try(error: DBAPIError) -> bool:
    """Return whether the same work may succeed, and certainly has not been done."""
    # The pool has already waited; another attempt would add to the load.
    hopeless = isinstance(error.orig, psycopg_pool.PoolTimeout | psycopg_pool.PoolClosed)
    return _state(error) in _ROLLED_BACK or (_connection_lost(error) and not hopeless)


def _state(error: DBAPIError) -> str | None:
    return getattr(error.orig, "sqlstate", None)


def _connection_lost(error: DBAPIError) -> bool:
    state = _state(error)
    if state is not None:
        return state in _SERVER_WENT or state.startswith("08")
    return isinstance(error.orig, psycopg.OperationalError)

"""A context is set again or refused, whatever ended the transaction; a fork is noticed."""

from __future__ import annotations

import os
import traceback
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from sqlalchemy import select, text, update
from sqlalchemy.exc import DBAPIError, InvalidRequestError
from sqlalchemy.orm import Session

from clients.python.session import Connection as Driver
from clients.python.session import (
    ContextLost,
    NotAdministrator,
    NotSignedIn,
    OtherProcess,
    Pool,
    pool,
)
from clients.python.session import Database as Client
from schema.models import User, UserProfile
from tests.clients.conftest import environment
from tests.fixtures.databases import ALICE, BOB, Database
from tests.fixtures.databases import ROOT as ADMINISTRATOR

EMAILS = select(User.email)


def touched(session: Session) -> int:
    """How many rows a bulk update reaches."""
    done: Any = session.execute(update(UserProfile).values(tags=["bulk"]))
    return int(done.rowcount)


def failed(session: Session) -> None:
    with pytest.raises(DBAPIError):
        session.execute(text("select 1 / 0"))
    session.rollback()


def savepoint(session: Session) -> None:
    with pytest.raises(DBAPIError), session.begin_nested():
        session.execute(text("select 1 / 0"))


def savepoint_rolled_back(session: Session) -> None:
    session.begin_nested().rollback()


# -- what ends a transaction ---------------------------------------------------------


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("signed", [False, True], ids=["plain", "signed"])
def test_the_context_is_there_again(client: Database, signed: bool) -> None:
    enforce(client, signed)
    endings: tuple[Callable[[Session], None], ...] = (
        Session.commit,
        Session.rollback,
        failed,
        savepoint,
        savepoint_rolled_back,
    )
    for ended in endings:
        check_again(client, ended)


def check_again(client: Database, ended: Callable[[Session], None]) -> None:
    with Client() as application:
        with application.transaction(token=ALICE.token, client_ip="203.0.113.7") as session:
            ended(session)
            assert session.scalars(EMAILS).all() == [ALICE.email]
            assert touched(session) == 1
        with application.transaction(token=ADMINISTRATOR.token, admin=True) as session:
            ended(session)
            assert len(session.scalars(EMAILS).all()) > 1
    assert client.one(
        "select host(ip_address) from public.audit_logs order by id desc limit 1"
    ) == ("203.0.113.7")


def enforce(client: Database, signed: bool) -> None:
    with client.owner("pandom_definer") as connection:
        connection.execute("update public.context_key set enforced = %s", (signed,))


@pytest.mark.requirement("P2")
def test_a_session_that_ended_meanwhile_is_refused(client: Database) -> None:
    with (
        Client() as application,
        pytest.raises(NotSignedIn),
        application.transaction(token=ALICE.token) as session,
    ):
        session.commit()
        with client.owner() as connection:
            connection.execute("delete from public.sessions where user_uuid = %s", (ALICE.uuid,))
        touched(session)


@pytest.mark.requirement("P2")
def test_sql_that_ends_the_transaction_is_refused(client: Database) -> None:
    with Client() as application:
        for statement in (
            "commit",
            "rollback",
            "commit; select email from public.auth_users",
            "commit and chain",
            "rollback and chain",
            "select 1; commit; begin",
            "reset all",
            "set local app.current_user_id = ''",
        ):
            with (
                pytest.raises(ContextLost),
                application.transaction(token=ALICE.token) as session,
            ):
                session.execute(text(statement))


@pytest.mark.requirement("P2")
def test_sql_that_returns_to_a_savepoint_is_not(client: Database) -> None:
    with Client() as application, application.transaction(token=ALICE.token) as session:
        for statement in ("savepoint here", "select 1", "rollback to savepoint here"):
            session.execute(text(statement))
        assert touched(session) == 1


@pytest.mark.requirement("P2")
def test_a_cursor_that_opens_no_context_begins_nothing(client: Database) -> None:
    query = "select email from public.auth_users"
    with Client() as application, application.connection(token=ALICE.token) as connection:
        other = psycopg.ClientCursor(connection)
        assert other.execute(query).fetchall() == [(ALICE.email,)]
        connection.commit()
        with pytest.raises(ContextLost, match="another class"):
            other.execute(query)
        connection.execute("select 1")
        assert other.execute(query).fetchall() == [(ALICE.email,)]


@pytest.mark.requirement("P2")
def test_a_pipeline_works_and_is_not_ended_inside(client: Database) -> None:
    query = "select email from public.auth_users"
    with Client() as application, application.connection(token=ALICE.token) as connection:
        with connection.pipeline():
            assert connection.execute(query).fetchall() == [(ALICE.email,)]
            with pytest.raises(psycopg.ProgrammingError, match="leave its block"):
                connection.commit()
        connection.commit()
        assert connection.execute(query).fetchall() == [(ALICE.email,)]


@pytest.mark.requirement("P2")
def test_autocommit_has_no_context_and_is_refused(client: Database) -> None:
    with Client() as application, application.connection(token=ALICE.token) as connection:
        connection.rollback()
        connection.autocommit = True
        with pytest.raises(ContextLost, match="autocommit"):
            connection.execute("select email from public.auth_users")


@pytest.mark.requirement("P2")
def test_a_closed_session_is_of_no_use(client: Database) -> None:
    with Client() as application:
        with (
            pytest.raises(InvalidRequestError, match="closed"),
            application.transaction(token=ALICE.token) as session,
        ):
            session.close()
            touched(session)
        with application.transaction(token=ALICE.token) as session:
            pass
        with pytest.raises(InvalidRequestError, match="closed"):
            touched(session)


@pytest.mark.requirement("P2")
def test_an_error_that_was_caught_is_not_committed_in_silence(client: Database) -> None:
    with (
        Client() as application,
        pytest.raises(DBAPIError, match="nothing was committed"),
        application.transaction(token=ALICE.token) as session,
    ):
        touched(session)
        with pytest.raises(DBAPIError):
            session.execute(text("select 1 / 0"))
    assert client.one("select count(*) from user_profiles where tags = '{bulk}'") == 0


@pytest.mark.requirement("P2")
def test_nobody_to_work_for_is_refused(client: Database) -> None:
    missing: Any = None
    with Client() as application:
        for whose in ({"token": missing}, {"token": ""}, {"user": missing}, {"token": "unknown"}):
            with pytest.raises(NotSignedIn), application.transaction(**whose):
                pass
        with pytest.raises(NotAdministrator), application.transaction(token=BOB.token, admin=True):
            pass
        with pytest.raises(NotSignedIn), application.transaction(user=ALICE.profile):
            pass
        with application.transaction(user=ALICE.uuid) as session:
            assert touched(session) == 1
        enforce(client, signed=True)
        with pytest.raises(NotSignedIn, match="signed"), application.transaction(user=ALICE.uuid):
            pass


@pytest.mark.requirement("P2")
def test_psycopg_has_the_same(client: Database) -> None:
    query = "select email from public.auth_users"
    alone = [(ALICE.email,)]
    with Client() as application, application.connection(token=ALICE.token) as connection:
        for ended in (connection.commit, connection.rollback):
            ended()
            assert connection.execute(query).fetchall() == alone
            ended()
            with connection.cursor(name="on_the_server") as server_cursor:
                assert server_cursor.execute(query).fetchall() == alone
            ended()
            with connection.cursor() as cursor, cursor.copy(f"copy ({query}) to stdout") as copy:
                assert list(copy.rows()) == alone
            ended()
            assert list(connection.cursor().stream(query)) == alone
            ended()
            for _ in range(2):
                with connection.transaction():
                    assert connection.execute(query).fetchall() == alone
        with pytest.raises(ContextLost):
            connection.execute("commit")


# -- a fork ---------------------------------------------------------------------------


def in_child(work: Callable[[], object]) -> str:
    """What ``work`` returns or raises in a forked process."""
    reading, writing = os.pipe()
    process = os.fork()
    if process == 0:
        try:
            said = repr(work())
        except BaseException as error:  # noqa: BLE001 - all of it is what the parent wants
            said = "".join(traceback.format_exception_only(error))
        os.write(writing, said.encode())
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(process, 0)
    return said


@pytest.mark.requirement("D1")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_forked_process_has_connections_of_its_own(client: Database) -> None:
    def emails() -> list[str]:
        with application.transaction(token=ALICE.token) as session:
            return list(session.scalars(EMAILS))

    def inside() -> None:
        with open_session:
            open_session.scalars(EMAILS).all()

    with Client() as application:
        assert emails() == [ALICE.email]
        assert in_child(emails) == repr([ALICE.email])
        with application.transaction(token=ALICE.token) as open_session:
            assert OtherProcess.__name__ in in_child(inside)
            assert in_child(emails) == repr([ALICE.email])
            assert "None" in in_child(application.close)
            # The child's end took nothing away from its parent.
            assert open_session.scalars(EMAILS).all() == [ALICE.email]
        assert emails() == [ALICE.email]


@pytest.mark.requirement("D1")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_pool_alone_is_refused_in_a_forked_process(client: Database) -> None:
    def one(connections: Pool) -> object:
        with connections.connection() as connection:
            return connection.execute("select 1").fetchone()

    with pool() as connections:
        assert one(connections) == (1,)
        assert OtherProcess.__name__ in in_child(lambda: one(connections))
        assert one(connections) == (1,)


# -- what the environment says --------------------------------------------------------


@pytest.mark.requirement("D1")
def test_variables_of_libpq_change_nothing(
    client: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {
        "PGHOSTADDR": "192.0.2.1",
        "PGOPTIONS": "-c default_transaction_read_only=on",
        "PGTARGETSESSIONATTRS": "standby",
        "PGSSLCERT": "/nowhere.crt",
        "PGREQUIREAUTH": "none",
        "PGCLIENTENCODING": "latin1",
    }.items():
        monkeypatch.setenv(name, value)
    with (
        Client(environment(client)) as application,
        application.transaction(token=ALICE.token) as session,
    ):
        assert touched(session) == 1
    with pytest.raises(psycopg.OperationalError):
        Driver.connect(client.server.dsn("pandom_app", client.name))  # the variables do count

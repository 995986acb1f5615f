"""SQLAlchemy and psycopg as an application uses them: pool, user, retries, the page's code."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import func, select, text
from sqlalchemy.exc import DBAPIError, InternalError, OperationalError, ProgrammingError
from sqlalchemy.orm import Session

from clients.python.session import Database as Client
from clients.python.session import NotSignedIn, OutcomeUnknown, pool
from schema.models import Session as SessionRow
from schema.models import User, UserProfile
from tests.clients.conftest import environment
from tests.clients.page import code
from tests.clients.pooler import authority
from tests.fixtures.databases import ALICE, BOB, Database
from tests.fixtures.databases import ROOT as ADMINISTRATOR


def run_page(section: str) -> dict[str, Any]:
    """The names that the section's code leaves behind."""
    names: dict[str, Any] = {"token": ALICE.token, "admin_token": ADMINISTRATOR.token}
    exec(compile(code(section), f"docs/clients.md, {section}", "exec"), names)  # noqa: S102
    return names


# -- the page --------------------------------------------------------------------


@pytest.mark.requirement("D1", "P2")
def test_sqlalchemy_as_the_page_shows_it(client: Database) -> None:
    found = run_page("SQLAlchemy")
    assert found["tags"] == ["developer", "alice", "reader"]
    assert {ALICE.email, BOB.email, ADMINISTRATOR.email} <= set(found["emails"])
    assert client.rows("select tags from public.user_profiles where uuid = %s", ALICE.profile) == [
        (["developer", "alice", "reader"],)
    ]
    assert client.rows(
        "select user_uuid, host(ip_address) from public.audit_logs "
        "where event_type = 'UPDATE' and details ->> 'table' = 'user_profiles'"
    ) == [(ALICE.uuid, "203.0.113.7")]


@pytest.mark.requirement("D1", "P2")
def test_psycopg_as_the_page_shows_it(client: Database) -> None:
    assert run_page("psycopg")["rows"] == [(ALICE.email, "user")]


def test_code_that_is_wrong_is_noticed(client: Database) -> None:
    wrong = code("psycopg").replace("auth_users", "auth_user")
    with pytest.raises(Exception, match="auth_user"):
        exec(wrong, {"token": ALICE.token})  # noqa: S102


# -- whose transaction -------------------------------------------------------------


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("signed", [False, True], ids=["plain", "signed"])
def test_a_transaction_is_somebodys_and_leaves_nothing_behind(
    client: Database, signed: bool
) -> None:
    with client.owner("pandom_definer") as connection:
        connection.execute("update public.context_key set enforced = %s", (signed,))
    one = {**os.environ, "DB_POOL_MAX": "1"}  # so that everybody gets the same connection
    with Client(one) as application:
        seen = select(User.email)
        with application.transaction(token=ALICE.token) as session:
            backend = session.scalar(func.pg_backend_pid())
            assert session.scalars(seen).all() == [ALICE.email]
            user = session.scalars(select(User)).one()
            assert user.profile is not None
            assert user.profile.uuid == ALICE.profile
            assert len(session.scalars(select(SessionRow)).all()) == 1
        with application.transaction() as session:
            assert session.scalar(func.pg_backend_pid()) == backend
            assert session.scalars(seen).all() == []
        if not signed:
            with application.transaction(user=BOB.uuid) as session:
                assert session.scalars(seen).all() == [BOB.email]
        with application.transaction(token=ADMINISTRATOR.token, admin=True) as session:
            assert len(session.scalars(seen).all()) == 6


@pytest.mark.requirement("P2", "T5")
def test_an_ended_session_is_refused_and_the_refusal_recorded(client: Database) -> None:
    with Client() as application, pytest.raises(NotSignedIn):
        application.run(lambda session: session.scalars(select(User)).all(), token="gone")
    rejected = "select count(*) from public.security_logs where event_type = 'context_rejected'"
    assert client.one(rejected) == 1


@pytest.mark.requirement("P3")
def test_signing_in_gives_the_token(client: Database) -> None:
    with Client() as application:
        with application.transaction() as session:
            found = session.execute(
                text("select session_token from public.sign_in(:email, :password)"),
                {"email": ALICE.email, "password": "a password of tests"},
            ).scalar_one()
        with application.transaction(token=found) as session:
            assert session.scalars(select(User.email)).all() == [ALICE.email]


@pytest.mark.requirement("D1")
def test_parameters_are_hidden_and_statements_logged(
    client: Database, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "the-token-that-nobody-sees"
    with Client(log_statements=True) as application:
        with pytest.raises(DBAPIError) as caught, application.transaction() as session:
            session.execute(text("select length(:token) / 0"), {"token": secret})
        with pytest.raises(NotSignedIn), application.transaction(token=secret):
            pass
    assert "begin_context" in caplog.text
    assert secret not in caplog.text + str(caught.value)


# -- the pool ----------------------------------------------------------------------


def connections(database: Database) -> int:
    """How many connections the application's login has."""
    found = database.one(
        "select count(*) from pg_stat_activity where datname = current_database() "
        "and usename = 'pandom_app'"
    )
    return int(found)


@pytest.mark.requirement("D1")
def test_twenty_connections_and_not_one_more(client: Database) -> None:
    with pool({**os.environ, "DB_CONNECT_TIMEOUT_MS": "2000"}) as connections_of:
        held = [connections_of.getconn() for _ in range(20)]
        assert connections(client) == 20
        with pytest.raises(Exception, match=r"after 2\.00 sec"):
            connections_of.getconn()
        for connection in held:
            connection.close()
        connections_of.getconn().close()


@pytest.mark.requirement("D1")
def test_idle_connections_are_closed(client: Database) -> None:
    with Client({**os.environ, "DB_IDLE_TIMEOUT_MS": "300"}) as application:
        with application.transaction() as session:
            session.execute(select(1))
        assert connections(client) == 1
        deadline = time.monotonic() + 10
        while connections(client) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert connections(client) == 0


@pytest.mark.requirement("D1")
def test_the_pool_has_the_designs_numbers(client: Database) -> None:
    with pool() as made:
        assert (made.max_size, made.timeout, made.max_idle) == (20, 5.0, 30.0)


@pytest.mark.parametrize("name", ["DB_HOST", "DB_PASSWORD", "DB_SSLMODE"])
def test_a_missing_variable_is_named(client: Database, name: str) -> None:
    with pytest.raises(ValueError, match=name):
        Client({**os.environ, name: ""})


@pytest.mark.requirement("D1")
def test_a_server_of_another_authority_is_not_connected_to(
    client: Database, tmp_path: Path
) -> None:
    stranger = tmp_path / "ca.crt"
    stranger.write_text(authority("a stranger").certificate)
    wrong = {**os.environ, "DB_SSLROOTCERT": str(stranger), "DB_CONNECT_TIMEOUT_MS": "500"}
    begun = time.monotonic()
    with Client(wrong) as application, pytest.raises(OperationalError):
        application.run(lambda session: session.execute(select(1)))
    assert time.monotonic() - begun < 5  # and is not tried again


# -- trying again ------------------------------------------------------------------


class Work:
    """Adds a tag; the first time ``disturbed`` interferes."""

    def __init__(self, disturbed: Callable[[Session], Any]) -> None:
        self.disturbed = disturbed
        self.count = 0

    def __call__(self, session: Session) -> list[str]:
        self.count += 1
        profile = session.scalars(select(UserProfile)).one()
        profile.tags = [*profile.tags, "added"]
        if self.count == 1:
            self.disturbed(session)
        return profile.tags


def added(database: Database) -> int:
    """How many times the tag was added in the end."""
    tags = database.one("select tags from public.user_profiles where uuid = %s", ALICE.profile)
    return int(tags.count("added"))


def kill(database: Database, session: Session) -> None:
    """Break the session's connection from outside."""
    backend = session.scalar(func.pg_backend_pid())
    with database.connect("postgres", autocommit=True) as superuser:
        superuser.execute("select pg_terminate_backend(%s, 5000)", (backend,))
    session.execute(select(1))


@pytest.mark.requirement("D1")
def test_a_connection_lost_before_commit_is_done_again(client: Database) -> None:
    work = Work(lambda session: kill(client, session))
    with Client() as application:
        application.run(work, token=ALICE.token)
    assert (work.count, added(client)) == (2, 1)


@pytest.mark.requirement("D1")
def test_a_serialization_failure_is_done_again(client: Database) -> None:
    def other(_: Session) -> None:
        with Client() as somebody, somebody.transaction(token=ALICE.token) as session:
            session.execute(text("update public.user_profiles set metadata = '{\"b\": 2}'"))

    work = Work(other)
    with client.connect("postgres", autocommit=True) as superuser:
        superuser.execute(
            f"alter database {client.name} set default_transaction_isolation = serializable"
        )
    with Client() as application:
        application.run(work, token=ALICE.token)
    assert (work.count, added(client)) == (2, 1)


@pytest.mark.requirement("D1")
def test_a_deadlock_is_done_again(client: Database) -> None:
    # Two who take the same two locks in opposite order, together.
    both = threading.Barrier(2)
    runs: list[int] = []

    def work(first: int, second: int) -> Callable[[Session], None]:
        def take(session: Session) -> None:
            runs.append(first)
            session.execute(select(func.pg_advisory_xact_lock(first)))
            if len(runs) <= 2:
                both.wait(10)
            session.execute(select(func.pg_advisory_xact_lock(second)))

        return take

    with Client() as application:
        other = threading.Thread(target=lambda: application.run(work(2, 1), token=BOB.token))
        other.start()
        application.run(work(1, 2), token=ALICE.token)
        other.join(30)
    assert not other.is_alive()
    assert len(runs) == 3


@pytest.mark.requirement("D1")
def test_a_connection_lost_while_committing_is_never_done_again(client: Database) -> None:
    # A deferred trigger fires inside COMMIT; it ends its own backend there.
    with client.connect("postgres", autocommit=True) as superuser:
        superuser.execute(
            """
            create function public.fall() returns trigger language plpgsql security definer
            as 'begin perform pg_terminate_backend(pg_backend_pid()); return null; end';
            create constraint trigger fall after update on public.user_profiles
            deferrable initially deferred for each row execute function public.fall()
            """
        )
    work = Work(lambda _: None)
    with Client() as application, pytest.raises(OutcomeUnknown):
        application.run(work, token=ALICE.token)
    assert work.count == 1


@pytest.mark.requirement("D1")
@pytest.mark.parametrize(
    ("statement", "kind"),
    [
        ("select 1 / 0", DBAPIError),
        ("insert into public.user_profiles default values", ProgrammingError),
        ("set local statement_timeout = 1; select pg_sleep(5)", OperationalError),
        ("set local transaction_read_only = on; delete from public.sessions", InternalError),
    ],
    ids=["arithmetic", "forbidden", "timeout", "read-only"],
)
def test_what_would_fail_again_is_not_done_again(
    client: Database, statement: str, kind: type[Exception]
) -> None:
    def fails(session: Session) -> None:
        for part in statement.split("; "):
            session.execute(text(part))

    work = Work(fails)
    with Client() as application, pytest.raises(kind):
        application.run(work, token=ALICE.token)
    assert (work.count, added(client)) == (1, 0)


@pytest.mark.requirement("D1")
def test_trying_again_ends(client: Database) -> None:
    count = []

    def always(session: Session) -> None:
        count.append(1)
        kill(client, session)

    with Client(environment(client)) as application, pytest.raises(OperationalError):
        application.run(always, attempts=3)
    assert len(count) == 3

"""Clients: the ORM, plain psycopg, and one that knows nothing of contexts (D1, A3)."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator

import psycopg
import psycopg.errors
import pytest
import sqlalchemy
from psycopg import sql
from sqlalchemy import select
from sqlalchemy.orm import Session, selectinload

from pandom.database import client, cluster, converge
from pandom.database.client import Caller, Client
from pandom.errors import Failure
from schema import access
from schema.models import AuditLog, User, UserProfile
from tests.fixtures.databases import ALICE, BOB, ROOT, Database, Factory


@pytest.fixture
def application(database: Database) -> Iterator[Client]:
    with Client(database.server.dsn("pandom_app", database.name)) as made:
        yield made


@pytest.mark.requirement("D1", "P2")
def test_the_orm_sees_its_user_only(application: Client) -> None:
    with application.session(Caller(user=ALICE.uuid)) as session:
        user = session.scalars(select(User).options(selectinload(User.profile))).one()
        assert user.email == ALICE.email
        assert user.profile is not None
        user.profile.tags = ["changed"]
        assert session.scalars(select(AuditLog.event_type)).all()
    with application.session(Caller(token=ALICE.token)) as session:
        assert session.scalars(select(UserProfile.tags)).one() == ["changed"]
    with application.session() as session:
        assert session.scalars(select(User)).all() == []
    with application.session(Caller(user=ROOT.uuid, admin=True)) as session:
        assert len(session.scalars(select(User)).all()) > 3


@pytest.mark.requirement("D1", "P2")
def test_plain_psycopg_does_the_same(application: Client) -> None:
    with application.connection(Caller(token=BOB.token, client_ip="192.0.2.9")) as connection:
        assert connection.execute("select email from public.auth_users").fetchall() == [
            (BOB.email,)
        ]


@pytest.mark.requirement("D1", "P2")
def test_an_ended_session_is_said_and_recorded(database: Database, application: Client) -> None:
    with pytest.raises(Failure, match="sign in again"), application.session(Caller(token="x")):
        pass
    assert (
        database.one(
            "select count(*) from public.security_logs where event_type = 'context_rejected'"
        )
        == 1
    )


@pytest.mark.requirement("D1")
def test_a_pooled_connection_carries_nothing_over(application: Client) -> None:
    with application.session(Caller(user=ALICE.uuid, client_ip="192.0.2.1")) as session:
        first = session.scalar(sqlalchemy.text("select pg_backend_pid()"))
    with application.session() as session:
        row = session.execute(
            sqlalchemy.text(
                "select pg_backend_pid(), current_setting('app.current_user_id', true), "
                "current_setting('app.client_ip', true)"
            )
        ).one()
    assert row == (first, "", "")


@pytest.mark.requirement("D1")
def test_the_pool_has_the_numbers_of_the_source(application: Client) -> None:
    assert (client.POOL_SIZE, client.CONNECT_TIMEOUT_S, client.IDLE_S) == (20, 5, 30)
    pool = application._pool
    assert (pool.max_size, pool.timeout, pool.max_idle) == (20, 5, 30)
    with application.connection() as connection:
        row = connection.execute(
            "select ssl from pg_stat_ssl where pid = pg_backend_pid()"
        ).fetchone()
    assert row == (True,)


@pytest.mark.requirement("D1")
def test_a_server_that_is_away_is_given_up_in_time(database: Database) -> None:
    started = time.monotonic()
    with (
        Client("host=127.0.0.1 port=1 dbname=x user=y") as away,
        pytest.raises((psycopg.OperationalError, sqlalchemy.exc.OperationalError)),
        away.session(),
    ):
        pass
    assert time.monotonic() - started < 15


@pytest.mark.requirement("D1")
def test_a_lost_connection_is_tried_again(database: Database, application: Client) -> None:
    attempts: list[int] = []

    def work(session: Session) -> str:
        attempts.append(1)
        if len(attempts) == 1:
            process = session.scalar(sqlalchemy.text("select pg_backend_pid()"))
            with database.server.connect("postgres", "postgres") as killer:
                killer.execute("select pg_terminate_backend(%s)", (process,))
        return session.scalars(select(User.email)).one()

    assert application.run(work, Caller(user=ALICE.uuid)) == ALICE.email
    assert len(attempts) == 2


@pytest.mark.requirement("D1")
def test_a_deadlock_is_tried_again(database: Database) -> None:
    barrier = threading.Barrier(2, timeout=10)
    done: list[int] = []
    with Client(database.server.dsn("pandom_user", database.name)) as operator:

        def work(first: object, second: object) -> None:
            met: list[bool] = []

            def change(session: Session) -> None:
                for number, person in enumerate((first, second)):
                    session.execute(
                        sqlalchemy.text(
                            "update public.user_profiles set tags = '{x}' where uuid = :u"
                        ),
                        {"u": person},
                    )
                    if number == 0 and not met:
                        met.append(True)
                        barrier.wait()

            operator.run(change)
            done.append(1)

        threads = [
            threading.Thread(target=work, args=pair)
            for pair in ((ALICE.profile, BOB.profile), (BOB.profile, ALICE.profile))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(timeout=30)
    assert len(done) == 2


@pytest.mark.requirement("D1")
def test_what_a_statement_got_wrong_is_not_tried_again(application: Client) -> None:
    attempts: list[int] = []

    def work(session: Session) -> None:
        attempts.append(1)
        session.execute(sqlalchemy.text("delete from public.auth_users"))

    with pytest.raises(sqlalchemy.exc.ProgrammingError):
        application.run(work)
    assert len(attempts) == 1


@pytest.mark.requirement("D1")
def test_logged_statements_hide_their_parameters(
    database: Database, caplog: pytest.LogCaptureFixture
) -> None:
    secret = "a value that no log may show"
    with (
        caplog.at_level("INFO", "sqlalchemy.engine"),
        Client(database.server.dsn("pandom_app", database.name), log_statements=True) as logging,
        logging.session() as session,
    ):
        session.execute(sqlalchemy.text("select cast(:x as text)"), {"x": secret})
    assert "select cast" in caplog.text
    assert secret not in caplog.text


@pytest.fixture(scope="module")
def service(factory: Factory, template: Database) -> Iterator[str]:
    """A connection string of pandom_service, made here if the stack has it off (A3)."""
    role = next(r for r in access.ROLES if r.name == "pandom_service")
    opt_in = factory.opt_in | {str(role.opt_in)}
    password = factory.server.passwords.get(role.name) or secrets.token_urlsafe(16)
    with factory.server.connect("postgres", "postgres") as connection:
        there = connection.execute(
            "select exists (select from pg_roles where rolname = %s)", (role.name,)
        ).fetchone() == (True,)
        if not there:
            connection.execute(
                sql.SQL("create role pandom_service login password {}").format(
                    sql.Literal(password)
                )
            )
            cluster.apply_roles(connection, opt_in)
        with factory.made(template.name) as database:
            with factory.server.connect("postgres", database.name) as inside:
                cluster.apply_grants(inside, opt_in)
            with database.connect("pandom_migrator") as migrator:
                converge.converge(migrator, opt_in)
            database.server.passwords.setdefault(role.name, password)
            yield database.server.dsn(role.name, database.name)
        if not there:
            factory.server.passwords.pop(role.name, None)
            connection.execute("drop role pandom_service")


@pytest.mark.requirement("A3")
def test_a_client_without_contexts_works_as_the_service(service: str) -> None:
    # What TypeORM's repositories send: one statement each, columns listed, no context.
    with psycopg.connect(service) as connection:
        profile = connection.execute(
            """insert into "user_profiles" ("uuid", "tags", "metadata", "created_at", "updated_at")
            values (default, %s, %s, default, default) returning "uuid", "created_at"
            """,
            (["a"], "{}"),
        ).fetchone()
        assert profile is not None
        made = connection.execute(
            """insert into "auth_users" ("email", "password_hash", "role", "profile_uuid")
            values (%s, %s, %s, %s) returning "uuid", "is_active"
            """,
            ("orm@example.com", "$2b$12$" + "a" * 53, "user", profile[0]),
        ).fetchone()
        assert made is not None
        assert made[1] is True
        found = connection.execute(
            """select "u"."uuid", "u"."password_hash", "p"."tags" from "auth_users" "u"
            left join "user_profiles" "p" on "p"."uuid" = "u"."profile_uuid"
            where "u"."email" = %s limit 1
            """,
            ("orm@example.com",),
        ).fetchone()
        assert found == (made[0], "$2a$12$" + "a" * 53, ["a"])
        assert (
            connection.execute(
                """update "auth_users" set "is_verified" = %s, "updated_at" = current_timestamp
            where "uuid" = %s""",
                (True, made[0]),
            ).rowcount
            == 1
        )
        listed = connection.execute('select count(*) from "auth_users"').fetchone()
        assert listed is not None
        assert listed[0] > 5
        assert (
            connection.execute('delete from "auth_users" where "uuid" = %s', (made[0],)).rowcount
            == 1
        )
        for refused in (
            "insert into public.audit_logs (event_type) values ('x')",
            "delete from public.audit_logs",
            "select secret from public.context_key",
            "select * from public.outbox",
            "set role pandom_owner",
        ):
            with pytest.raises(psycopg.errors.InsufficientPrivilege), connection.transaction():
                connection.execute(refused.encode())
        connection.rollback()


@pytest.mark.requirement("A3")
def test_the_service_goes_with_its_setting(factory: Factory, service: str) -> None:
    name = psycopg.conninfo.conninfo_to_dict(service)["dbname"]
    database = Database(factory.server, str(name), frozenset())
    with database.connect("pandom_migrator") as migrator:
        assert converge.converge(migrator, frozenset()) > 0
    assert database.one("select count(*) from pg_policies where 'pandom_service' = any(roles)") == 0
    with (
        psycopg.connect(service) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute("select * from public.auth_users")

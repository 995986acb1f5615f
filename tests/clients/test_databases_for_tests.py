"""`pandom ci serve`: what a test gets, what it may leave behind, and what is refused."""

from __future__ import annotations

import contextlib
import http.client
import io
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import psycopg
import pytest
from minio.error import S3Error

from pandom.ci import create, databases, serve
from pandom.ci.buckets import Places
from pandom.ci.client import Database, Place
from pandom.ci.client import Service as Client
from pandom.ci.databases import PREFIX, TEMPLATE, Databases
from pandom.ci.serve import Server, Service
from pandom.host import superuser
from pandom.objectstore import Account, Endpoint, client
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.naming import MINIO_ROOT_USER
from pandom.runtime.paths import ROOT
from tests.clients.node import EXAMPLE, compiled, needs_node, run
from tests.clients.page import code
from tests.fixtures.stack import RunningStack

POOL = 3


@pytest.fixture(scope="module")
def login(stack: RunningStack) -> dict[str, Any]:
    found = superuser.login(stack.exported)
    assert found is not None
    return found


@pytest.fixture(scope="module")
def server(stack: RunningStack, login: dict[str, Any]) -> Iterator[Server]:
    outputs = stack.outputs
    endpoint = Endpoint("127.0.0.1", int(outputs["minio_port"]), Path(outputs["db_sslrootcert"]))
    places = Places(
        endpoint,
        Account(MINIO_ROOT_USER, stack.secrets["minio-root"]),
        outputs["minio_bucket_name"],
    )
    contract = create.contract(stack.name, outputs)
    service = Service(contract, outputs["passwords"], Databases(login, POOL), places)
    made = Server(service)
    listening = threading.Thread(target=made.serve_forever, daemon=True)
    listening.start()
    yield made
    made.shutdown()
    made.server_close()
    service.close()
    assert named(login) == []
    assert client(endpoint, places.root).bucket_exists(bucket_name=places.bucket)


@pytest.fixture
def tests(server: Server) -> Client:
    return Client(*server.contract.values())


@pytest.fixture(scope="module")
def one(server: Server) -> Iterator[Database]:
    """A database for tests that leave nothing in it that another sees."""
    with Client(*server.contract.values()).database() as database:
        yield database


def named(login: dict[str, Any]) -> list[str]:
    """The databases that are there for tests."""
    with psycopg.connect(**{**login, "dbname": "postgres"}) as connection:
        rows = connection.execute(
            "select datname from pg_database where starts_with(datname, %s) or datname = %s "
            "order by 1",
            (PREFIX, TEMPLATE),
        ).fetchall()
    return [name for (name,) in rows]


def rights(connection: psycopg.Connection, name: str) -> set[tuple[str, str]]:
    """Who may do what with a database."""
    return set(
        connection.execute(
            "select a.grantee::regrole::text, a.privilege_type from pg_database as d "
            "cross join lateral aclexplode(d.datacl) as a where d.datname = %s",
            (name,),
        ).fetchall()
    )


def test_each_test_has_its_own_and_works_under_row_security(tests: Client) -> None:
    with tests.database() as one, tests.database() as two:
        assert one.name != two.name
        alice, bob = one.user("alice@example.com"), one.user("bob@example.com", role="admin")
        with alice.transaction() as connection:
            rows = connection.execute("select email from public.auth_users").fetchall()
            assert rows == [("alice@example.com",)]
        with bob.transaction() as connection:
            connection.execute("set local role pandom_admin")
            rows = connection.execute("select count(*) > 2 from public.auth_users").fetchall()
            assert rows == [(True,)]
        # In the other one there is nobody of that name, and without a context no row.
        with two.connect() as connection:
            assert connection.execute("select 1 from public.auth_users").fetchall() == []
        with two.connect("pandom_user") as connection:
            assert (
                connection.execute(
                    "select 1 from public.auth_users where email = 'alice@example.com'"
                ).fetchall()
                == []
            )
        assert one.settings["DB_DATABASE"] == one.name
        assert one.settings["DATABASE_URL"] == one.dsn() != two.dsn()


def test_somebody_who_is_there_is_signed_in_and_a_password_works(tests: Client) -> None:
    with tests.database() as database:
        added = database.user("alice@example.com", password="a password of a test")
        again = database.user("alice@example.com")
        assert (again.uuid, again.password) == (added.uuid, None)
        assert again.session_token != added.session_token
        with database.connect() as connection:
            row = connection.execute(
                "select session_token from public.sign_in('alice@example.com', %s)",
                (added.password,),
            ).fetchone()
        assert row is not None
        assert row[0]


def test_a_clone_has_the_privileges_of_its_source(tests: Client, login: dict[str, Any]) -> None:
    with (
        tests.database() as database,
        psycopg.connect(**{**login, "dbname": "postgres"}) as connection,
    ):
        expected = rights(connection, "pandom_db")
        assert rights(connection, database.name) == expected
        # Control: it would not come with the copy.
        assert rights(connection, TEMPLATE) != expected
    with pytest.raises(psycopg.OperationalError, match="permission denied"):
        psycopg.connect(database.dsn("pandom_user").replace(database.name, "postgres"))


def test_what_a_failed_test_asked_is_kept_without_values(
    tests: Client, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.service, "failures", tmp_path / "failures.log")
    with tests.database() as database:
        with database.connect() as ended:
            ended.execute("select %s || 'a secret' as by_client", ("another secret",))
        # One that is open, and says so itself whoever opened it; a test elsewhere is not named.
        with psycopg.connect(database.dsn("pandom_user")) as other, tests.database() as beside:
            other.execute("select 'a secret' as by_server")
            with beside.connect() as elsewhere:
                elsewhere.execute("select 1 as in_another_database")
                shown = "\n".join(database.failed("test_x"))
    assert "select %s || ? as by_client" in shown
    assert f"pandom_user@{database.name} (idle in transaction): select ? as by_server" in shown
    assert "secret" not in shown
    assert "in_another_database" not in shown
    kept = (tmp_path / "failures.log").read_text()
    assert "test_x\n  select %s || ?" in kept
    with pytest.raises(UsageError, match="not given out"):
        database.failed("test_x")


def settings(login: dict[str, Any], begins: str) -> list[tuple[str, str, str]]:
    """What roles are set, in databases whose name begins so; the whole cluster's is ""."""
    with psycopg.connect(**{**login, "dbname": "postgres"}) as connection:
        return connection.execute(
            "select coalesce(d.datname, ''), s.setrole::regrole::text, c.entry "
            "from pg_db_role_setting as s cross join lateral unnest(s.setconfig) as c (entry) "
            "left join pg_database as d on d.oid = s.setdatabase "
            "where starts_with(coalesce(d.datname, ''), %s) order by 1, 2, 3",
            (begins,),
        ).fetchall()


def test_what_a_test_leaves_behind_disturbs_nobody(
    tests: Client, server: Server, login: dict[str, Any]
) -> None:
    before = settings(login, "")
    with tests.database() as database:
        left = database.connect()
        left.execute("select pg_advisory_lock(1)")
        left.execute("alter role pandom_app set statement_timeout to '1ms'")
        left.execute("alter role pandom_app set search_path to 'nowhere', 'no where'")
        left.execute("alter role pandom_app password 'another password of a test'")
        left.execute("alter role pandom_app in database pandom_db set search_path = nowhere")
        for name in server.service.databases._ready.queue:  # whoever gets them next
            setting = f"alter role pandom_app in database {name} set search_path = nowhere"
            left.execute(setting.encode())
        left.execute("listen something")
        left.commit()
        with pytest.raises(psycopg.OperationalError, match="authentication failed"):
            database.connect()
    with pytest.raises(psycopg.OperationalError):
        left.execute("select 1, pg_sleep(1)")
    with tests.database() as other, other.connect() as connection:
        # At once, by the same login, with its password and settings.
        assert connection.execute("select pg_try_advisory_lock(1)").fetchone() == (True,)
        assert connection.execute("show statement_timeout").fetchone() == ("30s",)
        assert connection.execute("show search_path").fetchone() == ('"$user", public',)
    with contextlib.ExitStack() as held:
        for _ in range(POOL + 1):
            connection = held.enter_context(held.enter_context(tests.database()).connect())
            assert connection.execute("show search_path").fetchone() == ('"$user", public',)
    assert settings(login, "") == before


def test_what_a_role_is_set_in_a_tests_own_database_stays_until_it_is_given_back(
    tests: Client, login: dict[str, Any]
) -> None:
    with tests.database() as one:
        with one.connect() as connection:
            connection.execute(
                f"alter role pandom_app in database {one.name} set work_mem = '1MB'".encode()
            )
        with tests.database() as two, two.connect() as connection:
            connection.execute("alter role pandom_app set work_mem = '2MB'")
        with one.connect() as connection:
            assert connection.execute("show work_mem").fetchone() == ("1MB",)


def test_many_at_once_get_different_ones(tests: Client) -> None:
    def work(number: int) -> str:
        with tests.database() as database:
            database.user(f"user{number}@example.com")
            with database.connect("pandom_user") as connection:
                count = connection.execute(
                    "select count(*) from public.auth_users where email like 'user%'"
                ).fetchone()
            assert count == (1,)
            return database.name

    with ThreadPoolExecutor(8) as threads:
        names = list(threads.map(work, range(3 * POOL)))
    assert len(set(names)) == len(names)


def test_a_place_in_the_bucket_is_one_tests_own(tests: Client, server: Server) -> None:
    endpoint = server.service.places.endpoint

    def s3(place: Place) -> Any:
        account = Account(place.settings["MINIO_ACCESS_KEY"], place.settings["MINIO_SECRET_KEY"])
        return client(endpoint, account)

    def put(place: Place, name: str) -> None:
        s3(place).put_object(
            bucket_name=place.settings["MINIO_BUCKET_NAME"],
            object_name=name,
            data=io.BytesIO(b"x"),
            length=1,
        )

    with tests.bucket() as one, tests.bucket() as two:
        put(one, f"{one.prefix}a.txt")
        bucket = one.settings["MINIO_BUCKET_NAME"]
        found = s3(one).list_objects(bucket_name=bucket, prefix=one.prefix)
        assert [found.object_name for found in found] == [f"{one.prefix}a.txt"]
        for refused in (
            lambda: put(one, f"{two.prefix}a.txt"),
            lambda: put(one, "a.txt"),
            lambda: list(s3(one).list_objects(bucket_name=bucket)),
            lambda: list(s3(one).list_objects(bucket_name=bucket, prefix=two.prefix)),
        ):
            with pytest.raises(S3Error, match="Denied"):
                refused()
    with pytest.raises(S3Error):
        put(one, f"{one.prefix}b.txt")
    left = client(endpoint, server.service.places.root).list_objects(
        bucket_name=bucket, prefix=one.prefix, recursive=True, include_version=True
    )
    assert list(left) == []


def test_a_killed_servers_databases_are_cleared_and_a_second_one_is_refused(
    server: Server, login: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UsageError, match="Another `pandom ci serve`"):
        Databases(login, 1)
    # The next of a server that was killed: its lock went with its connection.
    with psycopg.connect(**{**login, "dbname": "postgres"}, autocommit=True) as connection:
        connection.execute(f"create database {PREFIX}of_a_killed_one".encode())
    monkeypatch.setattr(databases, "_LOCK_KEY", 1)
    monkeypatch.setattr(databases, "TEMPLATE", "pandom_template_of_a_test")
    monkeypatch.setattr(databases, "PREFIX", f"{PREFIX}of_a_")
    other = Databases(login, 1)
    try:
        assert f"{PREFIX}of_a_killed_one" not in named(login)
        assert other.take().startswith(f"{PREFIX}of_a_")
    finally:
        other.close()


@pytest.mark.parametrize(
    ("method", "path", "body", "token", "status", "said"),
    [
        ("POST", "/databases", "", "wrong", 401, "PANDOM_CI_TOKEN"),
        ("POST", "/databases", "", None, 401, "PANDOM_CI_TOKEN"),
        ("POST", "/nothing", "", "", 404, "there is no POST /nothing"),
        ("GET", "/databases", "", "", 404, "there is no GET"),
        ("DELETE", "/databases/pandom_db", "", "", 400, "was not given out"),
        ("DELETE", "/buckets/other%2F", "", "", 400, "was not given out"),
        ("POST", "/databases/pandom_db/failed", '{"test": "x"}', "", 400, "not given out"),
        ("POST", "/databases/pandom_db/users", '{"email": "a@b.de"}', "", 400, "not given out"),
        ("POST", "/databases", "{", "", 400, "is not JSON"),
        ("POST", "/databases", "[]", "", 400, "no JSON object"),
        ("POST", "/databases", " " * 70_000, "", 400, "larger than"),
        ("POST", "/databases", "[" * 60_000, "", 400, "is not JSON"),
    ],
)
def test_what_is_refused(
    server: Server, method: str, path: str, body: str, token: str | None, status: int, said: str
) -> None:
    before = server.service.databases.given
    headers = {} if token is None else {"Authorization": f"Bearer {token or server.token}"}
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.request(method, path, body, headers)
    answer = connection.getresponse()
    assert answer.status == status
    assert said in json.loads(answer.read())["error"]
    assert server.service.databases.given == before


@pytest.mark.parametrize(
    ("wish", "said"),
    [
        ({"email": "no e-mail"}, "cannot be added"),
        ({"email": "a@example.com", "role": "postgres"}, "role must be one of"),
        ({"email": 1}, "expected"),
        ({"email": "a@example.com", "superuser": True}, "expected"),
        ({"email": "a@example.com", "password": 5}, "expected"),
        ({"email": "a@example.com", "role": None}, "expected"),
        ({"email": "a@example.com", "password": "ä" * 37}, "at most 72 bytes"),
        ({"email": "a@example.com", "password": "a\0b"}, "without NUL"),
        ({"email": "a@example.com", "password": "\ud800"}, "half of a character"),
        ({"email": "a\0@example.com"}, "cannot be added"),
        ({"email": f"{'a' * 244}@example.com"}, "cannot be added"),
    ],
)
def test_a_user_that_cannot_be(
    tests: Client, one: Database, wish: dict[str, Any], said: str
) -> None:
    with pytest.raises(UsageError, match=said):
        tests.call("POST", "databases", one.name, "users", content=wish)


@pytest.mark.parametrize(("wish"), [{"role": "admin"}, {"password": "another password"}])
def test_somebody_who_is_there_keeps_role_and_password_and_that_is_said(
    server: Server, tests: Client, one: Database, wish: dict[str, str]
) -> None:
    one.user("somebody@example.com")
    place = f"/databases/{one.name}/users"
    status, said = asked(server, place, json.dumps({"email": "somebody@example.com", **wish}))
    assert status == 409
    assert "there already, as user" in said
    assert one.user("somebody@example.com", role="user").password is None


def asked(server: Server, path: str, body: str, **headers: str) -> tuple[int, str]:
    """The status of a POST, and what it says; with a token, unless ``headers`` have another."""
    connection = http.client.HTTPConnection("127.0.0.1", server.server_address[1], timeout=10)
    connection.putrequest("POST", path)
    given = {"Authorization": f"Bearer {server.token}", "Content-Length": str(len(body))}
    for name, value in (given | headers).items():
        connection.putheader(name, value)
    connection.endheaders(body.encode())
    answer = connection.getresponse()
    return answer.status, str(json.loads(answer.read()).get("error"))


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"Content-Length": "abc"}, 400),
        ({"Content-Length": "-1"}, 400),
        ({"Content-Length": "9" * 5000}, 400),
        ({"Content-Length": "100"}, 400),
        ({"Transfer-Encoding": "chunked"}, 400),
        ({"Content-Length": "100", "Authorization": "Bearer wrong"}, 401),
        ({"Content-Length": "-1", "Authorization": "Bearer wrong"}, 401),
    ],
)
def test_content_that_does_not_come_is_not_waited_for(
    server: Server, headers: dict[str, str], status: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(serve, "_CONTENT_S", 0.2)
    before = server.service.databases.given
    assert asked(server, "/databases", "{}", **headers)[0] == status
    assert server.service.databases.given == before


def test_a_server_that_is_gone_is_named() -> None:
    with (
        pytest.raises(Failure, match="does not answer"),
        Client("http://127.0.0.1:1", "").database(),
    ):
        pass


def test_a_database_has_no_login_that_is_not_shared(tests: Client) -> None:
    with tests.database() as database:
        assert isinstance(database, Database)
        with pytest.raises(UsageError, match="postgres is no login"):
            database.dsn("postgres")


@needs_node
def test_from_nodes_own_test_runner_with_typeorm(server: Server) -> None:
    before = server.service.databases.given
    output = run(["npm", "test"], compiled(EXAMPLE), server.contract)
    assert "pass 1" in output
    assert "fail 0" in output
    assert server.service.databases.given == before


def test_the_page_shows_the_example() -> None:
    page = (ROOT / "docs" / "ci.md").read_text()
    shown = code("From Node's test runner, with TypeORM", "ts", page)
    assert shown in (EXAMPLE / "account.test.ts").read_text()

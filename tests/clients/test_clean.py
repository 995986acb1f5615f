"""What one borrower of a connection leaves on it never reaches the next one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest
from psycopg.rows import dict_row
from sqlalchemy import text

from clients.python.session import Connection, pool
from clients.python.session import Database as Client
from tests.clients.conftest import environment
from tests.clients.pooler import pooled
from tests.fixtures.databases import ALICE, Database

# What a session may hold, and how the next borrower would see it: nothing is (None,).
DIRT = {
    "role": ("set role pandom_admin", "select nullif(current_user, session_user)"),
    "search_path": (
        "set search_path = pg_catalog",
        "select nullif(current_setting('search_path'), (select reset_val from pg_settings "
        "where name = 'search_path'))",
    ),
    "time-out": (
        "set statement_timeout = '1h'",
        "select setting from pg_settings where name = 'statement_timeout' and source = 'session'",
    ),
    "read-only": (
        "set default_transaction_read_only = on",
        "select nullif(current_setting('transaction_read_only'), 'off')",
    ),
    "isolation": (
        "set default_transaction_isolation = 'serializable'",
        "select nullif(current_setting('transaction_isolation'), 'read committed')",
    ),
    "a setting of ours": (
        f"select set_config('app.current_user_id', '{ALICE.uuid}', false)",
        "select nullif(current_setting('app.current_user_id', true), '')",
    ),
    "listen": ("listen news", "select pg_listening_channels()"),
    "advisory lock": (
        "select pg_advisory_lock(7)",
        "select objid from pg_locks where locktype = 'advisory' and pid = pg_backend_pid()",
    ),
    "cursor": (
        "declare held cursor with hold for select 1",
        "select name from pg_cursors where name = 'held'",
    ),
    "prepared": ("prepare mine as select 1", "select name from pg_prepared_statements"),
}


def one(connection: psycopg.Connection[Any], query: str) -> Any:
    row = connection.execute(query.encode()).fetchone()
    return row and row[0]


def left(connection: psycopg.Connection[Any]) -> dict[str, Any]:
    """What is there of each kind."""
    found = {name: one(connection, seen) for name, (_, seen) in DIRT.items()}
    return {name: value for name, value in found.items() if value is not None}


@pytest.fixture
def client(shared: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """The clone that all share: nothing is written here."""
    for name, value in {**environment(shared), "DB_POOL_MAX": "1"}.items():
        monkeypatch.setenv(name, value)
    return shared


@pytest.fixture(scope="module", params=["direct", "pooler"])
def place(
    request: pytest.FixtureRequest, shared: Database, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[dict[str, str]]:
    """Straight to the server, or behind a pooler that clears nothing by itself."""
    if request.param == "direct":
        yield {}
        return
    folder = tmp_path_factory.mktemp("clean")
    changes = {"default_pool_size": 1, "server_reset_query_always": 0}
    with pooled(shared, folder, changes=changes) as variables:
        yield variables


@contextmanager
def borrowed(place: dict[str, str]) -> Iterator[Client]:
    with Client({**os.environ, **place}) as application:
        yield application


@pytest.mark.requirement("D1")
@pytest.mark.parametrize("ending", ["commit", "rollback", "error"])
def test_the_next_borrower_finds_nothing(
    client: Database, place: dict[str, str], ending: str
) -> None:
    with borrowed(place) as application, borrowed(place) as other:
        with suppress(ZeroDivisionError), application.transaction() as session:
            backend = session.scalar(text("select pg_backend_pid()"))
            for statement, _ in DIRT.values():
                session.execute(text(statement))
            if ending == "error":
                raise ZeroDivisionError
            getattr(session, ending)()
        # The next transaction on the same connection, and another client's on the same server's.
        for next_one in (application, other) if place else (application,):
            with next_one.connection() as connection:
                assert one(connection, "select pg_backend_pid()") == backend
                assert left(connection) == {}


@pytest.mark.requirement("D1")
def test_a_connection_without_transactions_comes_back_clean(client: Database) -> None:
    with pool() as connections:
        with connections.connection() as connection:
            connection.autocommit = True
            connection.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
            connection.read_only = True
            connection.row_factory = dict_row  # type: ignore[assignment]
            connection.prepare_threshold = 0
            backend = connection.info.backend_pid
            for statement, _ in DIRT.values():
                connection.execute(statement.encode())
        with connections.connection() as connection:
            assert connection.info.backend_pid == backend
            assert not connection.autocommit
            assert (connection.isolation_level, connection.read_only) == (None, None)
            assert connection.prepare_threshold is None
            assert left(connection) == {}


def test_control_without_clearing_it_is_found(
    client: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "_clear", b"select 1")
    with pool() as connections:
        with connections.connection() as connection:
            for statement, _ in DIRT.values():
                connection.execute(statement.encode())
        with connections.connection() as connection:
            assert left(connection).keys() == DIRT.keys()


@pytest.mark.requirement("D1")
def test_a_connection_that_cannot_be_cleared_is_closed(
    client: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Connection, "_clear", b"select 1 / 0")
    with pool() as connections:
        with connections.connection() as connection:
            backend = one(connection, "select pg_backend_pid()")
        with connections.connection() as connection:
            assert one(connection, "select pg_backend_pid()") != backend


@pytest.mark.requirement("D1")
def test_a_connection_closed_in_its_block_goes_to_nobody_else(client: Database) -> None:
    """Given back at once, it would be the next borrower's, and the block would end that one's."""
    with pool() as connections:
        with connections.connection() as connection:
            connection.close()
            assert connections.get_stats()["pool_available"] == 0
            with pytest.raises(psycopg.OperationalError, match="closed"):
                connection.execute("select 1")
        with connections.connection() as another:
            assert another is not connection
            assert one(another, "select 1") == 1

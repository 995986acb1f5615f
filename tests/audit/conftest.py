"""A fresh database of the shipped schema for this layer, and audits of it as pandom_auditor."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

import psycopg
import pytest

from pandom.audit.run import Report, run
from pandom.database import cluster, migrate
from pandom.database.connect import Target
from pandom.database.drift import catalog, declared, recorded
from schema import access
from tests.fixtures.server import Server

Audit = Callable[[], Report]


@dataclass(frozen=True)
class Shipped:
    """A migrated database, reached as the superuser to break it and heal it."""

    name: str
    server: Server
    opt_in: frozenset[str]

    def execute(self, text: str) -> None:
        """Run statements as the superuser, each on its own, as psql does."""
        for statement in statements(text):
            self.superuser.execute(statement.encode())

    @cached_property
    def superuser(self) -> psycopg.Connection:
        """One connection for all tests; the database is dropped with it."""
        return self.server.connect("postgres", self.name)


def statements(text: str) -> Iterator[str]:
    """The statements of a script whose every statement ends at the end of a line."""
    kept: list[str] = []
    quoted = False
    for line in text.splitlines():
        kept.append(line)
        quoted ^= line.count("$$") % 2 == 1
        if line.rstrip().endswith(";") and not quoted:
            yield "\n".join(kept)
            kept = []
    if "".join(kept).strip():
        yield "\n".join(kept)


def make_database(server: Server, name: str, opt_in: frozenset[str]) -> None:
    target = Target(server.host, server.port, name, server.ca)
    with server.connect("postgres", "postgres") as connection:
        connection.execute(f"drop database if exists {name} with (force)")
        connection.execute(f"create database {name} template template0")
    with server.connect("postgres", name) as connection:
        cluster.apply_grants(connection, opt_in)
    cluster.apply_database(target, server.passwords["postgres"])
    runner = migrate.Runner(target, server.passwords["pandom_migrator"], opt_in)
    migrate.upgrade(runner)
    migrate.finish(runner)


def drop_database(server: Server, name: str) -> None:
    with server.connect("postgres", "postgres") as connection:
        connection.execute(f"drop database if exists {name} with (force)")


@contextmanager
def remade_on_failure(shipped: Shipped) -> Iterator[None]:
    """A test that fails leaves drift behind: it is taken back, so that one failure stays one."""
    try:
        yield
    except BaseException:
        shipped.execute("reset role;\nalter role all reset all;")
        with shipped.server.connect("postgres", "postgres") as connection:
            for (name,) in connection.execute("select rolname from pg_roles").fetchall():
                if name.startswith("evil"):
                    shipped.execute(f"drop owned by {name};\ndrop role {name};")
            cluster.apply_roles(connection, shipped.opt_in)
            cluster.close_other_databases(connection)
        shipped.__dict__.pop("superuser").close()
        make_database(shipped.server, shipped.name, shipped.opt_in)
        raise


@pytest.fixture(scope="session")
def opt_in(server: Server) -> frozenset[str]:
    """The settings that this server's roles come from."""
    with server.connect("postgres", "postgres") as connection:
        found = {name for (name,) in connection.execute("select rolname from pg_roles")}
    return frozenset(role.opt_in for role in access.ROLES if role.opt_in and role.name in found)


@pytest.fixture(scope="session")
def shipped(server: Server, opt_in: frozenset[str]) -> Iterator[Shipped]:
    name = f"audit_{os.getpid()}"
    make_database(server, name, opt_in)
    database = Shipped(name, server, opt_in)
    yield database
    database.superuser.close()
    drop_database(server, name)


@pytest.fixture(scope="session")
def audit(shipped: Shipped) -> Iterator[Audit]:
    """An audit of the fresh database, as the auditor sees it now.

    What the database was when it was made is the recording; that schema/catalog.json
    is the same has a test of its own.
    """
    dsn = shipped.server.dsn("pandom_auditor", shipped.name)
    connection = catalog.connect(dsn)
    fresh = recorded.parse(recorded.record(catalog.read(connection, declared.OWNERS)))

    def now() -> Report:
        nonlocal connection
        if connection.closed:
            connection = catalog.connect(dsn)
        return run(connection, shipped.opt_in, acceptances=(), known=fresh)

    yield now
    connection.close()

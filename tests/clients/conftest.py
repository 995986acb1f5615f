"""The databases of tests/fixtures/databases.py, and the environment of a client of one."""

from __future__ import annotations

import pytest

from tests.clients.node import packages
from tests.fixtures.databases import Database, database, factory, shared, template

__all__ = ["database", "factory", "packages", "shared", "template"]


def environment(database: Database, role: str = "pandom_app") -> dict[str, str]:
    """What `pandom env` prints of the database for a login."""
    server = database.server
    return {
        "DB_HOST": server.host,
        "DB_PORT": str(server.port),
        "DB_USERNAME": role,
        "DB_PASSWORD": server.passwords[role],
        "DB_DATABASE": database.name,
        "DB_SSLMODE": "verify-full",
        "DB_SSLROOTCERT": str(server.ca),
        "DB_POOL_MAX": "20",
        "DB_CONNECT_TIMEOUT_MS": "5000",
        "DB_IDLE_TIMEOUT_MS": "30000",
    }


@pytest.fixture
def client(database: Database, monkeypatch: pytest.MonkeyPatch) -> Database:
    """A database of its own, whose pandom_app the process's environment describes."""
    for name, value in environment(database).items():
        monkeypatch.setenv(name, value)
    return database

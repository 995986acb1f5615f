"""schema/catalog.json is what a fresh database is, and a stale one is seen.

After a change of schema/sql: PANDOM_RECORD=1 pytest tests/audit/test_recorded.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from pandom.audit import catalog, declared, recorded
from pandom.audit.catalog import Observed
from pandom.database import cluster
from schema import access
from tests.audit.conftest import Shipped, drop_database, make_database
from tests.fixtures.server import Server

EVERYTHING = frozenset(role.opt_in for role in access.ROLES if role.opt_in)


@pytest.fixture(scope="module")
def complete(server: Server, shipped: Shipped) -> Iterator[Observed]:
    """A fresh database with every setting on: the recording has what each of them adds.

    ``shipped`` comes first: it takes the server's roles for those of its settings.
    """
    del shipped
    name = f"recorded_{os.getpid()}"
    with server.connect("postgres", "postgres") as connection:
        found = {role for (role,) in connection.execute("select rolname from pg_roles").fetchall()}
        made = [role.name for role in access.roles(EVERYTHING) if role.name not in found]
        for role in made:
            connection.execute(f"create role {role}")
        cluster.apply_roles(connection, EVERYTHING)
    try:
        make_database(server, name, EVERYTHING)
        with catalog.connect(server.dsn("pandom_auditor", name)) as connection:
            yield catalog.read(connection, declared.OWNERS)
    finally:
        drop_database(server, name)
        with server.connect("postgres", "postgres") as connection:
            for role in made:
                connection.execute(f"drop role {role}")


@pytest.mark.requirement("B5")
def test_the_recording_is_fresh(complete: Observed) -> None:
    text = recorded.record(complete)
    if os.environ.get("PANDOM_RECORD"):
        recorded.FILE.write_text(text)
    assert recorded.FILE.read_text() == text, "stale: run this test with PANDOM_RECORD=1"


@pytest.mark.requirement("B5")
def test_partitions_of_one_parent_are_recorded_once(complete: Observed) -> None:
    names = {fact.object for fact in recorded.parse(recorded.record(complete))}
    assert "table {partition of public.audit_logs}" in names
    assert not [
        name
        for name in names
        if name.startswith("table ") and ("_y20" in name or name.endswith("_default"))
    ]


@pytest.mark.requirement("B5")
def test_a_stale_recording_is_seen(shipped: Shipped) -> None:
    with catalog.connect(shipped.server.dsn("pandom_auditor", shipped.name)) as connection:
        before = recorded.record(catalog.read(connection, declared.OWNERS))
        shipped.execute("alter function public.record_event(text, jsonb) stable;")
        try:
            assert recorded.record(catalog.read(connection, declared.OWNERS)) != before
        finally:
            shipped.execute("alter function public.record_event(text, jsonb) volatile;")

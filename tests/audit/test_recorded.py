"""schema/catalog.json is what a fresh database is, and a stale one is seen.

After a change of schema/sql: `pandom audit record`, or where no stack can run it
PANDOM_RECORD=1 pytest tests/audit/test_recorded.py
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pandom import cli
from pandom.audit import catalog, declared, recorded
from pandom.audit.catalog import Observed
from pandom.database import cluster
from pandom.errors import UserMistake
from pandom.host import record, scratch
from schema import access
from tests.audit.conftest import Shipped, drop_database, make_database
from tests.fixtures.server import Server
from tests.fixtures.stack import RunningStack

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
    assert recorded.FILE.read_text() == text, "stale: run `pandom audit record`"


@pytest.mark.requirement("B5")
def test_the_command_records_what_revisions_make_and_no_drift(
    stack: RunningStack, server: Server, complete: Observed
) -> None:
    # ``complete`` has the same roles for the time, and so the same recording.
    name = scratch.NAME
    with server.connect("postgres") as drifted:
        drifted.execute("create table public.by_hand (a int)")
        try:
            assert record.record(stack.exported) == recorded.record(complete)
        finally:
            drifted.execute("drop table public.by_hand")
        left = drifted.execute("select from pg_database where datname = %s", (name,)).fetchall()
    assert left == []


@pytest.mark.requirement("B5")
def test_a_server_that_was_set_by_hand_is_not_recorded(stack: RunningStack, server: Server) -> None:
    with server.connect("postgres", "postgres") as connection:
        connection.execute("alter system set work_mem = '5MB'")
        connection.execute("select pg_reload_conf()")
        try:
            _until_set(server, "5MB")
            with pytest.raises(UserMistake, match="made by hand: work_mem"):
                record.record(stack.exported)
        finally:
            connection.execute("alter system reset work_mem")
            connection.execute("select pg_reload_conf()")


def _until_set(server: Server, value: str) -> None:
    for _ in range(100):
        with server.connect("postgres", "postgres") as connection:
            if connection.execute("show work_mem").fetchone() == (value,):
                return
        time.sleep(0.05)
    pytest.fail("the server did not read its settings again")


@pytest.mark.requirement("B5")
@pytest.mark.parametrize("option", [["--dsn", "host=/nowhere"], ["--opt-in", "serviceLogin"]])
def test_a_recording_of_any_database_is_refused(
    tmp_path: Path, option: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "catalog.json"
    assert cli.main(["audit", "record", "--output", str(file), *option]) == 2
    assert "freshly migrated database only" in capsys.readouterr().err
    assert not file.exists()


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

"""schema/catalog.json is what a fresh database is, and a stale one is seen.

After a change of schema/sql: `pandom audit record`, or where no stack can run it
PANDOM_RECORD=1 pytest tests/audit/test_recorded.py
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pandom.audit.findings import script
from pandom.audit.run import run
from pandom.commands import cli
from pandom.database import cluster
from pandom.database.drift import catalog, declared, facts, recorded
from pandom.database.drift.catalog import Observed
from pandom.host import record, scratch
from schema import access
from tests.audit.conftest import Shipped, drop_database, make_database, remade_on_failure
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


@pytest.mark.requirement("B5")
def test_words_that_the_server_quotes_are_known(server: Server) -> None:
    # Else a column called timestamp is one name in the declaration and another in the catalogs.
    with server.connect("postgres", "postgres") as connection:
        found = connection.execute(
            "select word, quote_ident(word) from pg_get_keywords() union "
            "select n, quote_ident(n) from unnest(%s::text[]) as n",
            (["plain", "Upper", 'quo"te', "a b", "öl", "1st", "_a1"],),
        ).fetchall()
    assert {name: facts.ident(name) for name, _ in found} == dict(found)
    assert facts.qualified("public.user(text, int)") == 'public."user"(text, int)'
    assert facts.qualified('public."user"') == 'public."user"'


@pytest.mark.requirement("B5")
def test_privileges_on_columns_that_are_words_of_sql(shipped: Shipped) -> None:
    # Both sides write the name alike: what is declared is found, and no difference is left.
    with catalog.connect(shipped.server.dsn("pandom_auditor", shipped.name)) as connection:
        observed = catalog.read(connection, declared.OWNERS)
    grant = access.Grant(
        "table", "public.audit_logs", "pandom_janitor", frozenset({"SELECT"}), ("timestamp", "id")
    )
    wanted = declared.privileges([grant], [fact.object for fact in observed.facts])
    with remade_on_failure(shipped):
        shipped.execute('grant select ("timestamp", id) on public.audit_logs to pandom_janitor;')
        with catalog.connect(shipped.server.dsn("pandom_auditor", shipped.name)) as connection:
            seen = catalog.read(connection, declared.OWNERS).facts
        assert wanted.items() <= seen.items()
        shipped.execute('revoke select ("timestamp", id) on public.audit_logs from pandom_janitor;')


@pytest.mark.requirement("B5")
@pytest.mark.parametrize(
    ("lacking", "place"),
    [
        ("table public.sessions", "schema/models.py"),
        ("type public.userrole", "schema/models.py"),
        ("view public.suspicious_activity", "schema/sql/views/suspicious_activity.sql"),
        ("function public.client_agent()", "schema/sql/functions/client_agent.sql"),
        ("audit_users_trigger_insert on public.auth_users", "schema/models.py"),
        ("watch_auth_users on public.auth_users", "schema/sql/triggers/watch_auth_users.sql"),
        ("user_isolation on public.sessions", "schema/models.py"),
    ],
)
def test_what_is_declared_and_not_recorded_is_never_dropped(
    shipped: Shipped, complete: Observed, lacking: str, place: str
) -> None:
    known = {
        fact: value
        for fact, value in recorded.parse(recorded.record(complete)).items()
        if lacking not in fact.object
    }
    with catalog.connect(shipped.server.dsn("pandom_auditor", shipped.name)) as connection:
        found = run(connection, shipped.opt_in, acceptances=(), known=known).drift
    (one,) = [one for one in found if lacking in one.object and one.kind != "privilege"]
    assert one.sql is None
    assert place in one.title
    assert "`pandom audit record`" in one.advice
    # Roles of settings that are off here belong to the other fixture.
    others = [role.name for role in access.ROLES if role.opt_in]
    healed = script(one for one in found if not any(name in one.place for name in others))
    assert "drop" not in healed

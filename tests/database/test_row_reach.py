"""A table that a login may reach is under row security, or somebody answers for it."""

from __future__ import annotations

import psycopg
import pytest

from pandom.audit import controls
from pandom.database import migrate
from pandom.database.converge import compare, converge, open_rows
from pandom.database.drift import catalog, declared
from pandom.runtime.errors import Failure
from schema import access
from tests.fixtures.databases import Database

_TABLE = "create table public.notes (id int, owner uuid); alter table public.notes owner to "
_MADE = _TABLE + "pandom_owner; "
_ENABLED = "alter table public.notes enable row level security; "
_FORCED = _ENABLED + "alter table public.notes force row level security; "
_GUARDED = _FORCED + "create policy p on public.notes to pandom_app using (owner is null); "
_GRANT = "grant select on public.notes to pandom_app; "
_ADMIN = "create policy p on public.notes to pandom_admin using (true); "
_VIEW = "create view public.v{} as select uuid from public.auth_users; "
_OPEN = {
    "no row security": (_MADE + _GRANT, "table public.notes", "pandom_app", "not enabled"),
    "not forced": (_MADE + _ENABLED + _GRANT, "table public.notes", "pandom_app", "not forced"),
    "no policy": (_MADE + _FORCED + _GRANT, "table public.notes", "pandom_app", "no policy"),
    "a policy for PUBLIC": (
        _MADE + _FORCED + _GRANT + "create policy p on public.notes using (true);",
        "table public.notes",
        "pandom_app",
        "no policy",
    ),
    "a policy for another role": (
        _MADE + _FORCED + _GRANT + _ADMIN,
        "table public.notes",
        "pandom_app",
        "no policy",
    ),
    "a column": (
        _MADE + "grant update (id) on public.notes to pandom_mailer;",
        "table public.notes",
        "pandom_mailer",
        "not enabled",
    ),
    "a role that is entered": (
        _MADE + _GUARDED + "grant delete on public.notes to pandom_admin;",
        "table public.notes",
        "pandom_admin",
        "no policy",
    ),
    "a group that is inherited": (
        _MADE + "create role g; grant g to pandom_auditor; grant select on public.notes to g;",
        "table public.notes",
        "pandom_auditor",
        "not enabled",
    ),
    "PUBLIC": (
        _MADE + _GUARDED + "grant select on public.notes to public;",
        "table public.notes",
        "PUBLIC",
        "no policy",
    ),
    "a partition": (
        "create table public.notes (id int) partition by range (id);"
        "create table public.notes_1 partition of public.notes for values from (1) to (2);"
        "grant select on public.notes_1 to pandom_app;",
        "table public.notes_1",
        "pandom_app",
        "not enabled",
    ),
    "a partitioned table": (
        "create table public.notes (id int) partition by range (id);" + _GRANT,
        "table public.notes",
        "pandom_app",
        "not enabled",
    ),
    "another schema": (
        "create schema s; create table s.notes (id int); grant select on s.notes to pandom_app;",
        "table s.notes",
        "pandom_app",
        "not enabled",
    ),
    "a view of its owner": (
        _VIEW.format("") + "grant select on public.v to pandom_app;",
        "view public.v",
        "pandom_app",
        "not security_invoker",
    ),
    "a materialized view": (
        "create materialized view public.m as select uuid from public.auth_users;"
        "grant select on public.m to pandom_app;",
        "materialized view public.m",
        "pandom_app",
        "has no row security",
    ),
    "a foreign table": (
        "create foreign data wrapper w; create server s foreign data wrapper w;"
        "create foreign table public.f (id int) server s; grant select on public.f to pandom_app;",
        "foreign table public.f",
        "pandom_app",
        "has no row security",
    ),
}
_GUARDED_ONES = {
    "a policy that names the role": _MADE + _GUARDED + _GRANT,
    "a policy for the group": (
        _MADE + _FORCED + "create role g; grant g to pandom_auditor;"
        "grant select on public.notes to pandom_auditor;"
        "create policy p on public.notes to g using (true);"
    ),
    "an invoker's view": _VIEW.format(" with (security_invoker)")
    + "grant select on public.v to pandom_app;",
    "a role past row security": _MADE + "grant select on public.notes to pandom_user;",
    "a role that nobody becomes": _MADE + "grant select on public.notes to pandom_definer;",
}


def _open(database: Database, text: str) -> list[tuple[str, str, str]]:
    """What is open after statements of the superuser, which are rolled back."""
    with database.connect("postgres") as connection:
        connection.execute(text.encode())
        found = open_rows(connection)
        connection.rollback()
    return found


@pytest.mark.requirement("P2")
def test_every_table_a_login_may_reach_is_guarded_or_answered_for(shared: Database) -> None:
    assert _open(shared, "select 1") == []


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("case", _OPEN)
def test_an_open_table_or_view_is_found(shared: Database, case: str) -> None:
    text, name, role, missing = _OPEN[case]
    found = {(one[0], one[1]): one[2] for one in _open(shared, text)}
    assert missing in found[name, role]


@pytest.mark.requirement("P2")
@pytest.mark.parametrize("case", _GUARDED_ONES)
def test_a_guarded_one_is_not(shared: Database, case: str) -> None:
    assert _open(shared, _GUARDED_ONES[case]) == []


@pytest.mark.requirement("P2")
def test_every_exception_is_needed_and_has_a_reason(
    shared: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    declared_ones = access.row_security_exceptions()
    monkeypatch.setattr(access, "row_security_exceptions", tuple)
    needed = {(name.rpartition(" ")[2], role) for name, role, _ in _open(shared, "select 1")}
    assert {(one.name, one.role) for one in declared_ones} == needed
    assert all(len(one.reason) > 20 for one in declared_ones)


def _grant(monkeypatch: pytest.MonkeyPatch, *grants: access.Grant) -> None:
    monkeypatch.setattr(access, "OBJECT_GRANTS", (*access.OBJECT_GRANTS, *grants))


_NOTES = access.Grant("table", "public.notes", "pandom_app", frozenset({"SELECT"}))


@pytest.mark.requirement("P2", "A3")
def test_privileges_on_an_open_table_refuse_the_transaction(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    _grant(monkeypatch, _NOTES)
    with database.owner() as connection:
        connection.execute("create table public.notes (id int)")
    with (
        pytest.raises(Failure, match=r"public\.notes for pandom_app: row security not enabled"),
        database.connect("pandom_migrator") as connection,
    ):
        converge(connection, database.opt_in)
    with database.connect() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("select * from public.notes")
    # On the way to head the privilege waits for the row security.
    with database.connect("pandom_migrator") as connection:
        converge(connection, database.opt_in, complete=False, guarded=False)
    with database.connect() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("select * from public.notes")
    reason = access.OpenRows("public.notes", "pandom_app", "Notes are for everybody to read.")
    declared_ones = access.row_security_exceptions()
    monkeypatch.setattr(access, "row_security_exceptions", lambda: (*declared_ones, reason))
    with database.connect("pandom_migrator") as connection:
        assert converge(connection, database.opt_in) == 1
    with database.connect() as connection:
        assert connection.execute("select * from public.notes").fetchall() == []


@pytest.mark.requirement("P2", "M1")
def test_a_revision_that_would_open_rows_is_refused_whole(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    grant = access.Grant("table", "public.outbox", "pandom_app", frozenset({"SELECT"}))
    _grant(monkeypatch, grant)
    runner = database.runner()
    before = migrate.revert(runner, "-1")[1]
    with pytest.raises(Failure, match=rf"revision {migrate.head()} is refused: .*\n.*outbox"):
        migrate.upgrade(runner)
    with database.owner() as connection:
        assert migrate.current(connection) == before
    with database.connect() as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("select * from public.outbox")


@pytest.mark.requirement("P2")
def test_the_control_names_table_and_role(database: Database) -> None:
    with database.connect("postgres") as connection:
        connection.execute("create table public.notes (id int); " + _GRANT)
    with catalog.connect(database.server.dsn("pandom_auditor", database.name)) as connection:
        observed = catalog.read(connection, declared.OWNERS)
    verdict = next(one for one in controls.evaluate(observed) if one.control.number == "4.7")
    assert verdict.verdict.state == "fail"
    assert "table public.notes for pandom_app: row security not enabled" in verdict.verdict.evidence


@pytest.mark.requirement("A3")
def test_a_grant_on_a_column_of_a_later_revision_waits_for_it(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    later = access.Grant(
        "table", "public.sessions", "pandom_app", frozenset({"SELECT"}), ("device",)
    )
    _grant(monkeypatch, later, _NOTES)
    with database.connect("pandom_migrator") as connection:
        assert converge(connection, database.opt_in, complete=False) == 0
        with pytest.raises(Failure, match=r"column device of public\.sessions, table pub"):
            converge(connection, database.opt_in)
    monkeypatch.undo()
    _grant(monkeypatch, later)
    with database.owner() as connection:
        connection.execute("alter table public.sessions add column device text")
    with database.connect("pandom_migrator") as connection:
        assert converge(connection, database.opt_in) == 1
        assert not compare(connection, database.opt_in).differences()

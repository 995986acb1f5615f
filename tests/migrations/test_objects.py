"""Functions, triggers, policies and views that are declared otherwise, and the way back."""

from __future__ import annotations

import shutil
from pathlib import Path

import psycopg
import pytest

from pandom.database import made
from pandom.host import objects
from pandom.host.objects import Objects
from pandom.runtime.errors import UsageError
from tests.fixtures.catalog import differences, facts
from tests.fixtures.databases import Database


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The declared text, for a test to change."""
    shutil.copytree(made.FOLDER, tmp_path / "sql")
    monkeypatch.setattr(made, "FOLDER", tmp_path / "sql")
    return tmp_path / "sql"


def _compared(database: Database, tables: str = "select 1") -> Objects:
    with psycopg.connect(database.server.dsn("postgres", database.name)) as server:
        return objects.of(server, tables)


def _facts(database: Database) -> dict[str, str]:
    with database.connect("pandom_user") as connection:
        return facts(connection, "function", "trigger", "policy", "view", "comment", "relation")


def _run(database: Database, *texts: str) -> None:
    with database.connect("pandom_migrator") as connection:
        for text in texts:
            connection.execute(text.encode())


def _replaced(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.requirement("M1", "M2")
def test_what_is_declared_is_in_a_migrated_database(shared: Database) -> None:
    assert _compared(shared) == Objects()


_COUNT = """\
set local role pandom_definer;

create or replace function public.count_sessions(whose uuid)
returns bigint
language sql
stable
security definer
set search_path = ''
return (select count(*) from public.open_sessions as s where s.user_uuid = whose);

comment on function public.count_sessions(uuid) is
'How many sessions a user has.';
"""
_VIEW = """\
set local role pandom_owner;

create or replace view public.open_sessions
with (security_invoker = true) as
select
    s.id,
    s.user_uuid
from public.sessions as s;

comment on view public.open_sessions is
'Sessions without what is secret.';

grant select on public.open_sessions to pandom_definer;
"""


@pytest.mark.requirement("M1", "M2")
def test_each_difference_is_written_and_goes_back(database: Database, folder: Path) -> None:
    before = _facts(database)
    _replaced(folder / "functions" / "client_agent.sql", "512", "511")
    _replaced(folder / "functions" / "hash_cost.sql", "\n'", "\n'Other words: ")
    _replaced(
        folder / "triggers" / "watch_auth_users.sql",
        "old.role is distinct",
        "old.role <> new.role or old.role is distinct",
    )
    policy = folder / "policies" / "sessions.user_isolation.sql"
    policy.parent.mkdir()
    policy.write_text(made.texts()["policies/sessions.user_isolation"])
    _replaced(policy, "for all", "for select")
    _replaced(
        policy,
        "\nwith check (user_uuid = (select public.current_user_id()))",
        "",
    )
    (folder / "views" / "suspicious_activity.sql").unlink()
    # The function is first by name, and needs the view.
    (folder / "functions" / "count_sessions.sql").write_text(_COUNT)
    (folder / "views" / "open_sessions.sql").write_text(_VIEW)

    found = _compared(database)
    assert list(found.up) == [
        "functions.client_agent",
        "triggers.watch_auth_users",
        "policies.sessions.user_isolation",
        "views.open_sessions",
        "functions.count_sessions",
        "comments",
        "drops",
    ]
    assert (
        found.up["functions.client_agent"]
        == (folder / "functions" / "client_agent.sql").read_text()
    )
    # The text of before is the frozen one, not the server's.
    assert (
        "nullif(left(current_setting('app.user_agent', true), 512), '')"
        in (found.restored["down.functions.client_agent"])
    )
    assert "create or replace view" in found.restored["down.views.suspicious_activity"]
    assert found.notes == ()

    _run(database, *found.up.values())
    assert _compared(database) == Objects()
    grants = "grant select on public.suspicious_activity to pandom_auditor, pandom_user"
    _run(database, *found.restored.values(), found.dropped)
    _run(database, f"set role pandom_trail; {grants}")
    assert differences(before, _facts(database)) == []


@pytest.mark.requirement("M1")
def test_what_somebody_changed_by_hand_is_said(database: Database) -> None:
    with database.owner("pandom_definer") as connection:
        connection.execute(
            "create or replace function public.client_agent() returns text language sql "
            "stable set search_path = '' as 'select null::text'"
        )
    found = _compared(database)
    assert list(found.up) == ["functions.client_agent"]
    assert "another text than revisions gave it" in found.notes[0]


@pytest.mark.requirement("M1")
@pytest.mark.parametrize("text", ["create function public.broken() returns", "select nothing"])
def test_text_that_does_not_run_is_a_mistake(shared: Database, folder: Path, text: str) -> None:
    (folder / "functions" / "broken.sql").write_text(text)
    with pytest.raises(UsageError, match=r"schema/sql/functions/broken\.sql: "):
        _compared(shared)


@pytest.mark.requirement("M1")
def test_an_unreleased_revision_gets_the_declared_text(tmp_path: Path, folder: Path) -> None:
    revision = tmp_path / "0099"
    revision.mkdir()
    name = "functions.client_agent.sql"
    declared = (folder / "functions" / "client_agent.sql").read_text()
    (revision / name).write_text(declared)
    assert objects.refresh(revision) == []
    _replaced(folder / "functions" / "client_agent.sql", "512", "511")
    assert objects.refresh(revision) == [revision / name]
    assert (revision / name).read_text() == declared.replace("512", "511")

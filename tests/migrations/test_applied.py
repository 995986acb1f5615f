"""Drafts on a real server: applied text by digest, what a way back loses, ahead and behind."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pandom.database import frozen, migrate, revisions
from pandom.runtime.errors import Failure, UsageError
from tests.fixtures.databases import PEOPLE, Database

HEAD = migrate.head()
DRAFT = f"{int(HEAD) + 1:04}"
BEYOND = f"{int(HEAD) + 2:04}"
OWNER = "set local role pandom_owner;\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the folder of revisions, in which drafts may be written."""
    made = tmp_path / "migrations"
    shutil.copytree(revisions.FOLDER, made, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(revisions, "FOLDER", made)
    monkeypatch.setattr(migrate, "FOLDER", made)
    monkeypatch.setattr(frozen, "FOLDER", made / "sql")
    return made


def draft(folder: Path, up: str, down: str, number: str = DRAFT, code: str = "") -> None:
    before = f"{int(number) - 1:04}"
    (folder / "versions" / f"{number}_draft.py").write_text(
        f'"""A draft."""\nfrom pandom.database.frozen import run\nrevision = "{number}"\n'
        f'down_revision = "{before}"\n\ndef upgrade() -> None:\n    run(revision, "up")\n{code}\n\n'
        'def downgrade() -> None:\n    run(revision, "down")\n'
    )
    texts = folder / "sql" / number
    texts.mkdir(exist_ok=True)
    (texts / "up.sql").write_text(OWNER + up)
    (texts / "down.sql").write_text(OWNER + down)


def applied(database: Database) -> revisions.Applied:
    with database.connect("pandom_user") as connection:
        return revisions.read(connection)


@pytest.mark.requirement("M2", "M1")
def test_a_draft_that_is_completed_after_it_was_applied_is_refused(
    database: Database, folder: Path
) -> None:
    draft(folder, "create table public.t (a int);", "drop table public.t;")
    assert migrate.upgrade(database.runner()) == (HEAD, DRAFT)
    held = applied(database)
    assert held.texts == {one.number: one.digest for one in revisions.every()}
    # The completion: nothing of it happens, and neither do its privileges.
    draft(folder, "create table public.t (a int, b int);", "drop table public.t;")
    with pytest.raises(UsageError, match=rf"{DRAFT} was applied with other text") as raised:
        migrate.upgrade(database.runner())
    assert held.texts[DRAFT][:12] in str(raised.value)
    assert applied(database) == held
    # The way that the message names.
    assert migrate.revert(database.runner(), "-1")[:2] == (DRAFT, HEAD)
    assert DRAFT not in applied(database).texts
    migrate.upgrade(database.runner())
    assert database.rows("select a, b from public.t") == []
    assert applied(database).texts == {one.number: one.digest for one in revisions.every()}


@pytest.mark.requirement("M2")
def test_a_database_from_before_there_were_digests_gets_them(
    database: Database, folder: Path
) -> None:
    del folder
    with database.owner() as connection:
        connection.execute("alter table public.alembic_version drop column texts")
    assert applied(database) == revisions.Applied(HEAD)
    assert migrate.upgrade(database.runner()) == (HEAD, HEAD)
    assert applied(database).texts == {one.number: one.digest for one in revisions.every()}


@pytest.mark.requirement("M1")
def test_a_database_ahead_is_refused_by_both_ways(database: Database, folder: Path) -> None:
    draft(folder, "select 1;", "select 1;")
    migrate.upgrade(database.runner())
    (folder / "versions" / f"{DRAFT}_draft.py").unlink()
    shutil.rmtree(folder / "sql" / DRAFT)
    held = applied(database)
    for move in (
        lambda: migrate.upgrade(database.runner()),
        lambda: migrate.revert(database.runner(), "-1"),
    ):
        with pytest.raises(UsageError, match=f"at revision {DRAFT}, which this checkout"):
            move()
    assert applied(database) == held


@pytest.mark.requirement("M1")
def test_a_database_that_names_two_revisions_is_refused(database: Database) -> None:
    with database.owner() as connection:
        connection.execute("insert into public.alembic_version (version_num) values ('0001')")
    with pytest.raises(UsageError, match=f"several revisions at once: 0001, {HEAD}"):
        migrate.upgrade(database.runner())


@pytest.mark.requirement("M4")
@pytest.mark.parametrize(
    ("code", "message"),
    [
        ("    nonsense()", "NameError: name 'nonsense' is not defined"),
        ('    raise OSError("no disk")', "OSError: no disk"),
    ],
)
def test_a_fault_in_a_revisions_code_is_named_with_its_place(
    database: Database, folder: Path, code: str, message: str
) -> None:
    draft(folder, "create table public.t (a int);", "drop table public.t;", code=code)
    with pytest.raises(Failure) as raised:
        migrate.upgrade(database.runner())
    assert f"revision {DRAFT} failed: {message} (versions/{DRAFT}_draft.py, line 8)" in str(
        raised.value
    )
    assert applied(database).reached == HEAD


UP = """
create table public.notes (a int, b text);
insert into public.notes values (1, 'x'), (2, null), (3, 'y');
alter table public.user_profiles add column phone text, add column fax text;
update public.user_profiles set phone = '1' where 'alice' = any (tags);
create table public.empty (a int);
"""
DOWN = """
drop table public.notes, public.empty;
alter table public.user_profiles drop column phone, drop column fax;
"""


@pytest.mark.requirement("M3")
def test_a_way_back_counts_what_it_would_take(database: Database, folder: Path) -> None:
    draft(folder, UP, DOWN)
    migrate.upgrade(database.runner())
    with pytest.raises(UsageError) as raised:
        migrate.revert(database.runner(), "-1", losing=False)
    lost = [
        "table public.notes: 3 rows",
        "column public.user_profiles.phone: 1 value",
    ]
    assert f"from {DRAFT} to {HEAD} would lose:\n  " + "\n  ".join(lost) in str(raised.value)
    assert applied(database).reached == DRAFT
    assert database.one("select count(*) from public.notes") == 3
    assert migrate.revert(database.runner(), "-1", losing=True) == (DRAFT, HEAD, lost)


NOTES = "(a int, b text); insert into public.notes values (1, 'x'), (2, null), (3, 'y');"
WAYS_BACK: dict[str, list[str]] = {
    "alter table public.notes rename to other;": [],
    "alter table public.notes rename column a to c;": [],
    "alter table public.notes alter a type bigint;": [],
    "create table public.kept as table public.notes; drop table public.notes;": [
        "table public.notes: 3 rows"
    ],
    "delete from public.notes where a < 3;": ["table public.notes: 2 rows of it"],
    "truncate public.notes;": ["table public.notes: 3 rows of it"],
    "drop table public.notes cascade;": ["table public.notes: 3 rows"],
    "alter table public.notes drop b;": ["column public.notes.b: 2 values"],
}


@pytest.mark.requirement("M3")
def test_a_way_back_is_tried_not_read(database: Database, folder: Path) -> None:
    runner = database.runner()
    for down, lost in WAYS_BACK.items():
        draft(folder, f"create table public.notes {NOTES}", down)
        migrate.upgrade(runner)
        if lost:
            with pytest.raises(UsageError, match=lost[0]):
                migrate.revert(runner, "-1", losing=False)
            assert database.one("select count(*) from public.notes") == 3
        assert migrate.revert(runner, "-1", losing=bool(lost)) == (DRAFT, HEAD, lost), down
        with database.owner() as connection:
            connection.execute("drop table if exists public.notes, public.other, public.kept")


@pytest.mark.requirement("M3")
def test_a_way_back_that_fails_fails_in_the_trial(database: Database, folder: Path) -> None:
    draft(folder, "select 1;", "drop table public.nothing;")
    migrate.upgrade(database.runner())
    with pytest.raises(Failure, match=f"taking back revision {DRAFT} failed"):
        migrate.revert(database.runner(), "-1", losing=False)
    assert applied(database).reached == DRAFT


@pytest.mark.requirement("M3")
def test_rows_that_wait_in_the_archive_are_not_lost(database: Database) -> None:
    # Settings that revisions write themselves are in no archive.
    with pytest.raises(UsageError) as raised:
        migrate.revert(database.runner(), "0001", losing=False)
    assert "table public.trail_retention: 2 rows" in str(raised.value)
    assert "audit_logs" not in str(raised.value)
    with pytest.raises(UsageError, match=f"auth_users: {len(PEOPLE) + 1} rows"):
        migrate.revert(database.runner(), "base", losing=False)


@pytest.mark.requirement("M3")
def test_what_runs_outside_of_transactions_cannot_be_counted(
    database: Database, folder: Path
) -> None:
    draft(folder, "select 1;", "select 1;")
    path = folder / "versions" / f"{DRAFT}_draft.py"
    path.write_text(
        path.read_text().replace("import run", "import build_index, run")
        + f'    build_index(revision, "index", "idx_of_{DRAFT}")\n'
    )
    (folder / "sql" / DRAFT / "index.sql").write_text(
        f"create index concurrently if not exists idx_of_{DRAFT} "
        "on public.user_profiles (created_at);"
    )
    migrate.upgrade(database.runner())
    with pytest.raises(UsageError, match="cannot be counted"):
        migrate.revert(database.runner(), "-1", losing=False)
    assert applied(database).reached == DRAFT
    assert migrate.revert(database.runner(), "-1", losing=True)[:2] == (DRAFT, HEAD)


@pytest.mark.requirement("M3")
@pytest.mark.parametrize("target", [BEYOND, "-99"])
def test_a_way_back_that_leads_nowhere(database: Database, target: str) -> None:
    with pytest.raises(UsageError, match="there is no"):
        migrate.revert(database.runner(), target, losing=False)

"""A revision that builds an index without stopping writers."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pandom.database import frozen, migrate
from pandom.runtime.errors import UsageError
from tests.fixtures.databases import Database

REVISION = '''"""An index.

Locks: SHARE UPDATE EXCLUSIVE on user_profiles; writers go on.
Rollback: drops it.
"""

from pandom.database.frozen import build_index, run

revision = "{number}"
down_revision = "{before}"


def upgrade() -> None:
    build_index(revision, "up", "idx_user_profiles_created")


def downgrade() -> None:
    run(revision, "down")
'''
BUILD = "create index concurrently idx_user_profiles_created on public.user_profiles (created_at);"


@pytest.fixture
def number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A copy of the migrations with one more revision."""
    before = migrate.head()
    number = f"{int(before) + 1:04}"
    copy = tmp_path / "migrations"
    shutil.copytree(migrate.FOLDER, copy, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "versions" / f"{number}_index.py").write_text(
        REVISION.format(number=number, before=before)
    )
    (copy / "sql" / number).mkdir()
    (copy / "sql" / number / "up.sql").write_text(BUILD)
    (copy / "sql" / number / "down.sql").write_text(
        "set local role pandom_owner; drop index public.idx_user_profiles_created;"
    )
    monkeypatch.setattr(migrate, "FOLDER", copy)
    monkeypatch.setattr(frozen, "FOLDER", copy / "sql")
    return number


def _valid(database: Database) -> bool:
    return bool(
        database.one(
            "select bool_or(indisvalid) from pg_index where indexrelid = "
            "to_regclass('public.idx_user_profiles_created')"
        )
    )


@pytest.mark.requirement("M4", "M1")
def test_a_revision_builds_an_index_concurrently_and_takes_it_back(
    database: Database, number: str
) -> None:
    runner = database.runner()
    assert migrate.upgrade(runner)[1] == number
    assert _valid(database)
    assert migrate.revert(runner, "-1")[0] == number
    assert not _valid(database)


@pytest.mark.requirement("M4")
def test_what_a_killed_build_left_is_built_again(database: Database, number: str) -> None:
    with database.server.connect("postgres", database.name) as connection:
        connection.execute(BUILD.encode())
        connection.execute(
            "update pg_index set indisvalid = false "
            "where indexrelid = 'public.idx_user_profiles_created'::regclass"
        )
        connection.execute("alter index public.idx_user_profiles_created owner to pandom_owner")
    assert not _valid(database)
    migrate.upgrade(database.runner())
    assert _valid(database)


@pytest.mark.requirement("M4")
def test_a_file_that_builds_no_index_is_refused(database: Database, number: str) -> None:
    (frozen.FOLDER / number / "up.sql").write_text("drop table public.sessions;")
    with pytest.raises(UsageError, match="CREATE INDEX CONCURRENTLY"):
        migrate.upgrade(database.runner())
    assert database.one("select to_regclass('public.sessions') is not null")

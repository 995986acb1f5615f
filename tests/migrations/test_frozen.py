"""The text of a released revision never changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from pandom.database import frozen, migrate


def _released(text: str) -> dict[str, str]:
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    return dict(lines)


@pytest.mark.requirement("M2")
def test_released_revisions_are_as_they_were() -> None:
    released = _released((migrate.FOLDER / "released.txt").read_text())
    assert {revision: frozen.digest(revision) for revision in released} == released


@pytest.mark.requirement("M2")
@pytest.mark.parametrize("change", ["edited", "renamed", "added", "removed"])
def test_a_changed_text_has_another_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    before = frozen.digest("0001")
    shutil.copytree(frozen.FOLDER, tmp_path / "sql")
    monkeypatch.setattr(frozen, "FOLDER", tmp_path / "sql")
    assert frozen.digest("0001") == before
    file = tmp_path / "sql" / "0001" / "accounts.sql"
    if change == "edited":
        file.write_text(file.read_text() + "\n")
    elif change == "renamed":
        file.rename(file.with_name("other.sql"))
    elif change == "added":
        file.with_name("more.sql").write_text("select 1;")
    else:
        file.unlink()
    assert frozen.digest("0001") != before


@pytest.mark.requirement("M2")
def test_no_revision_reads_the_declared_text() -> None:
    # schema/sql moves on; history must not move with it.
    for path in (migrate.FOLDER / "versions").glob("*.py"):
        assert "schema" not in path.read_text().replace("schema trail_archive", ""), path.name

"""What the models declare, kept beside their compiled form: the same, and never an old one."""

import json
import shutil
from pathlib import Path

import pytest

from schema import tables as module
from schema.models import mappers


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the sources under whose digest the answer is kept."""
    for path in Path(module.__file__).parent.glob("*.py"):
        shutil.copy(path, tmp_path)
    monkeypatch.setattr(module, "_FOLDER", tmp_path)
    monkeypatch.setattr("sys.dont_write_bytecode", False)
    return tmp_path


def _read() -> tuple[module.DeclaredTable, ...]:
    return module.tables.__wrapped__()


def _kept(folder: Path) -> Path:
    (found,) = (folder / "__pycache__").iterdir()
    return found


def test_what_is_kept_is_what_the_models_say(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = _read()
    assert [table.name for table in first] == [one.class_.__tablename__ for one in mappers()]
    monkeypatch.setattr(module, "_of_models", lambda: pytest.fail("the models were read again"))
    assert _read() == first


@pytest.mark.parametrize("text", ["", "{", "[]", '{"digest": 1}', "\0"])
def test_a_damaged_file_is_made_again(folder: Path, text: str) -> None:
    first = _read()
    _kept(folder).write_text(text)
    assert _read() == first
    assert json.loads(_kept(folder).read_text())["tables"]


@pytest.mark.parametrize("name", ["models.py", "declare.py"])
def test_a_changed_source_is_read_again(
    folder: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    _read()
    (folder / name).write_text((folder / name).read_text() + "\n# changed\n")
    monkeypatch.setattr(module, "_of_models", list)
    assert _read() == ()


def test_a_folder_that_cannot_be_written_is_no_fault(folder: Path) -> None:
    (folder / "__pycache__").write_text("in the way")
    assert _read()

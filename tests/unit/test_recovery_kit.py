"""The recovery kit: what is put back, for whom, and what is refused before anything is touched."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyrage
import pytest

from pandom.host import recovery_kit
from pandom.host.stack import Stack, settings
from pandom.runtime import paths
from pandom.runtime.errors import UsageError
from tests.fixtures.other_store import certificates

STACK = Stack("lost-and-found")
SECRET = "of-all-states-0123456789"


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone whose stacks' files are nobody else's."""
    monkeypatch.setattr(paths, "ROOT", tmp_path / "clone")
    return tmp_path / "clone"


@pytest.fixture
def host(tmp_path: Path, clone: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host with a stack; its home for states."""
    home = tmp_path / "host" / "pandom-stack"
    monkeypatch.setenv("XDG_STATE_HOME", str(home.parent))
    for path, text in (
        (paths.passphrase_file(), f"{SECRET}\n"),
        (STACK.kept_file, "config:\n  pandom-stack:adminEmail: a@example.com\n"),
        (paths.backend() / ".pulumi" / "meta.yaml", "version: 1\n"),
        (STACK.checkpoint, json.dumps({"version": 3, "checkpoint": {"latest": {}}})),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return home


@pytest.fixture
def identity(tmp_path: Path) -> tuple[str, str]:
    """A public key, and the file with the secret one, as `age-keygen` writes it."""
    made = pyrage.x25519.Identity.generate()
    file = tmp_path / "identity.txt"
    file.write_text(f"# created: today\n# public key: {made.to_public()}\n{made}\n")
    return str(made.to_public()), str(file)


@pytest.fixture
def kit(tmp_path: Path, host: Path, identity: tuple[str, str]) -> Path:
    """A kit of the stack."""
    file = tmp_path / "kit.age"
    recovery_kit.write(STACK.name, str(file), [identity[0]])
    return file


@pytest.fixture
def new_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A host that has nothing."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "new"))
    return tmp_path / "new" / "pandom-stack"


def _files(home: Path) -> dict[str, str]:
    found = (path for path in home.rglob("*") if path.is_file() and "locks" not in path.parts)
    return {str(path.relative_to(home)): path.read_text() for path in found}


@pytest.mark.requirement("D5")
def test_everything_is_put_back_and_once_more_changes_nothing(
    host: Path, kit: Path, identity: tuple[str, str], clone: Path, new_host: Path
) -> None:
    assert SECRET.encode() not in kit.read_bytes()
    assert kit.stat().st_mode & 0o777 == 0o600
    for _ in range(2):
        recovery_kit.recover(str(kit), [identity[1]])
        assert _files(new_host) == _files(host)
        assert STACK.file.read_text() == (host / STACK.name / STACK.file.name).read_text()
    assert paths.passphrase_file().stat().st_mode & 0o777 == 0o600


def test_a_recovery_that_was_killed_goes_on(
    host: Path, kit: Path, identity: tuple[str, str], new_host: Path
) -> None:
    names = list(json.loads(pyrage.decrypt(kit.read_bytes(), _keys(identity)))["files"])
    assert names[-1].endswith(".json"), "a state without its passphrase could not be read"
    for name in names[:2]:
        (new_host / name).parent.mkdir(parents=True, exist_ok=True)
        (new_host / name).write_text((host / name).read_text())
    recovery_kit.recover(str(kit), [identity[1]])
    assert _files(new_host) == _files(host)


def _keys(identity: tuple[str, str]) -> list[pyrage.x25519.Identity]:
    return [pyrage.x25519.Identity.from_str(Path(identity[1]).read_text().splitlines()[-1])]


def test_the_clones_own_file_is_newer_than_the_copy(
    host: Path,
    kit: Path,
    identity: tuple[str, str],
    clone: Path,
    new_host: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(host.parent))
    STACK.file.parent.mkdir(parents=True)
    STACK.file.write_text("config: {}\n")
    recovery_kit.write(STACK.name, str(kit), [identity[0]])
    STACK.file.unlink()
    monkeypatch.setenv("XDG_STATE_HOME", str(new_host.parent))
    recovery_kit.recover(str(kit), [identity[1]])
    assert STACK.file.read_text() == "config: {}\n"


def test_a_passphrase_opens_it_too(
    tmp_path: Path, host: Path, new_host: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    word, kit = tmp_path / "word", tmp_path / "kit.age"
    word.write_text("a long sentence of mine\n")
    monkeypatch.setenv("XDG_STATE_HOME", str(host.parent))
    recovery_kit.write(STACK.name, str(kit), passphrase_file=str(word))
    monkeypatch.setenv("XDG_STATE_HOME", str(new_host.parent))
    recovery_kit.recover(str(kit), passphrase_file=str(word))
    assert _files(new_host) == _files(host)
    word.write_text("another sentence of mine\n")
    with pytest.raises(UsageError, match="cannot be opened"):
        recovery_kit.recover(str(kit), passphrase_file=str(word))


@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-20],
        lambda content: content[:200] + bytes([content[200] ^ 1]) + content[201:],
        lambda content: content[:30],
        lambda content: b"",
        lambda content: b"{}",
    ],
)
def test_a_damaged_kit_is_named(
    kit: Path, identity: tuple[str, str], new_host: Path, damage: Callable[[bytes], bytes]
) -> None:
    kit.write_bytes(damage(kit.read_bytes()))
    with pytest.raises(UsageError, match=r"cannot be opened|is no kit"):
        recovery_kit.recover(str(kit), [identity[1]])
    assert not new_host.exists()


def test_another_key_does_not_open_it(tmp_path: Path, kit: Path, new_host: Path) -> None:
    other = tmp_path / "other.txt"
    other.write_text(f"{pyrage.x25519.Identity.generate()}\n")
    with pytest.raises(UsageError, match="another key"):
        recovery_kit.recover(str(kit), [str(other)])
    assert not new_host.exists()


def test_what_is_there_is_not_replaced(
    kit: Path, identity: tuple[str, str], new_host: Path
) -> None:
    paths.passphrase_file().parent.mkdir(parents=True)
    paths.passphrase_file().write_text("of somebody else\n")
    with pytest.raises(UsageError, match="XDG_STATE_HOME"):
        recovery_kit.recover(str(kit), [identity[1]])
    paths.passphrase_file().unlink()
    STACK.checkpoint.parent.mkdir(parents=True)
    STACK.checkpoint.write_text("{}")
    with pytest.raises(UsageError, match="another state"):
        recovery_kit.recover(str(kit), [identity[1]])
    assert STACK.checkpoint.read_text() == "{}"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"files": {"../elsewhere": "x"}}, "no kit of stack"),
        ({"files": {"/etc/profile": "x"}}, "no kit of stack"),
        ({"files": {"other/ca.crt": "x"}}, "no kit of stack"),
        ({"stack": "../x"}, "expected up to 30"),
        ({"format": 2}, "format 2"),
        ({"files": None}, "no kit of format"),
    ],
)
def test_what_somebody_else_made_for_the_key_writes_nothing(
    kit: Path, identity: tuple[str, str], new_host: Path, changes: dict[str, object], said: str
) -> None:
    made = json.loads(pyrage.decrypt(kit.read_bytes(), _keys(identity))) | changes
    kit.write_bytes(pyrage.encrypt(json.dumps(made).encode(), [_keys(identity)[0].to_public()]))
    with pytest.raises(UsageError, match=said):
        recovery_kit.recover(str(kit), [identity[1]])
    assert not new_host.exists()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"recipients": ["age1nobody"]}, "--recipient"),
        ({"recipients": ["ssh-ed25519 nobody"]}, "--recipient"),
        ({}, "Who shall be able"),
        ({"passphrase_file": "missing"}, "cannot be read"),
        ({"passphrase_file": "short"}, "expected 16 or more"),
    ],
)
def test_a_kit_that_nobody_could_open_is_not_written(
    tmp_path: Path,
    host: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: dict[str, Any],
    said: str,
) -> None:
    monkeypatch.setattr("os.isatty", lambda _: False)
    monkeypatch.chdir(tmp_path)
    Path("short").write_text("1234")
    with pytest.raises(UsageError, match=said):
        recovery_kit.write(STACK.name, "kit.age", **arguments)
    assert not Path("kit.age").exists()


def test_where_it_cannot_be_written(tmp_path: Path, host: Path, identity: tuple[str, str]) -> None:
    mine = tmp_path / "letter"
    mine.write_text("Dear all,")
    for place, said in (
        (mine, "is no kit"),
        (tmp_path, "is no kit"),
        (host / "kit.age", "would be lost together"),
        (tmp_path / "not mounted" / "kit.age", "There is no folder"),
        (Path("/proc/kit.age"), "cannot be written"),
    ):
        with pytest.raises(UsageError, match=said):
            recovery_kit.write(STACK.name, str(place), [identity[0]])
    assert mine.read_text() == "Dear all,"
    assert not (tmp_path / "not mounted").exists()
    with pytest.raises(UsageError, match="There is no stack"):
        recovery_kit.write("unborn", str(tmp_path / "kit.age"), [identity[0]])


def test_the_kit_holds_the_certificate_that_the_stacks_file_only_names(
    host: Path,
    clone: Path,
    identity: tuple[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ca = certificates(tmp_path / "store", "192.0.2.1")
    vouched = ca.read_text()
    STACK.file.parent.mkdir(parents=True)
    STACK.file.write_text(
        "config:\n  pandom-stack:profile: development\n  pandom-stack:backup: s3\n"
        "  pandom-stack:backupEndpoint: s3.example.com:443\n"
        "  pandom-stack:backupBucket: their-backups\n"
        f"  pandom-stack:backupCa: {ca}  # ours\n"
        "  pandom-stack:backupAccessKey: {secure: v1:a}\n"
        "  pandom-stack:backupSecretKey: {secure: v1:b}\n"
    )
    file = tmp_path / "kit.age"
    recovery_kit.write(STACK.name, str(file), [identity[0]])
    for lost in (ca, STACK.file):
        lost.unlink()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "new"))
    recovery_kit.recover(str(file), [identity[1]])
    assert settings(STACK).backup.ca == vouched

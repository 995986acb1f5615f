"""Dumps: encrypted, whole or refused, whatever goes wrong with the program that makes them."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pyrage
import pytest

from pandom.backups import dump
from pandom.backups.place import Place, identity, recipient
from pandom.runtime.errors import Failure, UsageError

pytestmark = pytest.mark.requirement("D5")
KEY = "the-key-of-a-repository"
CONTENT = os.urandom(200_000)


class Answer(io.BytesIO):
    """An answer of the store."""

    def release_conn(self) -> None:
        """Nothing is held."""


class Store:
    """A store that keeps what it is given, in memory; the real one is in the lifecycle tests."""

    def __init__(self) -> None:
        self.there: dict[str, bytes] = {}

    def put_object(
        self, bucket_name: str, object_name: str, data: Any, length: int, part_size: int = 0
    ) -> None:
        content = b""
        while found := data.read(part_size or length):
            content += found
        self.there[object_name] = content

    def get_object(self, bucket_name: str, object_name: str) -> Answer:
        return Answer(self.there[object_name])

    def remove_object(self, bucket_name: str, object_name: str) -> None:
        self.there.pop(object_name, None)

    def list_objects(self, bucket_name: str, prefix: str, recursive: bool) -> list[Any]:
        kind = type("Entry", (), {})
        found = []
        for name in sorted(self.there):
            if name.startswith(prefix):
                entry = kind()
                entry.object_name = name
                found.append(entry)
        return found


@pytest.fixture
def where(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Place:
    place = Place(Store(), "backups", "dev/dumps/", KEY)
    monkeypatch.setattr(dump, "place", lambda kind: place)
    for name, value in (
        ("PANDOM_STACK", "dev"),
        ("PANDOM_DUMP_KEEP", "2"),
        ("PANDOM_DB_HOST", "postgres"),
        ("PANDOM_DB_PORT", "5432"),
        ("PANDOM_DB_NAME", "pandom_db"),
        ("PANDOM_KEYS", str(tmp_path)),
    ):
        monkeypatch.setenv(name, value)
    for name in ("pandom_user_password", "ca.crt"):
        (tmp_path / name).write_text("x\n")
    monkeypatch.setattr("pandom.backups.inside.note", lambda event, details: None)
    return place


def pg_dump(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: int = 0) -> None:
    """A program of this name that writes CONTENT, and ends with a code."""
    (tmp_path / "content").write_bytes(CONTENT)
    (tmp_path / "pg_dump").write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"sys.stdout.buffer.write(open({str(tmp_path / 'content')!r}, 'rb').read())\n"
        f"sys.stderr.write('no such thing\\n' if {code} else '')\nsys.exit({code})\n"
    )
    (tmp_path / "pg_dump").chmod(0o700)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")


def test_a_dump_is_encrypted_and_comes_back(
    where: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pg_dump(monkeypatch, tmp_path)
    dump.run()
    (one,) = dump.every(where)
    assert one.size == len(CONTENT)
    stored = where.s3.there[f"dev/dumps/{one.name}.dump.age"]
    assert stored.startswith(b"age-encryption.org/")
    assert one.stored == len(stored)
    assert CONTENT[:64] not in stored
    sink = io.BytesIO()
    dump._read(one.name, sink)
    assert sink.getvalue() == CONTENT
    # As anybody with the key does, without this program.
    opened = pyrage.decrypt(stored, [pyrage.ssh.Identity.from_buffer(identity(KEY, "dumps"))])
    assert opened == CONTENT


def test_a_dump_that_failed_is_not_there(
    where: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pg_dump(monkeypatch, tmp_path, code=1)
    with pytest.raises(Failure, match="pg_dump failed: no such thing"):
        dump.run()
    assert where.s3.there == {}


@pytest.mark.parametrize("damage", ["cut", "flipped", "other key", "other content"])
def test_damage_is_told(
    where: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, damage: str
) -> None:
    pg_dump(monkeypatch, tmp_path)
    dump.run()
    (one,) = dump.every(where)
    place = f"dev/dumps/{one.name}.dump.age"
    content = where.s3.there[place]
    key = KEY
    if damage == "cut":
        where.s3.there[place] = content[:-1000]
    elif damage == "flipped":
        middle = len(content) // 2
        where.s3.there[place] = (
            content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
        )
    elif damage == "other key":
        key = "another key"
        where.s3.there[place] = pyrage.encrypt(CONTENT, [recipient(key, "dumps")])
    else:
        where.s3.there[place] = pyrage.encrypt(CONTENT[1:], [recipient(key, "dumps")])
    with pytest.raises(Failure, match=r"damaged, cut off|checksum differs"):
        dump._read(one.name, io.BytesIO())
    with pytest.raises(UsageError, match="There is no dump of-yesterday"):
        dump._read("of-yesterday", io.BytesIO())


def test_older_ones_leave_and_halves_too(
    where: Place, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pg_dump(monkeypatch, tmp_path)
    where.s3.there["dev/dumps/pandom_db-half.dump.age"] = b"half"
    where.s3.there["dev/dumps/of somebody else"] = b"stays"
    for day in (1, 2, 3):
        name = f"pandom_db-2026-11-0{day}T03-00-00Z"
        where.s3.there[f"dev/dumps/{name}.dump.age"] = b"x"
        where.s3.there[f"dev/dumps/{name}.json"] = (
            f'{{"name": "{name}", "made": "2026-11-0{day}T03:00:00+00:00", "database": "x", '
            '"size": 1, "stored": 1, "sha256": "x"}'
        ).encode()
    dump.run()
    kept = [one.name for one in dump.every(where)]
    assert len(kept) == 2
    assert kept[0] == "pandom_db-2026-11-03T03-00-00Z"
    names = set(where.s3.there)
    assert "dev/dumps/of somebody else" in names
    assert not [one for one in names if "half" in one or "11-01" in one or "11-02" in one]


def test_the_key_is_an_ssh_key_that_others_read(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_bytes(identity(KEY, "dumps"))
    file.chmod(0o600)
    done = (
        subprocess.run(
            ["ssh-keygen", "-y", "-f", str(file)], capture_output=True, text=True, check=False
        )
        if Path("/usr/bin/ssh-keygen").exists()
        else None
    )
    assert done is None or done.stdout.startswith("ssh-ed25519 ")
    assert identity(KEY, "dumps") != identity("another key", "dumps") != identity(KEY, "objects")

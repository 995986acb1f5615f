"""Prepared clusters: what shapes one, what is kept of it, what is damaged or old. No Docker."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pytest

from pandom.ci import cache, prepared
from pandom.ci.records import Record
from pandom.host.state import IMAGE, POSTGRESQL_PROVIDER, RANDOM, ROLE, SECRET_MARK, VOLUME
from pandom.runtime import paths
from pandom.runtime.errors import Failure
from pandom.runtime.naming import LABEL_IDENTITY, LABEL_STACK
from pandom.runtime.process import Process

KEY = "0123456789ab"
FORMER, ID = "ci-0000aaaa", "ci-1111bbbb"


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with one file of each kind, and a cache of its own."""
    root = tmp_path / "clone"
    for name in (
        *("schema/models.py", "schema/sql/functions/a.sql", "migrations/sql/0001/up.sql"),
        *("stacks/access.py", "pandom/jobs/migrate.py", "pandom/host/up.py", "pandom/ci/look.py"),
        *("app_image/postgres/postgresql.conf", "toolchain/pins.py"),
        *("__main__.py", "Pulumi.yaml", "requirements.txt", "README.md"),
        *("stacks/Pulumi.dev.yaml", "stacks/__pycache__/access.pyc", "tests/a.py"),
    ):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("toolchain.pins.pulumi", lambda: "3.0")
    return root


@pytest.mark.parametrize(
    "name",
    [
        "schema/models.py",
        "schema/sql/functions/a.sql",
        "migrations/sql/0001/up.sql",
        "stacks/access.py",
        "pandom/jobs/migrate.py",
        "app_image/postgres/postgresql.conf",
        "toolchain/pins.py",
        "Pulumi.yaml",
        "requirements.txt",
    ],
)
def test_the_key_changes_with_what_shapes_a_cluster(clone: Path, name: str) -> None:
    before = cache.key({}, "base")
    (clone / name).write_text("changed")
    assert cache.key({}, "base") != before
    (clone / name).write_text(name)
    assert cache.key({}, "base") == before
    (clone / name).unlink()
    if name not in ("Pulumi.yaml", "requirements.txt"):
        assert cache.key({}, "base") != before


def test_the_key_changes_with_settings_base_tools_and_month(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = cache.key({"sampleData": "true"}, "base")
    others = {
        cache.key({}, "base"),
        cache.key({"sampleData": "false"}, "base"),
        cache.key({"sampleData": "true"}, "another"),
    }
    monkeypatch.setattr("toolchain.pins.pulumi", lambda: "3.1")
    others.add(cache.key({"sampleData": "true"}, "base"))
    assert len(others | {before}) == 5


@pytest.mark.parametrize(
    "name",
    [
        "pandom/host/up.py",
        "pandom/ci/look.py",
        "stacks/Pulumi.dev.yaml",
        "stacks/__pycache__/access.pyc",
        "README.md",
        "tests/a.py",
    ],
)
def test_and_with_nothing_else(clone: Path, name: str) -> None:
    before = cache.key({}, "base")
    (clone / name).write_text("changed")
    assert cache.key({}, "base") == before


def writing(content: bytes) -> Callable[[IO[bytes]], None]:
    def write(sink: IO[bytes]) -> None:
        sink.write(content)

    return write


def kept() -> Path:
    cache.keep(KEY, FORMER, [{"type": "x"}], writing(b"files"))
    return cache.folder() / KEY


def test_what_was_kept_is_found(clone: Path) -> None:
    assert cache.find(KEY) is None
    kept()
    found = cache.find(KEY)
    assert found is not None
    assert found.former == FORMER
    assert found.resources == [{"type": "x"}]
    assert found.cluster.read_bytes() == b"files"
    assert cache.folder().stat().st_mode & 0o077 == 0
    cache.forget(found)
    assert cache.find(KEY) is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda place: (place / "cluster.tar").write_bytes(b"filez"),
        lambda place: (place / "cluster.tar").write_bytes(b""),
        lambda place: (place / "cluster.tar").unlink(),
        lambda place: (place / "state.json").write_text("[]"),
        lambda place: (place / "note.json").write_text("{"),
        lambda place: (place / "note.json").write_text("{}"),
        lambda place: (place / "note.json").write_text("[]"),
        lambda place: place.chmod(0o777),  # anybody could have put it there
    ],
)
def test_what_is_damaged_or_foreign_is_removed(
    clone: Path, damage: Callable[[Path], object], capsys: pytest.CaptureFixture[str]
) -> None:
    assert cache.find(KEY) is None
    place = kept()
    assert cache.find(KEY) is not None
    assert capsys.readouterr().err == ""
    damage(place)
    assert cache.find(KEY) is None
    assert capsys.readouterr().err.startswith("  the prepared cluster in the cache is damaged")
    assert not place.exists()
    kept()
    assert cache.find(KEY) is not None


def test_what_could_not_be_taken_leaves_nothing(clone: Path) -> None:
    def fail(sink: IO[bytes]) -> None:
        sink.write(b"half")
        raise Failure("pg_resetwal ended with 1")

    with pytest.raises(Failure):
        cache.keep(KEY, FORMER, [], fail)
    assert list(cache.folder().iterdir()) == []


def test_what_nobody_used_for_long_is_removed(clone: Path) -> None:
    place, now = kept(), time.time()
    half = cache.folder() / ".new-killed"
    half.mkdir()
    assert cache.forget_old(now) == []
    assert cache.forget_old(now + 3600) == [half.name]
    os.utime(place / "note.json", (now - cache.KEPT_S - 60,) * 2)
    assert cache.find(KEY) is not None  # which is a use
    assert cache.forget_old(now) == []
    os.utime(place / "note.json", (now - cache.KEPT_S - 60,) * 2)
    assert cache.forget_old(now) == [KEY]


# -- what Pulumi knows of it -----------------------------------------------------------------------


def secret(value: str) -> dict[str, str]:
    return {SECRET_MARK: "1b47061264138c4ac30d75fd1eb44270", "plaintext": json.dumps(value)}


def urn(kind: str, name: str) -> str:
    return f"urn:pulumi:{FORMER}::pandom-stack::{kind}::{name}"


def resource(kind: str, name: str, custom: bool = True, **more: Any) -> dict[str, Any]:
    given = {"inputs": {}, "outputs": {}, "stackTrace": [{"sourcePosition": "/home/me"}]}
    return {"urn": urn(kind, name), "type": kind, "custom": custom, "id": name, **given, **more}


def exported(**role: Any) -> dict[str, Any]:
    generated = resource(RANDOM, "pandom-app-password", outputs={"result": secret("s3cret-app")})
    given = {"name": "pandom_app", "login": True, "password": secret("s3cret-app"), **role}
    return {
        "deployment": {
            "resources": [
                resource("pulumi:pulumi:Stack", "x", custom=False, outputs={"db_password": "p"}),
                resource("pandom-stack:index:Access", "access", custom=False),
                generated,
                resource(IMAGE, "postgres-image", outputs={"repoDigest": "sha256:1"}),
                resource("docker:index/container:Container", "postgres-container"),
                resource(VOLUME, "data-volume", inputs={"name": f"pandom-{FORMER}-data"}),
                resource(VOLUME, "keys-postgres-volume"),
                resource(
                    POSTGRESQL_PROVIDER,
                    "cluster",
                    inputs={"port": "5432", "password": secret("s3cret-super")},
                ),
                resource(
                    ROLE,
                    "pandom-app",
                    inputs=given,
                    outputs=given,
                    dependencies=[generated["urn"], urn(VOLUME, "data-volume")],
                    propertyDependencies={"password": [generated["urn"]]},
                    deletedWith=urn(VOLUME, "data-volume"),
                ),
            ]
        }
    }


def test_of_the_state_only_the_server_and_the_images_are_kept_and_no_secret() -> None:
    found = prepared.known(exported())
    assert [one["urn"].rpartition("::")[2] for one in found] == [
        *("x", "access", "postgres-image", "data-volume", "cluster", "pandom-app")
    ]
    text = json.dumps(found)
    assert "s3cret" not in text
    assert SECRET_MARK not in text
    assert "db_password" not in text
    assert "stackTrace" not in text
    role = found[-1]
    assert "password" not in role["inputs"]
    assert role["dependencies"] == [urn(VOLUME, "data-volume")]
    assert role["propertyDependencies"] == {"password": []}
    assert prepared.images(found) == {"postgres": "sha256:1"}


def test_a_secret_that_would_be_kept_is_an_error() -> None:
    with pytest.raises(Failure, match="secret"):
        prepared.known(exported(comment="s3cret-app"))


def test_a_new_stack_begins_with_it_under_its_own_name(tmp_path: Path) -> None:
    now = datetime.now(UTC)
    record = Record(
        id=ID,
        home=tmp_path / ID,
        created=now,
        expires=now,
        owner=Process.of(os.getpid()),
        ready=False,
        clone=tmp_path,
        ports={"postgresPort": 20_001, "minioPort": 20_002},
    )
    given = prepared.labels(record)
    begun = prepared.state(prepared.known(exported()), FORMER, record, given)
    text = json.dumps(begun)
    assert FORMER not in text
    by_name = {one["urn"].rpartition("::")[2]: one for one in begun}
    provider = by_name["cluster"]["inputs"]
    assert provider["port"] == "20001"
    assert provider["sslrootcert"] == str(record.state_home / ID / "ca.crt")
    volume = by_name["data-volume"]["inputs"]
    assert volume["name"] == f"pandom-{ID}-data"
    labels = {one["label"]: one["value"] for one in volume["labels"]}
    assert labels == given
    assert labels[LABEL_STACK] == ID
    assert prepared.labels(record)[LABEL_IDENTITY] != labels[LABEL_IDENTITY]


def test_no_stacks_file_shapes_a_cluster_also_while_it_is_written() -> None:
    names = ("Pulumi.dev.yaml", ".Pulumi.dev.yaml.x1y2z3", "network.py", ".hidden.py")
    own = [name for name in names if paths.is_stack_file(paths.ROOT / "stacks" / name)]
    assert own == ["Pulumi.dev.yaml", ".Pulumi.dev.yaml.x1y2z3"]
    assert not paths.is_stack_file(paths.ROOT / "Pulumi.yaml")

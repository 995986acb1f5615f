"""The stand-in's view of containers and build contexts, without an engine."""

from __future__ import annotations

import io
import os
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from toolchain.standins.docker_provider import context, durations, image
from toolchain.standins.docker_provider.container import Container
from toolchain.standins.docker_provider.container_description import (
    description,
    packed,
    volume_mounts,
)
from toolchain.standins.docker_provider.container_observed import seen_ports
from toolchain.standins.docker_provider.container_properties import same_ports
from toolchain.standins.docker_provider.engine import Engine
from toolchain.standins.interruption import Interruption, OperationFailed
from toolchain.standins.properties import check, plan


def planned(**given: Any) -> dict[str, Any]:
    inputs, mistakes = check(Container.table, {"name": "c", "image": "i", **given}, "Container")
    assert not mistakes
    return plan(Container.table, inputs)


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "0s"),
        (1_500_000, "1.5ms"),
        (1_000_000_000, "1s"),
        (60_000_000_000, "1m0s"),
        (90_500_000_000, "1m30.5s"),
        (3_600_000_000_000, "1h0m0s"),
    ],
)
def test_durations_are_written_as_go_does(nanoseconds: int, text: str) -> None:
    assert durations.text(nanoseconds) == text
    assert durations.nanoseconds(text) == nanoseconds


def test_a_container_is_described_to_the_engine() -> None:
    described = description(
        planned(
            command=["sleep", "1"],
            memory=64,
            memorySwap=-1,
            capabilities={"drops": ["ALL"]},
            ports=[{"internal": 80, "external": 8080, "ip": "127.0.0.1"}],
            volumes=[{"volumeName": "v", "containerPath": "/v", "readOnly": True}],
            healthcheck={"tests": ["CMD", "true"], "interval": "1m0s"},
            labels=[{"label": "a", "value": "b"}],
            ulimits=[{"name": "nproc", "soft": 1, "hard": 2}],
        )
    )
    host = described["HostConfig"]
    assert described["Cmd"] == ["sleep", "1"]
    assert described["Labels"] == {"a": "b"}
    assert described["Healthcheck"]["Interval"] == 60_000_000_000
    assert described["ExposedPorts"] == {"80/tcp": {}}
    assert host["PortBindings"] == {"80/tcp": [{"HostIp": "127.0.0.1", "HostPort": "8080"}]}
    assert host["Binds"] == ["v:/v:ro"]
    assert (host["Memory"], host["MemorySwap"]) == (64 * 1024 * 1024, -1)
    assert (host["CapAdd"], host["CapDrop"]) == (None, ["ALL"])
    assert host["Ulimits"] == [{"Name": "nproc", "Soft": 1, "Hard": 2}]
    assert host["NetworkMode"] == "bridge"


def test_an_empty_word_in_a_command_is_refused() -> None:
    with pytest.raises(OperationFailed, match="may not be empty"):
        description(planned(command=[""]))


def test_an_upload_belongs_to_root_with_the_given_mode() -> None:
    state = planned(uploads=[{"file": "/etc/key", "content": "text", "permissions": "0400"}])
    with tarfile.open(fileobj=io.BytesIO(packed(state["uploads"][0]))) as archive:
        entry = archive.getmember("etc/key")
        content = archive.extractfile(entry)
        assert content is not None
        assert (entry.mode, entry.uid, content.read()) == (0o400, 0, b"text")


@pytest.mark.parametrize("more", [{}, {"content": "a", "contentBase64": "YQ=="}])
def test_an_upload_needs_exactly_one_content(more: dict[str, str]) -> None:
    state = planned(uploads=[{"file": "/x", **more}])
    with pytest.raises(OperationFailed, match="/x: exactly one of"):
        packed(state["uploads"][0])


def test_a_volume_needs_one_place() -> None:
    empty = {"containerPath": "", "fromContainer": "", "hostPath": "", "volumeName": "v"}
    with pytest.raises(OperationFailed, match="found neither"):
        volume_mounts([empty])


def test_ports_in_another_order_are_the_same() -> None:
    one = {"internal": 1, "external": 2, "ip": "127.0.0.1", "protocol": "tcp"}
    two = {**one, "internal": 3}
    assert same_ports([one, two], [two, one])
    assert not same_ports([one], [{**one, "external": 4}])
    assert not same_ports([one], [one, two])
    found = seen_ports({"3/tcp": [{"HostIp": "127.0.0.1", "HostPort": "2"}], "4/tcp": None})
    assert found == [two]


def test_a_mount_that_changes_does_not_replace() -> None:
    # The official schema says so; the program must ask for the replacement.
    kind = Container(Engine(), Interruption())
    before = planned(mounts=[{"type": "tmpfs", "target": "/a"}])
    after, _ = check(
        Container.table,
        {"name": "c", "image": "i", "mounts": [{"type": "tmpfs", "target": "/b"}]},
        "Container",
    )
    before.update(command=[], entrypoints=[])
    changes = kind.diff(before, after, frozenset())
    assert [(change.top, change.replaces) for change in changes] == [("mounts", False)]


# --- build contexts ---------------------------------------------------------------


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in ("Dockerfile", "a.txt", "keep/b.txt", "keep/deep/c.md", "drop/d.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
        path.chmod(0o644)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("lines", "out", "stays"),
    [
        (["*", "!keep"], ["a.txt", "drop/d.txt"], ["keep", "keep/deep/c.md"]),
        (["**/*.md"], ["keep/deep/c.md", "x.md"], ["a.txt"]),
        (["drop/"], ["drop", "drop/d.txt"], ["a.txt"]),
        (["/a.txt", "# drop"], ["a.txt"], ["drop/d.txt"]),
        (["*.tx?"], ["a.txt"], ["keep/b.txt"]),
        (["keep", "!keep/deep", "keep/deep/*.md"], ["keep/b.txt", "keep/deep/c.md"], ["keep/deep"]),
        (["**"], ["a.txt", "keep/b.txt"], []),
    ],
)
def test_the_last_pattern_that_matches_decides(
    lines: list[str], out: list[str], stays: list[str]
) -> None:
    ignore = context.Ignore(lines)
    assert [path for path in out if not ignore.leaves_out(path)] == []
    assert [path for path in stays if ignore.leaves_out(path)] == []


@pytest.mark.parametrize(
    ("pattern", "looked_into", "passed_by"),
    [
        ("!a/b/c", ["a", "a/b"], ["a/c", "b"]),
        ("!a/b*/c", ["a", "a/bb", "a/bb/d"], ["a/c", "b"]),
        ("!**/c", ["a", "a/b"], []),
    ],
)
def test_a_folder_is_only_read_if_something_in_it_may_stay(
    pattern: str, looked_into: list[str], passed_by: list[str]
) -> None:
    # Without this, every run would read .git and the virtual environment.
    ignore = context.Ignore(["*", pattern])
    assert [folder for folder in looked_into if not ignore.may_keep_inside(folder)] == []
    assert [folder for folder in passed_by if ignore.may_keep_inside(folder)] == []


def test_only_what_is_let_through_counts(folder: Path) -> None:
    (folder / ".dockerignore").write_text("*\n!keep\n")
    before = context.digest(Path(), Path("Dockerfile"))
    (folder / "drop" / "d.txt").write_text("changed")
    assert context.digest(Path(), Path("Dockerfile")) == before
    (folder / "keep" / "b.txt").write_text("changed")
    assert context.digest(Path(), Path("Dockerfile")) != before


@pytest.mark.parametrize("change", ["mode", "name", "Dockerfile"])
def test_mode_name_and_dockerfile_count(folder: Path, change: str) -> None:
    before = context.digest(Path(), Path("Dockerfile"))
    if change == "mode":
        (folder / "a.txt").chmod(0o755)
    elif change == "name":
        (folder / "a.txt").rename(folder / "e.txt")
    else:
        (folder / "Dockerfile").write_text("from scratch")
    assert context.digest(Path(), Path("Dockerfile")) != before


def test_the_digest_is_the_official_plugins(folder: Path) -> None:
    # Taken from the official plugin for the same folder, so that no image is built again
    # when a stack changes plugins.
    ctx = folder / "ctx"
    shutil.copytree(folder, ctx, ignore=shutil.ignore_patterns("ctx"))
    (ctx / "link").symlink_to("a.txt")
    (ctx / ".dockerignore").write_text("*\n!keep\n!link\n")
    assert context.digest(Path("ctx"), Path("ctx/Dockerfile")) == (
        "21d8e8e49b25a624911b6025bec89c904291b4a7e51646a36e0974f5004d4081"
    )


def test_a_dockerfiles_own_ignore_file_wins(folder: Path) -> None:
    (folder / ".dockerignore").write_text("*\n")
    (folder / "Dockerfile.dockerignore").write_text("drop\n")
    file, name = context.archive(Path(), Path("Dockerfile"))
    with file, tarfile.open(fileobj=file) as archive:
        names = set(archive.getnames())
        assert {entry.uid for entry in archive} == {0}
    assert name == "Dockerfile"
    assert {"Dockerfile", "a.txt", "keep/b.txt", ".dockerignore"} <= names
    assert not any(name.startswith("drop") for name in names)


def test_a_dockerfile_outside_is_refused(folder: Path) -> None:
    with pytest.raises(OSError, match="not inside the build context"):
        context.archive(Path("keep"), Path("Dockerfile"))
    assert os.getcwd() == str(folder)  # noqa: PTH109


def test_the_engines_answer_may_come_in_pieces() -> None:
    chunks = [b'{"stream":"one"}\r\n{"str', b'eam":"two"}', b'{"aux":{"ID":"x"}}']
    assert list(image.messages(iter(chunks))) == [
        {"stream": "one"},
        {"stream": "two"},
        {"aux": {"ID": "x"}},
    ]

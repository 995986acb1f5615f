"""The wheel: what is in it, what works of it without anything else, and where its program runs."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

import pandom
from pandom.host import stack as files
from pandom.host.stack import Stack
from pandom.runtime import paths, wheel
from pandom.runtime.errors import UsageError
from tests.fixtures.wheel import build
from toolchain import docker_daemon, prerequisites

# Of the repository, but of no use to the program.
DEVELOPED = (".", "tests/", "examples/", "docs/images/", "Makefile", "README", "CONTRIBUTING")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def installed(built: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel alone, without what it needs."""
    place = tmp_path_factory.mktemp("installed")
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(place)]
    subprocess.run([*pip, built], check=True)
    return place


def run(installed: Path, *arguments: str, home: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", "-m", "pandom", *arguments],  # -S: no package but the wheel's
        cwd=installed,
        env={"HOME": str(home), "PATH": "/nowhere"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_everything_of_the_program_is_in_it(built: Path) -> None:
    git = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(
        git, cwd=paths.ROOT, capture_output=True, text=True, check=True
    ).stdout.split("\0")
    wanted = {
        name if name.startswith("pandom/") else f"pandom/program/{name}"
        for name in filter(None, listed)
        if name == ".dockerignore" or not name.startswith((*DEVELOPED, "CHANGELOG"))
    }
    with zipfile.ZipFile(built) as opened:
        names = set(opened.namelist())
        modes = {one.filename: one.external_attr >> 16 & 0o777 for one in opened.infolist()}
        metadata = next(name for name in names if name.endswith("/METADATA"))
        said = opened.read(metadata).decode()
    assert {name for name in names if ".dist-info/" not in name} == wanted
    assert modes["pandom/program/app_image/postgres/pandom-postgres"] == 0o755
    assert f"Version: {pandom.__version__}" in said
    # The pins are those of the program's own environment, and bind nobody else.
    assert [line for line in said.splitlines() if line.startswith("Requires-Dist")] == [
        "Requires-Dist: psycopg[binary]~=3.0"
    ]


def test_it_needs_nothing_to_say_what_it_can(installed: Path, tmp_path: Path) -> None:
    assert run(installed, "--version", home=tmp_path).stdout == f"pandom {pandom.__version__}\n"
    assert "destroy" in run(installed, "ci", "--help", home=tmp_path).stdout
    done = run(installed, "ci", "create", "--nonsense", home=tmp_path)
    assert (done.returncode, list(tmp_path.iterdir())) == (2, [])


@pytest.mark.parametrize(
    "command", ["docs", "audit record", "migrate freeze", "migrate generate x"]
)
def test_a_command_that_edits_the_program_is_refused(
    installed: Path, tmp_path: Path, command: str
) -> None:
    done = run(installed, *command.split(), home=tmp_path)
    assert done.returncode == 2
    assert "installed from a wheel" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A wheel's copy of the program, small, of which this process is told that it is it."""
    root = tmp_path / "copy"
    (root / "stacks" / "templates").mkdir(parents=True)
    (root / "stacks" / "templates" / "ci.yaml").write_text("config:\n")
    (root / "app_image" / "artifacts").mkdir(parents=True)
    (root / "app_image" / "artifacts" / "minio").write_text("a binary")
    (root / "__main__.py").write_text("first")
    (root / ".venv").symlink_to(sys.prefix)
    (root / paths.MARK).write_text("first")
    monkeypatch.setattr(paths, "ROOT", root)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return root


def test_each_stack_has_a_copy_of_its_own_and_keeps_its_settings(copy: Path) -> None:
    one = Stack("ci-00000001")
    files.prepare_file(one, "ephemeral")
    place = paths.work_folder(one.name)
    assert place.is_relative_to(one.home)
    assert one.file == place / "stacks" / "Pulumi.ci-00000001.yaml"
    assert (place / ".venv").readlink() == Path(sys.prefix)
    assert (place / "app_image" / "artifacts" / "minio").samefile(
        copy / "app_image" / "artifacts" / "minio"
    )
    one.file.write_text("config: {}  # mine\n")
    # The same wheel leaves it; another one replaces all but the settings.
    (place / "__main__.py").write_text("edited")
    files.prepare_folder(one)
    assert (place / "__main__.py").read_text() == "edited"
    (copy / "__main__.py").write_text("second")
    (copy / paths.MARK).write_text("second")
    (place / "gone.py").touch()
    files.prepare_folder(one)
    assert (place / "__main__.py").read_text() == "second"
    assert not (place / "gone.py").exists()
    assert one.file.read_text() == "config: {}  # mine\n"
    files.forget(one)
    assert not one.home.exists()
    assert not list((copy / "stacks").glob("Pulumi.*"))


def test_advice_is_right_where_there_is_no_clone(copy: Path) -> None:
    said = (
        "`.venv/bin/pandom ci list`, `make tools`, `make shell STACK=dev`, stacks/Pulumi.dev.yaml"
    )
    settings = paths.state_home() / "dev" / "program" / "stacks" / "Pulumi.dev.yaml"
    expected = f"`pandom ci list`, `pandom tools`, `pandom shell --stack dev`, {settings}"
    assert wheel.advice(said) == expected
    (copy / paths.MARK).unlink()
    assert wheel.advice(said) == said


def test_a_wheel_does_not_change_the_system(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_daemon, "serving", lambda: None)
    monkeypatch.setattr(docker_daemon, "refusal", lambda: "No Docker engine runs.")
    with pytest.raises(UsageError, match="No Docker engine"):
        prerequisites.changes()
    with pytest.raises(UsageError, match=r"apt-get install docker\.io\n.*nothing was changed"):
        prerequisites.consent(prerequisites.question(["docker.io"], start=False))
    (copy / paths.MARK).unlink()
    prerequisites.consent(prerequisites.question(["docker.io"], start=False))


@pytest.mark.parametrize("home", [paths.state_home, paths.cache_home])
def test_a_wheel_older_than_the_cache_or_the_state_is_refused(
    copy: Path, home: Callable[[], Path]
) -> None:
    paths.refuse_newer_homes()  # nothing is there yet
    paths.mark_homes()
    paths.refuse_newer_homes()
    (home() / "format").write_text(f"{paths.FORMAT + 1} 9.1.0\n")
    paths.mark_homes()  # which does not make it older
    with pytest.raises(UsageError, match=r"made by pandom-stack 9\.1\.0; this is .* older"):
        paths.refuse_newer_homes()


def test_a_copy_that_nobody_used_for_long_goes(tmp_path: Path) -> None:
    for name, age in (("old", 15), ("new", 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / paths.MARK).touch()
        then = time.time() - age * 86_400
        os.utime(tmp_path / name / paths.MARK, (then, then))
    wheel._forget_old(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["new"]

"""Which tool is chosen, in which order, and what is said when there is none. No network."""

from __future__ import annotations

import io
import json
import os
import pty
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pandom.runtime import paths
from toolchain import (
    cache,
    clean,
    environment,
    golang,
    minio,
    network,
    pins,
    plugins,
    prerequisites,
    process,
    search,
    venv,
)
from toolchain import docker_daemon as docker
from toolchain import pulumi_cli as pulumi
from toolchain.errors import ToolMissing
from toolchain.report import Step


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty machine: no cache, no installed plugin, nothing on PATH but ``bin``."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("PULUMI_HOME", str(tmp_path / "pulumi-home"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path


def program(path: Path, prints: str = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\necho '{prints}'\n")
    path.chmod(0o755)
    return path


def official(machine: Path, name: str, version: str) -> Path:
    """A provider on PATH whose schema says ``version``, and a CLI that asks it."""
    cli = cached(pulumi._built(), "pulumi") / "pulumi"
    cli.write_text('#!/bin/sh\n[ "$1" = package ] && exec "$3"\n')
    text = json.dumps({"name": name, "version": version})
    return program(machine / "bin" / f"pulumi-resource-{name}", text)


def cached(folder: Path, *programs: str) -> Path:
    for name in programs:
        program(folder / name)
    (folder / ".complete").touch()
    return folder


# -- versions --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("v3.259.0", (3, 259, 0)),
        ("go version go1.25.11 linux/amd64", (1, 25, 11)),
        ("20.10.24+dfsg1", (20, 10, 24)),
        ("3.260.0-alpha.1", (3, 260, 0)),
        ("no version here", None),
        ("", None),
    ],
)
def test_version_is_read_from_what_programs_print(text: str, expected: pins.Version | None) -> None:
    assert pins.version(text) == expected


@pytest.mark.parametrize(
    ("found", "serves"),
    [
        ((3, 259, 0), True),
        ((3, 1000, 0), True),
        ((3, 258, 9), False),
        ((4, 0, 0), False),
        ((2, 999, 0), False),
        (None, False),
    ],
)
def test_a_cli_serves_if_it_is_newer_within_its_major(
    found: pins.Version | None, serves: bool
) -> None:
    assert pins.satisfies(found, "3.259.0") is serves


def test_pins_are_read_from_requirements() -> None:
    assert pins.pinned("pulumi", "pulumi-docker==9.9.9\npulumi==3.1.0  # why\n") == "3.1.0"
    with pytest.raises(LookupError, match="pins no nothing"):
        pins.pinned("nothing", "pulumi==3.1.0")


def test_the_go_version_is_the_one_of_the_cli_module() -> None:
    assert f"\ngo {pins.format_version(pins.GO)}\n" in (pulumi.MODULE / "go.mod").read_text()


def test_the_cli_module_builds_the_pinned_version() -> None:
    wanted = f"\nrequire github.com/pulumi/pulumi/pkg/v3 v{pins.pulumi()}\n"
    assert wanted in (pulumi.MODULE / "go.mod").read_text()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("minio version RELEASE.2025-10-15T17-29-55Z (commit-id=9e49)", "2025-10-15T17-29-55Z"),
        ("minio version DEVELOPMENT.GOGET (commit-id=DEVELOPMENT.GOGET)", None),
    ],
)
def test_a_minio_release_is_read(text: str, expected: str | None) -> None:
    assert minio.release(text) == expected


# -- the order of sources --------------------------------------------------------


def test_cli_comes_from_path_then_download_then_build(machine: Path) -> None:
    assert pulumi.find() is None

    built = cached(pulumi._built(), "pulumi")
    assert pulumi.find() == (built / "pulumi", "built with Go")

    official = cached(pulumi._official(), "pulumi")
    assert pulumi.find() == (official / "pulumi", "official download")

    old = program(machine / "bin" / "pulumi", "v3.1.0")
    assert pulumi.find() == (official / "pulumi", "official download")

    program(old, f"v{pins.pulumi()}-newer")
    assert pulumi.find() == (old, "PATH")


def test_an_unfinished_build_is_not_found(machine: Path) -> None:
    del machine
    program(pulumi._built() / "pulumi")
    assert pulumi.find() is None


def test_stand_ins_and_our_cache_on_path_are_not_taken_for_installed(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    standins = machine / "other-clone" / "toolchain" / "standins" / "bin"
    ours = machine / "cache" / "pandom-stack" / "links" / "x"
    for folder in (standins, ours):
        program(folder / "pulumi-resource-docker")
    monkeypatch.setenv("PATH", f"{ours}:{standins}:{machine / 'bin'}")
    assert search.on_path("pulumi-resource-docker") is None

    theirs = program(machine / "bin" / "pulumi-resource-docker")
    assert search.on_path("pulumi-resource-docker") == theirs


def test_a_version_is_asked_once_and_again_when_the_file_changes(machine: Path) -> None:
    counted = machine / "calls"
    tool = program(machine / "bin" / "tool", "1.2")
    tool.write_text(f"#!/bin/sh\necho called >> {counted}\necho 1.2\n")
    assert search.version(tool) == search.version(tool) == (1, 2)
    assert counted.read_text().count("called") == 1

    program(tool, "1.3.0")
    assert search.version(tool) == (1, 3, 0)


def test_a_provider_is_official_only_in_the_pinned_version(machine: Path) -> None:
    name = "pulumi-resource-docker"
    chosen = plugins.provider("docker", "5.1.0")
    assert (chosen.origin, chosen.standin, chosen.linked) == ("stand-in", True, True)

    installed = program(machine / "pulumi-home" / "plugins" / "resource-docker-v5.1.0" / name)
    chosen = plugins.provider("docker", "5.1.0")
    assert (chosen.path, chosen.standin, chosen.linked) == (installed, False, False)

    # What Pulumi has begun to unpack it does not use, nor what cannot be run.
    begun = installed.parent.with_name(f"{installed.parent.name}.partial")
    begun.touch()
    assert plugins.provider("docker", "5.1.0").standin
    begun.unlink()
    installed.chmod(0o644)
    assert plugins.provider("docker", "5.1.0").standin
    installed.chmod(0o755)

    # Pulumi takes any version that is on PATH, so the right one must come before it.
    official(machine, "docker", "5.2.0")
    chosen = plugins.provider("docker", "5.1.0")
    assert (chosen.path, chosen.linked) == (installed, True)

    on_path = official(machine, "docker", "5.1.0")
    chosen = plugins.provider("docker", "5.1.0")
    assert (chosen.path, chosen.origin, chosen.linked) == (on_path, "PATH", False)


def test_the_host_beside_the_cli_is_taken_before_one_on_path(machine: Path) -> None:
    assert plugins.language_host().standin

    elsewhere = program(machine / "bin" / pulumi.HOST)
    assert plugins.language_host().path == elsewhere

    official = cached(pulumi._official(), "pulumi", pulumi.HOST, pulumi.EXEC)
    assert plugins.language_host().path == official / pulumi.HOST
    assert pulumi.find_exec() == official / pulumi.EXEC


def test_links_hold_just_what_pulumi_would_not_find(machine: Path) -> None:
    official(machine, "docker", "5.1.0")
    cli = pulumi._built() / "pulumi"
    chosen = (plugins.provider("docker", "5.1.0"), plugins.provider("random", "4.21.4"))
    folder = plugins.links(cli, chosen)
    assert {link.name: link.readlink() for link in folder.iterdir()} == {
        "pulumi": cli,
        "pulumi-resource-random": plugins.STANDINS / "pulumi-resource-random",
    }
    assert plugins.links(cli, chosen) == folder
    assert plugins.links(cli, chosen[:1]) != folder


# -- the environment -------------------------------------------------------------


def test_each_missing_tool_is_named_with_the_next_step(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venv, "LINK", machine / ".venv")
    with pytest.raises(ToolMissing, match=r"no Pulumi CLI .*\nRun `make tools`"):
        environment.find()

    cached(pulumi._built(), "pulumi")
    with pytest.raises(ToolMissing, match=r"no Python environment .*\nRun `make tools`"):
        environment.find()

    program(machine / ".venv" / "bin" / "pandom")
    with pytest.raises(ToolMissing, match=r"no pulumi-language-python-exec.\nRun `make tools`"):
        environment.find()

    program(machine / "bin" / pulumi.EXEC)
    found = environment.find()
    assert found.standins
    assert found.variables["PULUMI_BACKEND_URL"] == paths.backend().as_uri()
    assert found.variables["PULUMI_CONFIG_PASSPHRASE_FILE"] == str(paths.passphrase_file())
    assert [origin.name for origin in found.origins] == [
        "pulumi",
        "language host",
        *pins.plugins(),
    ]


def test_the_environment_found_inside_itself_is_the_same(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venv, "LINK", machine / ".venv")
    cached(pulumi._official(), "pulumi", pulumi.HOST, pulumi.EXEC)
    program(machine / ".venv" / "bin" / "pandom")
    outer = environment.find()
    monkeypatch.setenv("PATH", outer.variables["PATH"])
    assert environment.find() == outer


def test_no_stand_in_is_used_when_all_is_official(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(venv, "LINK", machine / ".venv")
    program(machine / ".venv" / "bin" / "pandom")
    for name, version in pins.plugins().items():
        official(machine, name, version)
    for name in (pulumi.HOST, pulumi.EXEC):
        program(machine / "bin" / name)
    theirs = program(machine / "bin" / "pulumi")
    theirs.write_text(f'#!/bin/sh\n[ "$1" = version ] && echo v{pins.pulumi()} || exec "$3"\n')
    found = environment.find()
    assert not found.standins
    assert {origin.origin for origin in found.origins} == {"PATH"}


def test_exports_can_be_read_by_a_shell(machine: Path) -> None:
    odd = {"PATH": f"{machine}/a b:/usr/bin", "NAME": "it's $HOME"}
    lines = environment.Environment(odd, (), standins=False).exports()
    shown = subprocess.run(
        ["/bin/sh", "-c", f'{lines}\nprintf "%s|%s" "$PATH" "$NAME"'],
        env={"PATH": "/users/own"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert shown.stdout == f"{machine}/a b:/users/own|it's $HOME"


def test_the_launcher_finds_the_clone_whose_path_was_typed(tmp_path: Path) -> None:
    shared = tmp_path / "shared"
    program(shared / "bin" / "pandom").write_text(venv.LAUNCHER)
    fake = shared / "bin" / "python"
    fake.write_text('#!/bin/sh\nshift 5; echo "$*"\n')
    fake.chmod(0o755)
    for clone in ("one", "two"):
        (tmp_path / clone).mkdir()
        (tmp_path / clone / ".venv").symlink_to(shared)
    (tmp_path / "short").symlink_to("one/.venv/bin/pandom")

    def typed(command: str, cwd: Path) -> tuple[int, str]:
        done = subprocess.run(
            ["/bin/sh", "-c", command], cwd=cwd, capture_output=True, text=True, check=False
        )
        return done.returncode, done.stdout.strip()

    expected = "up x"
    assert typed(".venv/bin/pandom up x", tmp_path / "one") == (0, f"{tmp_path}/one {expected}")
    two = f"{tmp_path}/two/.venv/bin/pandom up x"
    assert typed(two, tmp_path / "one") == (0, f"{tmp_path}/two {expected}")
    assert typed(f"{tmp_path}/short up x", tmp_path) == (0, f"{tmp_path}/one {expected}")
    assert typed(f"{shared}/bin/pandom up x", tmp_path)[0] == 2


# -- the cache -------------------------------------------------------------------


def test_what_a_killed_run_left_is_thrown_away_and_made_again(machine: Path) -> None:
    path = machine / "cache" / "entry"
    path.mkdir(parents=True)
    (path / "half").touch()
    calls: list[Path] = []

    def make(folder: Path, lock: int) -> None:
        assert lock >= 0
        calls.append(folder)
        (folder / "whole").touch()

    assert cache.entry(path, "it", make)
    assert sorted(each.name for each in path.iterdir()) == [".complete", "whole"]
    assert not cache.entry(path, "it", make)
    assert calls == [path]


def test_a_failed_entry_is_not_complete(machine: Path) -> None:
    def make(folder: Path, lock: int) -> None:
        del lock
        (folder / "half").touch()
        raise ToolMissing("no")

    with pytest.raises(ToolMissing):
        cache.entry(machine / "entry", "it", make)
    assert not cache.complete(machine / "entry")


def test_a_second_run_waits_for_the_first(
    machine: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made: list[str] = []
    started = threading.Event()

    def slow(folder: Path, lock: int) -> None:
        del folder, lock
        started.set()
        time.sleep(0.5)
        made.append("first")

    def never(folder: Path, lock: int) -> None:
        del folder, lock
        made.append("second")

    first = threading.Thread(target=cache.entry, args=(machine / "entry", "it", slow))
    first.start()
    started.wait(5)
    assert not cache.entry(machine / "entry", "it", never)
    first.join()
    assert made == ["first"]
    assert "another run, or what is left of a killed one" in capsys.readouterr().err


def test_a_lock_outlives_its_holder_while_a_child_goes_on(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cache, "LOCK_LIMIT_S", 0.1)
    path = machine / "lock"
    with cache.locked(path, "it") as lock:
        child = subprocess.Popen(["/bin/sleep", "30"], pass_fds=(lock,))
    try:
        with pytest.raises(ToolMissing, match="another run has held"), cache.locked(path, "it"):
            pass
    finally:
        child.kill()
        child.wait()
    with cache.locked(path, "it"):
        pass


def test_placing_links_the_file_and_replaces_an_older_one(tmp_path: Path) -> None:
    source = program(tmp_path / "cache" / "minio", "new")
    target = program(tmp_path / "clone" / "minio", "older")
    cache.place(source, target)
    assert target.samefile(source)
    cache.place(source, target)
    assert [each.name for each in target.parent.iterdir()] == ["minio"]


# -- messages and system changes -------------------------------------------------


def test_all_that_is_missing_is_said_at_once_with_one_apt_line() -> None:
    text = prerequisites.message([("git: not on PATH", "git"), ("Go: too old", None), ("x", "y")])
    assert text.splitlines() == [
        "This machine lacks:",
        "  - git: not on PATH",
        "  - Go: too old",
        "  - x",
        "Install with:",
        "  apt-get install git y",
        "Then run the same command again.",
    ]


def test_an_empty_machine_lacks_git_make_and_go(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(network, "_probe", lambda url: "closed")
    with pytest.raises(ToolMissing) as caught:
        prerequisites.check()
    for expected in (
        "- git:",
        "- make:",
        f"- Go {pins.format_version(pins.GO)}",
        "the Pulumi CLI, MinIO",
    ):
        assert expected in str(caught.value)

    program(machine / "bin" / "git")
    program(machine / "bin" / "make")
    program(machine / "bin" / "go", "go version go1.19.8 linux/amd64")
    with pytest.raises(ToolMissing, match=r"Go 1\.25\.11, or 1\.21 which fetches it"):
        prerequisites.check()

    program(machine / "bin" / "go", "go version go1.24.4 linux/amd64")
    prerequisites.check()


def test_an_older_go_is_told_to_fetch_the_wanted_one(machine: Path) -> None:
    go = program(machine / "bin" / "go", "go version go1.24.4 linux/amd64")
    found = golang.compiler()
    assert found
    assert found.variables["GOTOOLCHAIN"] == "go1.25.11"

    program(go, "go version go1.26.8 linux/amd64")
    found = golang.compiler()
    assert found
    assert "GOTOOLCHAIN" not in found.variables


@pytest.mark.parametrize(
    ("policy", "package"),
    [("Candidate: 2:1.24~2", "golang-go"), ("Candidate: 2:1.19~1", None), ("", None)],
)
def test_debians_go_is_named_only_if_it_will_do(
    machine: Path, policy: str, package: str | None
) -> None:
    program(machine / "bin" / "apt-cache", f"golang-go: {policy}")
    assert golang.debian_package() == package


def test_go_is_not_asked_for_when_nothing_is_built(machine: Path) -> None:
    cached(pulumi._built(), "pulumi")
    cached(minio._built(), "minio")
    program(machine / "bin" / pulumi.EXEC)
    assert prerequisites.go_needed() is None


def test_system_changes_are_listed() -> None:
    text = prerequisites.question(["docker.io", "iptables"], start=True)
    assert "apt-get install docker.io iptables" in text
    assert "start a Docker engine" in text
    assert "apt-get" not in prerequisites.question([], start=True)


@pytest.mark.parametrize(("answer", "agreed"), [("y\n", True), ("\n", False), ("no\n", False)])
def test_system_changes_are_asked_for_on_a_terminal(
    monkeypatch: pytest.MonkeyPatch, answer: str, agreed: bool
) -> None:
    ours, theirs = pty.openpty()
    os.write(ours, answer.encode())
    with os.fdopen(theirs, "r+b", buffering=0) as terminal:
        monkeypatch.delenv("YES", raising=False)
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(terminal))
        monkeypatch.setattr(sys, "stderr", io.TextIOWrapper(terminal, write_through=True))
        if agreed:
            prerequisites.consent("changes")
        else:
            with pytest.raises(ToolMissing, match="Nothing was changed"):
                prerequisites.consent("changes")
        monkeypatch.setenv("YES", "1")
        prerequisites.consent("changes")
    os.close(ours)


def test_without_a_terminal_nobody_is_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("YES", raising=False)
    monkeypatch.setattr(sys, "stdin", io.StringIO("n\n"))
    prerequisites.consent("these changes")
    assert capsys.readouterr().err == "these changes\n"


def test_only_our_own_untagged_images_are_cleaned(machine: Path) -> None:
    docker_client = program(machine / "bin" / "docker")
    docker_client.write_text(
        "#!/bin/sh\n"
        'case "$2" in\n'
        "ls) echo aaa bbb ccc ;;\n"
        "inspect) echo 'aaa /usr/local/bin/pandom'; echo 'bbb /usr/bin/other'; echo 'ccc ' ;;\n"
        "esac\n"
    )
    assert clean._superseded() == ["aaa"]


def test_an_engine_that_the_user_named_is_not_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    assert docker.serving() is None
    reason = docker.refusal()
    assert reason
    assert "answers at tcp://127.0.0.1:1 (DOCKER_HOST): Connection refused" in reason


def test_only_root_can_start_an_engine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("DOCKER_HOST", raising=False)
    monkeypatch.setattr(docker, "SOCKET", tmp_path / "docker.sock")
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    reason = docker.refusal()
    assert reason
    assert "only root" in reason
    assert "sudo" in reason
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    assert docker.refusal() is None


@pytest.mark.parametrize("content", ["1\n", "999999999\n", "no number"])
def test_a_pid_file_of_another_program_is_stale(tmp_path: Path, content: str) -> None:
    pid_file = tmp_path / "docker.pid"
    pid_file.write_text(content)
    docker._remove_stale(pid_file)
    assert not pid_file.exists()


def test_a_failing_program_is_told_with_the_end_of_its_output(machine: Path) -> None:
    with pytest.raises(ToolMissing) as caught:
        process.run("The thing", ["/bin/sh", "-c", "/usr/bin/seq 100; exit 3"], hint="Try again.")
    text = str(caught.value)
    assert "The thing failed (exit code 3)" in text
    assert "    100\n" in text
    assert "    50\n" not in text
    assert text.endswith("Try again.")
    assert str(machine / "cache") in text

    with pytest.raises(ToolMissing, match="no end after 0 s"):
        process.run("The thing", ["/bin/sleep", "9"], hint="", limit_s=0.1)
    with pytest.raises(ToolMissing, match="cannot be run"):
        process.run("The thing", [machine / "absent"], hint="")


# -- downloads -------------------------------------------------------------------


def test_a_refusal_is_remembered_until_it_is_forgotten(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del machine
    asked: list[str] = []
    answer = "closed"

    def probe(url: str) -> str:
        asked.append(url)
        return answer

    monkeypatch.setattr(network, "_probe", probe)
    monkeypatch.setattr(network, "_answering", set())
    assert not network.allowed("https://one.invalid")
    assert not network.allowed("https://two.invalid")
    assert asked == ["https://one.invalid"]
    assert network.refused() == "https://one.invalid: closed"

    network.forget_refusal()
    answer = ""
    assert network.allowed("https://one.invalid")
    assert network.allowed("https://one.invalid")
    assert len(asked) == 2


def test_a_network_that_never_answers_costs_a_few_seconds_only(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del machine
    monkeypatch.setattr(network, "PROBE_S", 0.1)

    def silent(url: str) -> str:
        time.sleep(5)
        return url

    monkeypatch.setattr(network, "_probe", silent)
    started = time.monotonic()
    assert not network.allowed("https://silent.invalid")
    assert time.monotonic() - started < 2


def test_a_changed_download_is_refused(tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_text("not what was released")
    target = tmp_path / "target"
    with pytest.raises(ToolMissing, match="is not the expected file"):
        network.download(source.as_uri(), target, sha256="0" * 64)
    assert not target.exists()


def test_the_checksum_is_the_named_files() -> None:
    listing = f"{'a' * 64}  pulumi-v1-linux-x64.tar.gz\n{'b' * 64}  pulumi-v1-linux-arm64.tar.gz\n"
    assert pulumi.checksum(listing, "pulumi-v1-linux-arm64.tar.gz") == "b" * 64
    assert pulumi.checksum(listing, "pulumi-v1-linux.tar.gz") is None


def test_without_a_download_the_cli_is_built(
    machine: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(network, "_probe", lambda url: "closed")
    go = program(machine / "bin" / "go")
    go.write_text(
        "#!/bin/sh\n"
        'if [ "$1" = version ]; then echo go version go1.99.0; exit; fi\n'
        'while [ "$1" != -o ]; do shift; done\n'
        'echo built > "$2"\n'
    )
    step = Step("Pulumi CLI")
    pulumi.provide(step)
    assert step.source == f"built with Go, {pulumi._built() / 'pulumi'}"
    assert "building" in capsys.readouterr().err


# -- make ------------------------------------------------------------------------


def test_make_help_names_the_two_commands_and_fits_a_terminal() -> None:
    listing = subprocess.run(
        ["make", "--no-print-directory", "help"],
        cwd=paths.ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert all(len(line) <= 80 for line in listing.splitlines())
    shown = {line.split()[0] for line in listing.splitlines() if line.startswith("  ")}
    assert {"up", "test", "down", "env", "health", "tools", "clean", "help"} <= shown

"""What is refused before anything is touched, and how it is said."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import docker
import pytest

from pandom.host.stack import Stack, forget, prepare_file, set_values
from pandom.runtime import paths
from pandom.runtime.naming import LABEL_STACK, resource_name
from tests.fixtures.stack import Pandom, RunningStack, left_in_docker

SCREEN = 24


def screen(text: str) -> str:
    """The message, which must fit on one screen and hold no traceback."""
    assert len(text.splitlines()) <= SCREEN
    assert "Traceback" not in text
    assert "Next:" in text
    return text


def test_a_port_that_is_taken(unborn: RunningStack) -> None:
    stack = Stack(unborn.name)
    prepare_file(stack)
    with socket.socket() as somebody:
        somebody.bind(("127.0.0.1", 0))
        somebody.listen()
        port = somebody.getsockname()[1]
        set_values(stack, {"postgresPort": port, "minioPort": 29999})
        said = screen(unborn.pandom("up", "--stack", unborn.name, code=2).stderr)
    assert f"pandom-stack:postgresPort: port {port}" in said
    assert f"process {os.getpid()}" in said
    assert left_in_docker(unborn.name) == []
    assert not stack.exists()


def test_what_somebody_made_under_a_name_of_the_stack(unborn: RunningStack) -> None:
    """Docker would make a second network of that name, and then start nothing in it."""
    name = resource_name(unborn.name, "network")
    somebodys = docker.from_env().networks.create(name, labels={"made.by": "somebody"})
    try:
        said = screen(unborn.pandom("up", "--stack", unborn.name, code=2).stderr)
    finally:
        somebodys.remove()
    assert f"network {name}" in said
    assert left_in_docker(unborn.name) == []
    assert not Stack(unborn.name).exists()


def test_a_stack_file_with_errors_shows_them_all(unborn: RunningStack) -> None:
    stack = Stack(unborn.name)
    prepare_file(stack)
    stack.file.write_text(
        "config:\n  pandom-stack:postgresPort: 80\n  pandom-stack:bucket: A\n"
        "  pandom-stack:profil: x\n"
    )
    said = unborn.pandom("up", "--stack", unborn.name, code=2).stderr
    assert all(key in said for key in ("postgresPort", "bucket", "profile"))
    assert not stack.exists()


def test_a_lost_passphrase(tmp_path: Path) -> None:
    pandom = Pandom(variables={"XDG_STATE_HOME": str(tmp_path)})
    states = tmp_path / "pandom-stack" / "backend" / ".pulumi" / "stacks" / "pandom-stack"
    states.mkdir(parents=True)
    (states / "test-lost.json").write_text("{}")
    try:
        for command in (["up"], ["env"], ["health"], ["preview"]):
            said = screen(pandom(*command, "--stack", "test-lost", code=2).stderr)
            assert "passphrase" in said
            assert "test-lost" in said
        assert not (tmp_path / "pandom-stack" / "passphrase").exists()
        pandom("down", "--stack", "test-lost", "--without-state")
        assert not (states / "test-lost.json").exists()
    finally:
        forget(Stack("test-lost"))


def test_a_docker_daemon_that_is_stopped() -> None:
    pandom = Pandom(variables={"DOCKER_HOST": "unix:///nowhere/docker.sock"})
    try:
        said = screen(pandom("up", "--stack", "test-silent", code=2).stderr)
    finally:
        forget(Stack("test-silent"))
    assert "Docker does not answer" in said


def test_a_full_volume(unborn: RunningStack) -> None:
    """The server can never become ready: its volume is too small to hold a cluster."""
    volume = resource_name(unborn.name, "data")
    docker.from_env().volumes.create(
        volume,
        driver_opts={"type": "tmpfs", "device": "tmpfs", "o": "size=16m"},
        labels={LABEL_STACK: unborn.name},
    )
    started = time.monotonic()
    said = screen(unborn.pandom("up", "--stack", unborn.name, code=1).stderr)
    assert time.monotonic() - started < 90
    assert "The disk is full" in said


@pytest.mark.requirement("D1")
def test_env_prints_the_block_and_nothing_else_on_stdout(stack: RunningStack) -> None:
    block = stack.pandom("env", "--stack", stack.name).stdout
    names = [line.split("=")[0] for line in block.splitlines()]
    assert "DATABASE_URL" in names
    assert all(name.isupper() for name in names)
    for role in ("pandom_migrator", "postgres"):
        refused = stack.pandom("env", "--stack", stack.name, "--role", role, code=2)
        assert refused.stdout == ""
        assert role in refused.stderr


@pytest.mark.requirement("D1")
def test_the_url_of_env_signs_in_with_full_verification(stack: RunningStack) -> None:
    block = stack.pandom("env", "--stack", stack.name, "--role", "pandom_auditor").stdout
    url = next(
        line.split("=", 1)[1].strip("'") for line in block.splitlines() if "DATABASE_URL" in line
    )
    assert "sslmode=verify-full" in url
    program = (
        "import os, psycopg; print(psycopg.connect(os.environ['U']).execute("
        "'select current_user, ssl from pg_stat_ssl where pid = pg_backend_pid()').fetchone())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "U": url},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "('pandom_auditor', True)" in done.stdout


@pytest.mark.requirement("D2")
def test_health_is_json_for_machines(stack: RunningStack) -> None:
    document = json.loads(stack.pandom("health", "--stack", stack.name, "--json").stdout)
    assert document["healthy"]
    assert {"login pandom_app", "tables", "head", "bucket"} <= {
        one["name"] for one in document["checks"]
    }


@pytest.mark.requirement("D2")
def test_health_of_a_stack_that_is_not_there() -> None:
    assert "no stack" in Pandom()("health", "--stack", "test-nowhere", code=2).stderr
    assert not paths.stack_file("test-nowhere").exists()


def test_a_stack_without_backups_says_so(stack: RunningStack) -> None:
    for command in ("backup", "backups"):
        refused = stack.pandom(command, "--stack", stack.name, code=2)
        assert "nobody makes any" in refused.stderr
        assert "Next: backup: s3" in refused.stderr
    absent = stack.pandom("backups", "--stack", "no-such-stack", code=2)
    assert "There is no stack" in absent.stderr

"""The host is lost: from a kit the stack is there again, on an engine that had nothing of it."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import docker
import pytest

from pandom.host.stack import Stack
from pandom.runtime import paths
from pandom.runtime.naming import LABEL_STACK
from tests.fixtures.stack import RunningStack, left_in_docker, remove


@pytest.fixture
def elsewhere(
    own: RunningStack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[RunningStack]:
    """The same name on a host that knows nothing of it."""
    variables = {**own.pandom.variables, "XDG_STATE_HOME": str(tmp_path)}
    made = RunningStack(own.name, replace(own.pandom, variables=variables))
    with monkeypatch.context() as patched:
        patched.setenv("XDG_STATE_HOME", str(tmp_path))
        yield made
        remove(made.name, made.pandom)


def _lose(name: str) -> None:
    client = docker.from_env()
    wanted = {"label": f"{LABEL_STACK}={name}"}
    for container in client.containers.list(all=True, filters=wanted):
        container.remove(force=True)
    for network in client.networks.list(filters=wanted):
        network.remove()
    for volume in client.volumes.list(filters=wanted):
        volume.remove()
    assert left_in_docker(name) == []


@pytest.mark.soak  # three runs of `up`
@pytest.mark.requirement("D5")
def test_a_stack_comes_back_from_its_kit(
    own: RunningStack, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    word, kit, home = tmp_path / "word", tmp_path / "kit.age", paths.state_home()
    word.write_text("the passphrase of a kit in a test\n")
    given = ("--passphrase-file", str(word))
    own.pandom("recovery-kit", str(kit), "--stack", own.name, *given)
    before = own.secrets
    _lose(own.name)
    Stack(own.name).file.unlink()
    new: RunningStack = request.getfixturevalue("elsewhere")

    said = new.pandom("recover", str(kit), *given).stderr
    assert f"CONFIRM={own.name}" in said
    confirmed = replace(new.pandom, variables={**new.pandom.variables, "CONFIRM": own.name})
    confirmed("up", "--stack", new.name)
    assert new.secrets == before, "clients would need other secrets"
    new.pandom("health", "--stack", new.name)
    # What the lost host has of it is gone with the host.
    (home / "backend/.pulumi/stacks/pandom-stack" / f"{own.name}.json").unlink()
    shutil.rmtree(home / own.name)

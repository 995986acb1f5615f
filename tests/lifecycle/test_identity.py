"""Another state's stack is named and not touched; what is lost is repaired or named."""

from __future__ import annotations

import itertools
import random
from pathlib import Path

import docker
import pytest

from pandom.host.stack import Stack
from tests.fixtures.server import server_of
from tests.fixtures.soak import Progress
from tests.fixtures.stack import Pandom, RunningStack, left_in_docker, remove

pytestmark = pytest.mark.requirement("B1")


def everything(stack: RunningStack) -> list[str]:
    """Every network and volume, every container by its id."""
    client = docker.from_env()
    return sorted(
        str(client.containers.get(one[1:]).id) if one.startswith("/") else one
        for one in left_in_docker(stack.name)
    )


@pytest.mark.parametrize("command", ["up", "down"])
def test_another_state_touches_nothing(stack: RunningStack, tmp_path: Path, command: str) -> None:
    before = everything(stack)
    other = Pandom(variables={"XDG_STATE_HOME": str(tmp_path)})
    said = other(command, "--stack", stack.name, code=2).stderr
    assert "is not this state's" in said
    assert "owner: " in said
    assert f"CONFIRM={stack.name}" in said
    assert everything(stack) == before
    unasked = other("down", "--without-state", "--stack", stack.name, code=2).stderr
    assert f"CONFIRM={stack.name}" in unasked
    assert everything(stack) == before


def test_no_other_command_works_on_another_states_stack(
    stack: RunningStack, tmp_path: Path
) -> None:
    before = everything(stack)
    other = Pandom(variables={"XDG_STATE_HOME": str(tmp_path)})
    for command in (
        ["preview"],
        ["env"],
        ["shell"],
        ["migrate", "run"],
        ["db", "prepare", "taken"],
        ["audit"],
    ):
        said = other(*command, "--stack", stack.name, code=2).stderr
        assert "is not this state's" in said, command
    assert everything(stack) == before


def test_there_is_nothing_to_adopt_of_ones_own(stack: RunningStack) -> None:
    said = stack.pandom("adopt", "--stack", stack.name, code=2).stderr
    assert "already" in said


@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_stack_is_adopted_with_its_rows_and_with_no_secret_left(
    own: RunningStack, tmp_path: Path
) -> None:
    """Once with the secrets in their volumes, once with these gone, too."""
    with server_of(own).connect("postgres") as client:
        client.execute("update public.user_profiles set tags = array['kept']")
    confirmed = {"CONFIRM": own.name}
    other = Pandom(variables={"XDG_STATE_HOME": str(tmp_path)})
    sure = Pandom(variables={"XDG_STATE_HOME": str(tmp_path), **confirmed})
    back = Pandom(variables=confirmed)
    assert "Nothing was touched" in other("adopt", "--stack", own.name, code=2).stderr
    try:
        sure("adopt", "--stack", own.name)
        assert "is not this state's" in own.pandom("down", "--stack", own.name, code=2).stderr
        client = docker.from_env()
        label = {"label": f"pandom.stack={own.name}"}
        for one in client.containers.list(all=True, filters=label):
            one.remove(force=True, v=True)
        for volume in client.volumes.list(filters=label):
            if "-keys-" in volume.name:
                volume.remove()
        Stack(own.name).checkpoint.unlink()
        back("adopt", "--stack", own.name)
    except BaseException:
        remove(own.name, sure)
        raise
    found = RunningStack(own.name)
    with server_of(found).connect("postgres") as server:
        kept = server.execute("select tags from public.user_profiles").fetchall()
    assert kept == [(["kept"],)]
    assert "nothing changed" in own.pandom("up", "--stack", own.name).stderr


CONTAINERS = ("keys", "postgres", "minio", "cluster", "migration", "storage", "operations")
READERS = ("ca", "postgres", "minio", "superuser", "migrator", "storage", "janitor", "auditor")
LOSSES = (
    *(f"container {part}" for part in CONTAINERS),
    *(f"volume keys-{reader}" for reader in (*READERS, "operator")),
    "volume data",
    "volume objects",
    "volume records",
    "network network",
)


def lose(stack: RunningStack, loss: str) -> None:
    """Remove one thing as a clumsy hand does: what holds it goes first."""
    client = docker.from_env()
    kind, part = loss.split()
    name = stack.container(part)
    held = {"volume": "volume", "network": "network"}.get(kind)
    if held:
        for one in client.containers.list(all=True, filters={held: name}):
            one.remove(force=True, v=True)
    try:
        if kind == "container":
            client.containers.get(name).remove(force=True, v=True)
        elif kind == "volume":
            client.volumes.get(name).remove()
        else:
            client.networks.get(name).remove()
    except docker.errors.NotFound:
        assert kind == "container"  # it held what was lost before


@pytest.mark.soak
@pytest.mark.timeout(3600)
def test_each_loss_and_a_sample_of_pairs_are_repaired(
    own: RunningStack, pytestconfig: pytest.Config
) -> None:
    progress = Progress.of(pytestconfig, "losses")
    # All 171 pairs would take two hours; the same twenty each time, or a failure could not
    # be looked at again.
    pairs = random.Random(17).sample(list(itertools.combinations(LOSSES, 2)), 20)  # noqa: S311
    rounds = [*((one,) for one in LOSSES), *pairs]
    failed = []
    for number, losses in enumerate(rounds):
        if number < progress.done:
            continue
        for one in losses:
            lose(own, one)
        if own.pandom("up", "--stack", own.name, code=None).returncode:
            failed.append(losses)
        progress.note(number + 1)
    assert failed == []

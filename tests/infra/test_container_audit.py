"""Containers in the audit: what somebody changed by hand on the host is found, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import docker
import pytest

from pandom.audit.findings import Finding, findings
from pandom.database.drift.differences import differences
from pandom.host import containers, lock
from pandom.host.engine import RESTORE
from pandom.host.stack import Stack
from pandom.operations.records import FOLDER
from pandom.runtime.naming import KEYS_MOUNT, LABEL_PART, resource_name
from tests.fixtures.stack import RunningStack
from tests.infra.conftest import Spare

pytestmark = pytest.mark.requirement("B4")

SOCKET = {"/var/run/docker.sock": {"bind": "/docker.sock", "mode": "ro"}}


def found(stack: RunningStack, aside: str = "") -> list[Finding]:
    """The findings on containers; ``aside`` is the name of one that is looked at as the tasks'."""
    expected, actual = containers.read(stack.name)
    if aside:
        own = stack.container("operations")
        actual = {fact: value for fact, value in actual.items() if fact.object != own}
        actual = {
            fact._replace(object=own if fact.object == aside else fact.object): value
            for fact, value in actual.items()
        }
    return findings(differences(expected, actual), expected)


def twin(spare: Spare, stack: RunningStack, engine: docker.DockerClient, **changed: Any) -> str:
    """A container like that of the tasks, as somebody would make it by hand; its name."""
    tasks = engine.containers.get(stack.container("operations")).attrs
    config, host = tasks["Config"], tasks["HostConfig"]
    (network,) = tasks["NetworkSettings"]["Networks"]
    like: dict[str, Any] = {
        "user": config["User"],
        "environment": config["Env"],
        "healthcheck": {
            "test": config["Healthcheck"]["Test"],
            "interval": config["Healthcheck"]["Interval"],
        },
        "network": network,
        "mem_limit": host["Memory"],
        "memswap_limit": host["MemorySwap"],
        "pids_limit": None,
        "ulimits": [docker.types.Ulimit(name="nproc", soft=4096, hard=4096)],
        "restart_policy": host["RestartPolicy"],
        "labels": {**spare.labels, "pandom.part": "operations"},
        "volumes": {
            resource_name(stack.name, "records"): {"bind": str(FOLDER)},
            resource_name(stack.name, "keys-janitor"): {
                "bind": f"{KEYS_MOUNT}/janitor",
                "mode": "ro",
            },
        },
    }
    extra = changed.pop("volumes", {})
    options = {**like, **changed, "volumes": {**like["volumes"], **extra}}
    return str(spare.create("operations", config["Cmd"], **options).name)


def test_a_stack_as_it_was_brought_up_has_no_finding(stack: RunningStack) -> None:
    assert found(stack) == []


def test_a_twin_that_changes_nothing_is_no_finding(
    spare: Spare, stack: RunningStack, engine: docker.DockerClient
) -> None:
    assert found(stack, twin(spare, stack, engine)) == []


CHANGED: dict[str, tuple[dict[str, Any], str, str]] = {
    "privileged": ({"privileged": True}, "critical", "privileged"),
    "root": ({"user": "0:0"}, "critical", "user"),
    "the host's processes": ({"pid_mode": "host"}, "critical", "shares with the host"),
    "a device": ({"devices": ["/dev/null:/dev/disk"]}, "critical", "devices"),
    "Docker's socket": ({"volumes": SOCKET}, "critical", "mounts"),
    "a folder of the host": ({"volumes": {"/etc": {"bind": "/mnt"}}}, "high", "mounts"),
    "a capability": ({"cap_add": ["NET_ADMIN"]}, "high", "capabilities"),
    "capabilities kept": ({"cap_drop": None}, "high", "capabilities"),
    "new privileges": ({"security_opt": []}, "high", "security options"),
    "no seccomp": (
        {"security_opt": ["no-new-privileges:true", "seccomp=unconfined"]},
        "high",
        "security options",
    ),
    "a writable root": ({"read_only": False}, "high", "root"),
    "an open port": ({"ports": {"7000/tcp": None}}, "high", "ports"),
    "more memory": ({"mem_limit": "1g", "memswap_limit": "1g"}, "medium", "memory"),
    "another restart": ({"restart_policy": {"Name": "always"}}, "medium", "restart"),
    "no limit of processes": ({"ulimits": None}, "medium", "processes"),
    "a variable": ({"environment": ["LD_PRELOAD=/tmp/evil.so"]}, "medium", "environment"),
    "no health check": ({"healthcheck": {"test": ["NONE"]}}, "medium", "health check"),
}


@pytest.mark.parametrize("what", CHANGED)
def test_a_container_made_again_by_hand_is_found(
    spare: Spare, stack: RunningStack, engine: docker.DockerClient, what: str
) -> None:
    changed, severity, detail = CHANGED[what]
    (finding,) = found(stack, twin(spare, stack, engine, **changed))
    assert finding.id == f"container-different:{stack.container('operations')}"
    assert finding.severity == severity
    assert f"{detail}: " in finding.actual
    assert "make up" in finding.advice


def test_a_limit_changed_in_place_is_found_and_its_end_too(
    stack: RunningStack, engine: docker.DockerClient
) -> None:
    tasks = engine.containers.get(stack.container("operations"))
    host = tasks.attrs["HostConfig"]
    tasks.update(mem_limit=host["Memory"] * 2, memswap_limit=host["MemorySwap"] * 2)
    try:
        assert [one.id for one in found(stack)] == [f"container-different:{tasks.name}"]
    finally:
        tasks.update(mem_limit=host["Memory"], memswap_limit=host["MemorySwap"])
    assert found(stack) == []


def test_a_stranger_that_mounts_a_secret_is_found(spare: Spare, stack: RunningStack) -> None:
    """Without our labels: what it mounts gives it away."""
    secret = {resource_name(stack.name, "keys-superuser"): {"bind": "/mnt", "mode": "ro"}}
    stranger = spare.create("operations", ["job", "shell"], labels={}, volumes=secret)
    (finding,) = found(stack)
    assert (finding.id, finding.severity) == (f"container-extra:{stranger.name}", "high")


def test_what_a_restore_makes_is_its_own_while_it_runs(spare: Spare, stack: RunningStack) -> None:
    made = spare.create("postgres", labels={**spare.labels, LABEL_PART: RESTORE})
    other = spare.create("postgres", labels={**spare.labels, LABEL_PART: "restored"})
    names = {f"container-extra:{one.name}" for one in (made, other)}
    with lock.held(lock.place_of(Stack(stack.name)), "The test's stack"):
        assert [one.id for one in found(stack)] == [f"container-extra:{other.name}"]
    # Killed, what it left is a finding.
    assert {one.id for one in found(stack)} == names


@pytest.mark.parametrize(("drift", "code"), [(False, 0), (True, 2)])
def test_the_command_says_its_scope(
    spare: Spare, stack: RunningStack, drift: bool, code: int
) -> None:
    if drift:
        spare.create("operations", ["job", "shell"], privileged=True)
    done = stack.pandom(
        "audit", "--stack", stack.name, "--store", "--host", "--format", "json", code=code
    )
    report = json.loads(done.stdout)
    assert report["scope"] == ["database", "containers", "object store"]
    kinds: list[str] = [one["kind"] for one in report["findings"]]
    assert kinds == (["container"] if drift else [])


def test_only_the_host_can_ask(stack: RunningStack, inside: Callable[[str], Any]) -> None:
    refused = inside("operations").run("pandom audit --host --dsn host=postgres")
    assert refused.rc == 2
    assert "containers are those of a stack of this host" in refused.stderr

"""How the containers are started: as Docker says, and as the kernel enforces it."""

from __future__ import annotations

import copy
import socket
from collections.abc import Callable
from typing import Any

import docker
import pytest
from testinfra.host import Host

from pandom.runtime.naming import LABEL_STACK, UID_MINIO, UID_OPERATIONS, UID_POSTGRES
from tests.fixtures.stack import RunningStack
from tests.infra.conftest import JOBS, SERVERS, Spare
from tests.infra.hardening import findings

pytestmark = pytest.mark.requirement("B4")

UIDS = {"postgres": UID_POSTGRES, "minio": UID_MINIO, "operations": UID_OPERATIONS}


def test_the_stack_is_exactly_these_containers(
    engine: docker.DockerClient, stack: RunningStack
) -> None:
    found = engine.containers.list(all=True, filters={"label": f"{LABEL_STACK}={stack.name}"})
    names = {container.name for container in found if container.labels["pandom.part"] != "spare"}
    assert names == {stack.container(part) for part in (*SERVERS, *JOBS)}


@pytest.mark.parametrize("part", [*SERVERS, *JOBS])
def test_the_container_breaks_no_rule(
    inspected: Callable[[str], dict[str, Any]], part: str
) -> None:
    assert findings(inspected(part)) == []


@pytest.mark.parametrize("part", JOBS)
def test_jobs_ended_well(inspected: Callable[[str], dict[str, Any]], part: str) -> None:
    state = inspected(part)["State"]
    assert (state["Status"], state["ExitCode"], state["OOMKilled"]) == ("exited", 0, False)


@pytest.mark.parametrize("part", SERVERS)
def test_the_kernel_enforces_it(inside: Callable[[str], Host], part: str) -> None:
    host = inside(part)
    status = dict(
        line.split(":", 1) for line in host.file("/proc/1/status").content_string.splitlines()
    )
    assert status["Uid"].split() == [str(UIDS[part])] * 4
    assert {int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd", "CapInh")} == {0}
    assert status["NoNewPrivs"].strip() == "1"
    assert status["Seccomp"].strip() == "2"
    refused = host.run("touch /etc/pandom-test")
    assert refused.failed
    assert "Read-only file system" in refused.stderr


@pytest.mark.parametrize("part", SERVERS)
def test_no_program_of_the_image_gains_rights(inside: Callable[[str], Host], part: str) -> None:
    host = inside(part)
    assert host.check_output("find / -xdev -perm /6000 -type f 2>/dev/null; true") == ""
    # Nothing that the user could change and somebody else would run.
    places = "/usr /etc /opt -xdev"
    assert host.check_output(f"find {places} -writable ! -type l 2>/dev/null; true") == ""


@pytest.mark.parametrize(("part", "port"), [("postgres", "db_port"), ("minio", "minio_port")])
def test_ports_answer_on_the_loopback_address_only(
    stack: RunningStack, part: str, port: str
) -> None:
    number = int(stack.outputs[port])
    with socket.create_connection(("127.0.0.1", number), timeout=5):
        pass
    for address in other_addresses():
        with pytest.raises(OSError), socket.create_connection((address, number), timeout=2):
            pass


def other_addresses() -> set[str]:
    """The host's own addresses but the loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.connect(("192.0.2.1", 9))  # sends nothing, only chooses an address
        return {probe.getsockname()[0]} - {"127.0.0.1"}


def test_an_open_port_would_be_seen(spare: Spare, spare_keys: Any) -> None:
    spare.start("minio", volumes=spare_keys.mount("minio"), ports={"9000/tcp": None}).reload()
    number = int(spare.containers[-1].ports["9000/tcp"][0]["HostPort"])
    for address in other_addresses():
        with socket.create_connection((address, number), timeout=2):
            pass
    assert "publishes 9000/tcp on every address" in findings(spare.containers[-1].attrs)


BROKEN: dict[str, dict[str, Any]] = {
    "runs as root": {"user": "root"},
    "runs as 0": {"user": "0:0"},
    "drops None, not all capabilities": {"cap_drop": None},
    "has the capabilities ['NET_ADMIN']": {"cap_add": ["NET_ADMIN"]},
    "is privileged": {"privileged": True},
    "may gain new privileges": {"security_opt": []},
    "has no seccomp or AppArmor profile": {
        "security_opt": ["no-new-privileges:true", "seccomp=unconfined"]
    },
    "has a writable root": {"read_only": False},
    "has no memory limit": {"mem_limit": None, "memswap_limit": None},
    "may swap": {"memswap_limit": "1g"},
    "has no limit of processes": {"pids_limit": None},
    "shares the host's NetworkMode": {"network_mode": "host"},
    "shares the host's PidMode": {"pid_mode": "host"},
    "shares the host's IpcMode": {"ipc_mode": "host"},
    "publishes ['22/tcp']": {"ports": {"22/tcp": ("127.0.0.1", None)}},
    "publishes 9000/tcp on every address": {"ports": {"9000/tcp": None}},
    "has a log without rotation": {"log_config": None},
    "mounts /tmp of the host": {"volumes": {"/tmp": {"bind": "/mnt"}}},  # noqa: S108
    "may write its own secrets": {"volumes": {"": {"bind": "/run/pandom/keys"}}},
    "lacks the labels ['pandom.owner']": {"labels": None},
}


@pytest.mark.parametrize("finding", BROKEN)
def test_each_rule_sees_a_container_that_breaks_it(spare: Spare, finding: str) -> None:
    wrong = copy.deepcopy(BROKEN[finding])
    if "" in wrong.get("volumes", {}):
        wrong["volumes"][spare.volume()] = wrong["volumes"].pop("")
    labels = {**spare.labels, "pandom.part": "minio"}
    if "labels" in wrong:
        wrong["labels"] = {name: labels[name] for name in ("pandom.stack", "pandom.part")}
    good = {"labels": labels, "user": f"{UID_MINIO}:{UID_MINIO}"}
    made = spare.create("minio", **{**good, **wrong})
    made.reload()
    assert findings(made.attrs) == [finding]


def test_a_network_for_the_job_with_all_secrets_is_seen(spare: Spare) -> None:
    made = spare.create("keys", labels={**spare.labels, "pandom.part": "keys"})
    made.reload()
    assert findings(made.attrs) == ["has a network, and all secrets"]


def test_the_kernel_check_sees_a_container_without_limits(spare: Spare) -> None:
    code, output = spare.run(
        "postgres",
        ["-c", "cat /proc/1/status; touch /etc/pandom-test && echo written; ls -l /usr/bin/su"],
        entrypoint="bash",
        user="0:0",
        cap_drop=None,
        security_opt=[],
        read_only=False,
    )
    assert code == 0
    assert "Uid:\t0\t0\t0\t0" in output
    assert "NoNewPrivs:\t0" in output
    assert "CapEff:\t0000000000000000" not in output
    assert "written" in output

"""Containers of the stack, and spare ones that a test may break."""

from __future__ import annotations

import contextlib
import io
import json
import tarfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import docker
import pytest
import testinfra
from docker.models.containers import Container
from docker.models.volumes import Volume
from testinfra.host import Host

from pandom.runtime.naming import (
    KEYS_MOUNT,
    LABEL_OWNER,
    LABEL_PART,
    LABEL_STACK,
    PROJECT,
    UID_MINIO,
    UID_POSTGRES,
)
from tests.fixtures.stack import RunningStack

SERVERS = ("postgres", "minio", "operations")
JOBS = ("keys", "cluster", "migration", "storage")

SPARE_PASSWORD = "a-spare-superuser-password-of-40-letters"


@pytest.fixture(scope="session")
def engine() -> Iterator[docker.DockerClient]:
    client = docker.from_env()
    yield client
    client.close()


@pytest.fixture(scope="session")
def inside(stack: RunningStack) -> Callable[[str], Host]:
    """testinfra's view from inside a part's container."""
    return lambda part: testinfra.get_host(f"docker://{stack.container(part)}")


@pytest.fixture(scope="session")
def inspected(stack: RunningStack) -> Callable[[str], dict[str, Any]]:
    """``docker inspect`` of a part, through testinfra on the host."""
    local = testinfra.get_host("local://")
    return lambda part: dict(local.docker(stack.container(part)).inspect())


@dataclass
class Spare:
    """Makes containers and volumes from the stack's images; all are removed at the end.

    They carry the stack's label, so that whatever survives a killed run goes with it.
    """

    engine: docker.DockerClient
    stack: RunningStack

    def __post_init__(self) -> None:
        self.containers: list[Container] = []
        self.volumes: list[Volume] = []

    @property
    def labels(self) -> dict[str, str]:
        return {LABEL_STACK: self.stack.name, LABEL_PART: "spare", LABEL_OWNER: PROJECT}

    def volume(self, **options: Any) -> str:
        made = self.engine.volumes.create(labels=self.labels, **options)
        self.volumes.append(made)
        return str(made.name)

    def create(
        self, part: str, command: Any = None, *, image: Any = None, **options: Any
    ) -> Container:
        """A container like those of the stack, but for ``options``; ``part`` says which image."""
        image = image or self.engine.containers.get(self.stack.container(part)).image
        settings: dict[str, Any] = {
            "labels": self.labels,
            "cap_drop": ["ALL"],
            "security_opt": ["no-new-privileges:true"],
            "read_only": True,
            "mem_limit": "512m",
            "memswap_limit": "512m",
            "pids_limit": 128,
            "tmpfs": {"/tmp": "mode=1777,size=64m"},  # noqa: S108 - of the container
            "log_config": docker.types.LogConfig(config={"max-size": "1m", "max-file": "1"}),
        }
        made = self.engine.containers.create(image, command, **{**settings, **options})
        self.containers.append(made)
        return made

    def run(self, part: str, command: Any = None, **options: Any) -> tuple[int, str]:
        """Run a container to its end: exit code and both outputs."""
        made = self.create(part, command, **options)
        made.start()
        code = int(made.wait(timeout=60)["StatusCode"])
        return code, made.logs().decode()

    def start(self, part: str, command: Any = None, **options: Any) -> Container:
        """Start a server and wait until its own health check passes."""
        made = self.create(part, command, **options)
        made.start()
        await_health(made, part)
        return made

    def close(self) -> None:
        for container in self.containers:
            # An `up` of the stack removes what carries its label and is not in its state.
            with contextlib.suppress(docker.errors.NotFound):
                container.remove(force=True, v=True)
        for volume in self.volumes:
            volume.remove(force=True)


HEALTH = {
    "postgres": ["pandom-healthy"],
    "minio": [
        *("curl", "--fail", "--silent", "--cacert", f"{KEYS_MOUNT}/ca.crt"),
        "https://127.0.0.1:9000/minio/health/cluster",
    ],
}


def await_health(container: Container, part: str, seconds: float = 30) -> None:
    """Return when the container's health check passes; fail when it ends or takes too long."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        container.reload()
        if container.status == "exited":
            break
        if container.status == "running" and container.exec_run(HEALTH[part]).exit_code == 0:
            return
        time.sleep(0.1)
    pytest.fail(f"spare {part} is {container.status}:\n{container.logs().decode()}")


@pytest.fixture
def spare(engine: docker.DockerClient, stack: RunningStack) -> Iterator[Spare]:
    made = Spare(engine, stack)
    yield made
    made.close()


def archive(name: str, content: bytes, mode: int = 0o400) -> bytes:
    """One file as the tar that Docker takes."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        entry = tarfile.TarInfo(name)
        entry.size, entry.mode = len(content), mode
        tar.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()


@dataclass(frozen=True)
class SpareKeys:
    """Volumes with secrets and certificates of a CA of their own."""

    postgres: str
    minio: str
    ca: str

    def mount(self, part: str) -> dict[str, dict[str, str]]:
        return {getattr(self, part): {"bind": str(KEYS_MOUNT), "mode": "ro"}}


def write_keys(
    spare: Spare,
    volumes: Mapping[str, str],
    password: str = SPARE_PASSWORD,
    root_password: str = SPARE_PASSWORD,
) -> tuple[int, str]:
    """Run the keys job on spare volumes: its exit code and output."""
    request = {
        "sans": {part: ["127.0.0.1", "localhost", part] for part in ("postgres", "minio")},
        "readers": {
            "postgres": {
                "uid": UID_POSTGRES,
                "files": {"superuser_password": password, "repository_key": "k" * 32},
                "certificate": "postgres",
            },
            "minio": {
                "uid": UID_MINIO,
                "files": {"root_user": "spare-root", "root_password": root_password},
                "certificate": "minio",
            },
        },
    }
    job = spare.create(
        "keys",
        ["job", "keys"],
        user="0:0",
        read_only=False,
        network_mode="none",
        cap_add=["CHOWN", "DAC_OVERRIDE", "FOWNER"],
        volumes={name: {"bind": f"/keys/{reader}"} for reader, name in volumes.items()},
    )
    job.put_archive("/run", archive("pandom-keys.json", json.dumps(request).encode()))
    job.start()
    done = int(job.wait(timeout=60)["StatusCode"]), job.logs().decode()
    # The volumes are of the whole run, and a container that nobody declared is a finding.
    job.remove(v=True)
    return done


def new_keys(spare: Spare) -> SpareKeys:
    volumes = {name: spare.volume() for name in ("ca", "postgres", "minio")}
    code, output = write_keys(spare, volumes)
    assert code == 0, output
    return SpareKeys(volumes["postgres"], volumes["minio"], output)


@pytest.fixture(scope="session")
def spare_keys(engine: docker.DockerClient, stack: RunningStack) -> Iterator[SpareKeys]:
    """Shared by all tests: who changes one makes keys of its own."""
    made = Spare(engine, stack)
    yield new_keys(made)
    made.close()

"""One life of the conformance program: a server, a stack of its own, and the end of both."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import docker
import grpc
import psycopg
from docker.errors import ImageNotFound
from google.protobuf.empty_pb2 import Empty
from pulumi.runtime.proto.provider_pb2_grpc import ResourceProviderStub

from pandom.runtime.naming import image_name
from pandom.runtime.paths import ROOT
from toolchain import environment
from toolchain.plugins import STANDINS
from toolchain.standins.docker_provider import context

PROGRAM: Final = Path(__file__).parent / "program"
STACK: Final = "conformance"
PASSPHRASE: Final = "conformance"
# How long one run of the CLI may take, seconds; the slowest makes everything, cold.
_RUN_LIMIT: Final = 240
_SERVER_LIMIT: Final = 30.0

# The server is the stack's own image without its entrypoint: whom it trusts and where it
# keeps its data is no concern of the plugins.
_SERVER: Final = """
set -e
mkdir -p /tmp/cluster
cd /tmp/cluster
export PATH=/usr/lib/postgresql/17/bin:$PATH
initdb --pgdata=data --no-sync --encoding=UTF8 --locale-provider=builtin --locale=C.UTF-8 \\
    --auth=trust >initdb.log
echo 'host all all all trust' >>data/pg_hba.conf
exec postgres -D data -c listen_addresses='*' -c fsync=off -c unix_socket_directories=/tmp
"""


@dataclass(frozen=True)
class Run:
    """One life of the program: where it is, what it is called, where its server answers."""

    folder: Path
    prefix: str
    port: int
    environment: Mapping[str, str]

    def pulumi(self, *arguments: str) -> str:
        """The CLI's stdout. Raises ``AssertionError`` with its whole output if it fails."""
        command = ["pulumi", *arguments, "--non-interactive", "--stack", STACK]
        ended = subprocess.run(
            command,
            cwd=self.folder,
            env=dict(self.environment),
            capture_output=True,
            text=True,
            timeout=_RUN_LIMIT,
            check=False,
        )
        if ended.returncode:
            raise AssertionError(f"{' '.join(command)} failed\n{ended.stdout}\n{ended.stderr}")
        return ended.stdout

    def up(self, *arguments: str) -> None:
        """Bring the program up."""
        self.pulumi("up", "--yes", "--skip-preview", *arguments)

    def identities(self) -> dict[str, str]:
        """The id of every container, to tell an update from a replacement."""
        client = docker.APIClient()
        return {
            item["Names"][0].removeprefix(f"/{self.prefix}-"): item["Id"]
            for item in client.containers(all=True, filters={"name": f"^/{self.prefix}-"})
        }

    @contextmanager
    def sql(self, database: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        """A connection as superuser."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            yield connection


@contextmanager
def running(path: str, folder: Path) -> Iterator[Run]:
    """A server, a copy of the program and a stack of its own; nothing of it is left behind."""
    prefix = f"conformance-{os.getpid()}"
    port = _free_port()
    shutil.copytree(PROGRAM, folder / "program", ignore=shutil.ignore_patterns("__pycache__"))
    state = folder / "state"
    state.mkdir()
    project = folder / "program" / "Pulumi.yaml"
    # The official language host looks for the virtual environment by name.
    project.write_text(
        project.read_text().replace(
            "runtime: python",
            f"runtime: {{name: python, options: {{virtualenv: {json.dumps(sys.prefix)}}}}}",
        )
    )
    run = Run(
        folder / "program",
        prefix,
        port,
        {
            **{
                key: value
                for key, value in os.environ.items()
                if not key.startswith(("PULUMI_", "PG"))
            },
            "PATH": path,
            "PANDOM_VENV": sys.prefix,
            "PULUMI_HOME": str(folder / "home"),
            "PULUMI_BACKEND_URL": state.as_uri(),
            "PULUMI_CONFIG_PASSPHRASE": PASSPHRASE,
            "PULUMI_SKIP_UPDATE_CHECK": "true",
            "PULUMI_DISABLE_AUTOMATIC_PLUGIN_ACQUISITION": "true",
            "PYTHONDONTWRITEBYTECODE": "1",
        },
    )
    try:
        _start_server(run)
        run.pulumi("stack", "init")
        run.pulumi("config", "set", "prefix", prefix)
        run.pulumi("config", "set", "port", str(port))
        yield run
    finally:
        _remove(prefix)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _start_server(run: Run) -> None:
    client = docker.from_env()
    image = image_name("postgres")
    try:
        client.images.get(image)
    except ImageNotFound:
        archive, dockerfile = context.archive(ROOT, ROOT / "app_image" / "postgres" / "Dockerfile")
        client.images.build(
            fileobj=archive,
            custom_context=True,
            dockerfile=dockerfile,
            tag=image,
            rm=True,
            forcerm=True,
        )
    client.containers.run(
        image,
        ["-c", _SERVER],
        entrypoint="sh",
        name=f"{run.prefix}-server",
        ports={"5432/tcp": ("127.0.0.1", run.port)},
        labels={"pandom.conformance": run.prefix},
        detach=True,
    )
    end = time.monotonic() + _SERVER_LIMIT
    while True:
        try:
            with run.sql() as connection:
                connection.execute("create role c_adopted login connection limit 7")
                connection.execute("create database c_adopted template template0")
                return
        except psycopg.OperationalError:
            if time.monotonic() > end:
                raise
            time.sleep(0.2)


def _remove(prefix: str) -> None:
    client = docker.from_env()
    ours: list[dict[str, str]] = [{"name": f"^/{prefix}-"}, {"label": "pandom.conformance=build"}]
    for filters in ours:
        for container in client.containers.list(all=True, filters=filters, ignore_removed=True):
            container.remove(force=True, v=True)
    for network in client.networks.list(filters={"name": prefix}):
        network.remove()
    for volume in client.volumes.list(filters={"name": prefix}):
        volume.remove(force=True)
    # By name: another run may use the same image under its own.
    with suppress(ImageNotFound):
        client.images.remove(f"{prefix}/image:local")


def plugins(path: str) -> dict[str, str]:
    """The versions of the plugins on this PATH, as they tell the engine."""
    return {
        name: _plugin_version(f"pulumi-resource-{name}", path)
        for name in ("docker", "postgresql", "random")
    }


def _plugin_version(name: str, path: str) -> str:
    program = shutil.which(name, path=path)
    assert program is not None, f"{name} is not on PATH"
    environment = {**os.environ, "PANDOM_VENV": sys.prefix}
    started = subprocess.Popen(
        [program, "127.0.0.1:1"], stdout=subprocess.PIPE, text=True, env=environment
    )
    try:
        assert started.stdout is not None
        port = int(started.stdout.readline())
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            answer = ResourceProviderStub(channel).GetPluginInfo(Empty(), timeout=30)
        return str(answer.version)
    finally:
        started.kill()
        started.wait()


def standin_path() -> str:
    """PATH with the stand-ins first, then what the toolchain found."""
    tools = environment.find().variables["PATH"]
    return os.pathsep.join([str(STANDINS), tools])

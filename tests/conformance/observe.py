"""Runs the conformance program with the plugins on PATH and writes down what they did.

What differs between two runs of the same plugins (ids, addresses, times, generated
passwords) is replaced by placeholders, so that two sets of plugins can be compared.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
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

from pandom.naming import image_name
from pandom.paths import ROOT
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

# Outputs that no two runs share.
_VOLATILE: Final = frozenset(
    {
        "id",
        "bcryptHash",
        "containerLogs",
        "hostname",
        "ipamConfigs",
        "mountpoint",
        "networkDatas",
        "port",
        "repoDigest",
        "result",
        # How the official plugins rebuild their own state, which they do without it, too.
        "__pulumi_raw_state_delta",
    }
)
_SIGNATURE: Final = "4dabf18193072939515e22adb298388d"

_CATALOG: Final = {
    "roles": """
        select r.rolname, r.rolsuper, r.rolinherit, r.rolcreaterole, r.rolcreatedb,
            r.rolcanlogin, r.rolreplication, r.rolbypassrls, r.rolconnlimit,
            r.rolvaliduntil::text, r.rolconfig, left(a.rolpassword, 13)
        from pg_catalog.pg_roles r
        join pg_catalog.pg_authid a on a.oid = r.oid
        where r.rolname like 'c\\_%' order by 1""",
    "memberships": """
        select m.roleid::regrole::text, m.member::regrole::text, m.admin_option,
            m.inherit_option, m.set_option
        from pg_catalog.pg_auth_members m
        where m.member::regrole::text like 'c\\_%' order by 1, 2""",
    "databases": """
        select d.datname, d.datdba::regrole::text, pg_encoding_to_char(d.encoding),
            d.datlocprovider, d.datcollate, d.datctype, d.datlocale, d.datconnlimit,
            d.datallowconn, d.datistemplate, d.datacl::text[]
        from pg_catalog.pg_database d where d.datname like 'c\\_%' order by 1""",
    "schema": """
        select n.nspname, n.nspowner::regrole::text, n.nspacl::text[]
        from pg_catalog.pg_namespace n where n.nspname = 'public'""",
    "default privileges": """
        select d.defaclrole::regrole::text, coalesce(d.defaclnamespace::regnamespace::text, ''),
            d.defaclobjtype, d.defaclacl::text[]
        from pg_catalog.pg_default_acl d order by 1, 2, 3""",
}


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

    def steps(self, *arguments: str) -> dict[str, Any]:
        """What a preview would do: per resource the operation and the properties behind it."""
        preview = json.loads(self.pulumi("preview", "--json", *arguments))
        return dict(
            sorted(
                (step["urn"].rsplit("::", 1)[-1], _step(step))
                for step in preview["steps"]
                if step["op"] not in ("same", "refresh")
            )
        )

    def up(self, *arguments: str) -> None:
        """Bring the program up."""
        self.pulumi("up", "--yes", "--skip-preview", *arguments)

    def state(self) -> dict[str, Any]:
        """The state: inputs and outputs of every resource, without what is volatile."""
        exported = json.loads(self.pulumi("stack", "export", "--show-secrets"))
        resources: dict[str, Any] = {}
        for resource in exported["deployment"]["resources"]:
            name = resource["urn"].rsplit("::", 1)[-1]
            if resource["type"] == "pulumi:pulumi:Stack" or "providers" in resource["type"]:
                continue
            resources[name] = {
                side: self._settled(resource.get(side) or {}) for side in ("inputs", "outputs")
            }
        return dict(sorted(resources.items()))

    def _settled(self, values: Mapping[str, Any]) -> dict[str, Any]:
        shown = {
            key: self.placed(_revealed(value))
            for key, value in sorted(values.items())
            if key not in _VOLATILE
        }
        # Both say that nothing is there, and some plugins leave such properties out.
        return {key: value for key, value in shown.items() if value not in (None, [], {"*": None})}

    def placed(self, value: Any) -> Any:
        """The value with everything that is this run's own replaced by a placeholder."""
        if isinstance(value, dict):
            return {self.placed(key): self.placed(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self.placed(item) for item in value]
        if isinstance(value, str):
            value = value.replace(self.prefix, "<prefix>")
            return re.sub(r"\b[0-9a-f]{64}\b", "<digest>", value)
        return value

    def containers(self) -> dict[str, Any]:
        """``docker inspect`` of every container, without what is volatile."""
        client = docker.APIClient()
        found = {}
        for item in client.containers(all=True, filters={"name": f"^/{self.prefix}-"}):
            name = item["Names"][0].removeprefix(f"/{self.prefix}-")
            if name != "server":
                found[name] = self.placed(_inspected(client.inspect_container(item["Id"])))
        return dict(sorted(found.items()))

    def identities(self) -> dict[str, str]:
        """The id of every container, to tell an update from a replacement."""
        client = docker.APIClient()
        return {
            item["Names"][0].removeprefix(f"/{self.prefix}-"): item["Id"]
            for item in client.containers(all=True, filters={"name": f"^/{self.prefix}-"})
        }

    def catalog(self) -> dict[str, Any]:
        """What the server's catalogs hold."""
        with self.sql("c_database") as connection:
            return {
                name: [_row(row) for row in connection.execute(query).fetchall()]
                for name, query in _CATALOG.items()
            }

    @contextmanager
    def sql(self, database: str = "postgres") -> Iterator[psycopg.Connection[Any]]:
        """A connection as superuser."""
        with psycopg.connect(
            host="127.0.0.1", port=self.port, user="postgres", dbname=database, autocommit=True
        ) as connection:
            yield connection


def _row(row: Sequence[Any]) -> list[Any]:
    """Access lists in order: the server sorts some by the roles' numbers."""
    return [sorted(value) if isinstance(value, list) else value for value in row]


def _step(step: Mapping[str, Any]) -> dict[str, Any]:
    detailed = {re.split(r"[.\[]", path)[0] for path in step.get("detailedDiff") or {}}
    return {
        "operation": step["op"],
        "changes": sorted(detailed | set(step.get("diffReasons") or [])),
        "replaces": sorted(step.get("replaceReasons") or []),
    }


def _revealed(value: Any) -> Any:
    """Secrets as ``{"*": value}``: that it is one is part of what is compared."""
    if isinstance(value, dict):
        if _SIGNATURE in value:
            return {"*": json.loads(value["plaintext"])}
        return {key: _revealed(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_revealed(item) for item in value]
    return value


def _inspected(found: Mapping[str, Any]) -> dict[str, Any]:
    config, host, state = found["Config"], found["HostConfig"], found["State"]
    if found["Id"].startswith(config["Hostname"]):
        config["Hostname"] = "<id>"
    networks = found["NetworkSettings"]["Networks"]
    return {
        "config": _present(config),
        "host": _present(host),
        "state": {
            "running": state["Running"],
            "exit code": state["ExitCode"],
            "health": (state.get("Health") or {}).get("Status"),
        },
        "networks": {
            name: sorted(
                alias for alias in item["Aliases"] or [] if not found["Id"].startswith(alias)
            )
            for name, item in networks.items()
        },
    }


def _present(values: Mapping[str, Any]) -> dict[str, Any]:
    """Without what says nothing, and with lists that are sets in order."""
    ordered = {"Env", "CapAdd", "CapDrop", "Binds", "GroupAdd", "SecurityOpt"}
    return {
        key: sorted(value) if key in ordered else value
        for key, value in sorted(values.items())
        if value not in (None, "", 0, False, [], {})
    }


# --- a run ----------------------------------------------------------------------


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
        client.images.build(fileobj=archive, custom_context=True, dockerfile=dockerfile, tag=image)
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


def observe(run: Run) -> dict[str, Any]:
    """Make, edit, break and mend everything, and write down what happened each time."""
    observed: dict[str, Any] = {}
    run.up()
    observed["made"] = {
        "state": run.state(),
        "containers": run.containers(),
        "catalog": run.catalog(),
    }
    run.pulumi("config", "set", "edited", "true")
    observed["edit steps"] = run.steps()
    before = run.identities()
    run.up()
    after = run.identities()
    observed["edited"] = {
        "state": run.state(),
        "containers": run.containers(),
        "catalog": run.catalog(),
        "kept": sorted(name for name, number in after.items() if before.get(name) == number),
    }
    break_by_hand(run)
    observed["steps after damage"] = run.steps("--refresh")
    run.up("--refresh")
    observed["mended"] = {
        "service runs": run.containers()["service"]["state"]["running"],
        "catalog": run.catalog(),
    }
    run.pulumi("destroy", "--yes", "--skip-preview")
    observed["left behind"] = sorted(set(run.identities()) - {"server"})
    return observed


def break_by_hand(run: Run) -> None:
    """One piece of damage per kind of resource, each on a resource of its own."""
    client = docker.from_env()
    client.containers.get(f"{run.prefix}-service").stop(timeout=1)
    client.containers.get(f"{run.prefix}-job").remove(force=True)
    client.containers.get(f"{run.prefix}-nothing").remove(force=True)
    with run.sql("c_database") as connection:
        for statement in (
            "alter role c_nothing connection limit 3",
            "drop role c_login",
            "revoke connect on database c_database from c_third",
            "grant create on schema public to c_reader",
            "alter default privileges for role c_owner revoke select on tables from c_reader",
            "revoke c_second from c_owner",
            "alter database c_database_connections connection limit 1",
        ):
            connection.execute(statement)


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


def differences(expected: Any, found: Any, path: str = "") -> list[str]:
    """Where two observations part, one line each."""
    if isinstance(expected, dict) and isinstance(found, dict):
        return [
            line
            for key in sorted({*expected, *found})
            for line in differences(expected.get(key), found.get(key), f"{path}/{key}")
        ]
    return [] if expected == found else [f"{path}: official {expected!r}, here {found!r}"]


def standin_path() -> str:
    """PATH with the stand-ins first, then what the toolchain found."""
    from toolchain import environment
    from toolchain.plugins import STANDINS

    tools = environment.find().variables["PATH"]
    return os.pathsep.join([str(STANDINS), tools])

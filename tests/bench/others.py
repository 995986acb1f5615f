"""An environment and a database for each test, beside testcontainers-python and pytest-postgresql.

One run, in turns, from local images: the same revisions, the same administrator. The two are
installed from PyPI into a folder of the run, since nothing else needs them. Where they leave a
choice they get the faster one: data in memory, nothing synced, no TLS for the object store. Their
containers are labelled; they end by themselves, and the next run removes them at once.
"""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Final

import psycopg
from minio import Minio
from psycopg import sql

import pandom.ci
from pandom.database import cluster
from pandom.runtime.naming import UID_MINIO, UID_POSTGRES, image_name
from schema.access import roles
from tests.bench import server as servers
from tests.bench.ci import create, destroy
from tests.bench.floor import docker
from tests.bench.handed_out import ms, rounds, served
from tests.fixtures.databases import Database, Factory, fill
from tests.fixtures.server import Server

if TYPE_CHECKING:
    from testcontainers.core.container import DockerContainer

OURS: Final = "pandom"
CONTAINERS: Final = "testcontainers-python"
PLUGIN: Final = "pytest-postgresql"
# Not in requirements.txt: only this measurement needs them.
PINNED: Final = ("testcontainers==4.15.0", "pytest-postgresql==10.0.0", "pytest==9.2.0")
ROUNDS: Final = 3
TIMES: Final = 60
LABEL: Final = "pandom.bench"
# The longest that a container lives whose run was killed.
LIFE_S: Final = "900"
# What a user of the image's PostgreSQL would write; with a certificate, because the migrations'
# runner connects by TLS only.
_SERVE: Final = f"""
set -e
initdb --pgdata=data --username=postgres --pwfile=<(echo "$PASSWORD") --auth=scram-sha-256 \
    --encoding=UTF8 --locale=C.UTF-8 --locale-provider=builtin --builtin-locale=C.UTF-8 --no-sync
echo 'host all all all scram-sha-256' >> data/pg_hba.conf
umask 077
echo "$CERTIFICATE" > data/server.crt
echo "$KEY" > data/server.key
exec timeout {LIFE_S} postgres -D data -c listen_addresses='*' -c ssl=on -c fsync=off \
    -c full_page_writes=off -c synchronous_commit=off -c shared_preload_libraries=pgaudit
"""
# pgaudit is not in the image that has Python beside the server.
_DUMP: Final = """
set -eo pipefail
export PGPASSWORD="$PASSWORD" PGHOST=127.0.0.1 PGUSER=postgres
pg_dumpall --roles-only --no-role-passwords | grep -v 'ROLE postgres'
pg_dump --inserts --exclude-extension=pgaudit "$0"
"""
_SUITE: Final = (
    "import sys, runpy; sys.path.append('/bench/tools'); runpy.run_path('{}', run_name='__main__')"
)


@dataclass(frozen=True)
class Figure:
    """What was made, whose and how, and each time it took; the first of a kind is ours."""

    what: str
    whose: str
    how: str
    unit: str
    times: tuple[float, ...]

    @property
    def median(self) -> float:
        """The middle one."""
        return median(self.times)

    def __str__(self) -> str:
        number = f"{self.median:.3g}" if self.median < 1000 else f"{self.median:,.0f}"
        return f"{number} {self.unit}"


def remove() -> None:
    """Take away the containers of a run that was killed."""
    if found := docker("ps", "--all", "--quiet", f"--filter=label={LABEL}").split():
        docker("rm", "--force", "--volumes", *found)


@contextmanager
def installed() -> Iterator[Path]:
    """A folder with both tools and a certificate; what we have ourselves is found before them."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        tools = str(place / "tools")
        place.chmod(0o755)  # for the image's user
        for command in (
            (sys.executable, "-m", "pip", "install", "--quiet", f"--target={tools}", *PINNED),
            (
                *("openssl", "req", "-x509", "-newkey", "ec", "-noenc", "-subj=/CN=bench"),
                *("-pkeyopt", "ec_paramgen_curve:prime256v1"),
                *("-addext", "subjectAltName=IP:127.0.0.1"),
                *("-keyout", str(place / "server.key"), "-out", str(place / "server.crt")),
            ),
        ):
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            if done.returncode:
                raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr}")
        sys.path.append(tools)
        # Its reaper is an image of Docker Hub; LABEL and LIFE_S do the same.
        os.environ["TESTCONTAINERS_RYUK_DISABLED"] = "true"
        os.environ["TESTCONTAINERS_CONNECTION_MODE"] = "docker_host"
        yield place


def _container(part: str, data: str, user: int, *command: str, **variables: str) -> DockerContainer:
    from testcontainers.core.container import DockerContainer

    return (
        DockerContainer(image_name(part))
        .with_envs(**variables)
        .with_tmpfs_mount(data, f"uid={user},mode=0700")
        .with_kwargs(auto_remove=True, labels={LABEL: CONTAINERS}, entrypoint=list(command))
    )


@contextmanager
def _postgres(place: Path) -> Iterator[tuple[Database, DockerContainer]]:
    """A server in a container, with every role, and a database with every revision."""
    logins = [role.name for role in roles(servers.OPT_IN) if role.login]
    passwords = {login: secrets.token_hex(16) for login in ("postgres", *logins)}
    variables = {
        "PASSWORD": passwords["postgres"],
        "CERTIFICATE": (place / "server.crt").read_text(),
        "KEY": (place / "server.key").read_text(),
    }
    container = _container(
        "postgres", "/var/lib/postgresql", UID_POSTGRES, "bash", "-c", _SERVE, **variables
    )
    with container.with_exposed_ports(5432):
        port = container.get_exposed_port(5432)
        server = Server("127.0.0.1", port, place / "server.crt", passwords)
        servers.make_roles(server)
        with server.connect("postgres", "postgres") as connection:
            cluster.apply_roles(connection, servers.OPT_IN)
        with Factory(server, servers.OPT_IN).made() as database:
            fill(database)
            yield database, container


@contextmanager
def _environment(place: Path) -> Iterator[tuple[Database, DockerContainer]]:
    """The same, and an object store with a bucket, which starts meanwhile."""
    from testcontainers.core.wait_strategies import HttpWaitStrategy

    root, password = "root", secrets.token_hex(16)
    store = _container(
        *("minio", "/data", UID_MINIO, "timeout", LIFE_S, "minio", "server", "--quiet", "/data"),
        MINIO_ROOT_USER=root,
        MINIO_ROOT_PASSWORD=password,
    )
    with store.with_exposed_ports(9000), _postgres(place) as made:
        ready = HttpWaitStrategy(9000, "/minio/health/ready").with_poll_interval(0.1)
        ready.wait_until_ready(store)
        address = f"127.0.0.1:{store.get_exposed_port(9000)}"
        Minio(address, root, password, secure=False).make_bucket(bucket_name="media")
        yield made


def _clones(database: Database) -> tuple[list[float], list[float]]:
    """Milliseconds of making and connecting to a clone, and of dropping it."""
    made, dropped = [], []
    server = database.server
    with server.connect("postgres", "postgres") as connection:
        clone, template = sql.Identifier("clone"), sql.Identifier(database.name)

        def make() -> None:
            connection.execute(sql.SQL("create database {} template {}").format(clone, template))
            with psycopg.connect(server.dsn("postgres", "clone")) as own:
                own.execute("select 1")

        drop = sql.SQL("drop database {}").format(clone)
        for _ in range(TIMES):
            made.append(ms(make))
            dropped.append(ms(lambda: connection.execute(drop)))
    return made, dropped


def _dump(database: Database, container: DockerContainer, place: Path) -> None:
    """Write what the revisions made as SQL, without psql's own commands."""
    command = ("bash", "-c", _DUMP, database.name)
    lines = docker("exec", container.get_container_id(), *command).splitlines(keepends=True)
    (place / "same.sql").write_text("".join(one for one in lines if not one.startswith("\\")))


def _plugin(place: Path) -> dict[str, list[float]]:
    """Seconds until the plugin's server is ready, and of setting up and ending each test."""
    suite = place / "suite.py"
    suite.write_text(Path(__file__).with_name("with_pytest_postgresql.py").read_text())
    done = subprocess.run(
        [
            *("docker", "run", "--rm", f"--label={LABEL}={PLUGIN}", "--network=none"),
            *("--tmpfs=/tmp:mode=1777", f"--volume={place}:/bench:ro", "--entrypoint=timeout"),
            *(f"--env=TIMES={TIMES}", image_name("operations"), LIFE_S),
            *("/opt/pandom/bin/python", "-c", _SUITE.format("/bench/suite.py")),
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(f"{PLUGIN} failed:\n{done.stdout}{done.stderr}")
    found: dict[str, list[float]] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(show: Callable[[str], None]) -> list[Figure]:
    """All figures."""
    remove()
    show("preparing")
    destroy(create()[2])  # images and the prepared cluster
    with installed() as place:
        return _measured(place, show)


def _measured(place: Path, show: Callable[[str], None]) -> list[Figure]:
    ours, theirs, alone = [], [], []
    plugin: dict[str, list[float]] = {}
    for number in range(ROUNDS):
        show(f"round {number + 1} of {ROUNDS}")
        last = number == ROUNDS - 1
        started = time.monotonic()
        with pandom.ci.environment() as env:
            ours.append(time.monotonic() - started)
            if last:
                with served(env.id, 1) as (databases, _):
                    made = median(ms(databases._made) for _ in range(TIMES))
                with served(env.id, 8) as (_, client):
                    time.sleep(2)  # until the pool is full
                    taken, connected, given = rounds(client)
        started = time.monotonic()
        with _environment(place) as (database, container):
            theirs.append(time.monotonic() - started)
            if last:
                clones, dropped = _clones(database)
            _dump(database, container, place)
        started = time.monotonic()
        with _postgres(place):
            alone.append((time.monotonic() - started) * 1000)
        for what, seconds in _plugin(place).items():
            plugin.setdefault(what, []).extend(seconds)
    fresh, back = (tuple(one * 1000 for one in plugin[what]) for what in ("setup", "teardown"))
    ready, handed, returned = "environment ready", "database for a test", "database given back"
    return [
        Figure(ready, OURS, "ci create, with a prepared cluster", "s", tuple(ours)),
        Figure(ready, CONTAINERS, "both servers, revisions, bucket", "s", tuple(theirs)),
        Figure(ready, PLUGIN, "a server and the SQL, no store", "s", tuple(plugin["ready"])),
        Figure(handed, OURS, "from the pool", "ms", (taken + connected,)),
        Figure(handed, OURS, "made", "ms", (made + connected,)),
        Figure(handed, CONTAINERS, "create database, template", "ms", tuple(clones)),
        Figure(handed, CONTAINERS, "a new container", "ms", tuple(alone)),
        Figure(handed, PLUGIN, "its fixture", "ms", fresh),
        Figure(returned, OURS, "to the pool", "ms", (given,)),
        Figure(returned, CONTAINERS, "drop database", "ms", tuple(dropped)),
        Figure(returned, PLUGIN, "its fixture", "ms", back),
    ]


def _best(figures: list[Figure], what: str) -> Figure:
    """Ours, the fastest way."""
    ours = [one for one in figures if one.what == what and one.whose == OURS]
    return min(ours, key=lambda one: one.median)


def faster(figures: list[Figure]) -> list[str]:
    """A line for each of theirs that beats the best of ours."""
    return [
        f"faster there: {one.what}, {one.whose} ({one.how}): {one} against {best}"
        for one in figures
        if one.whose != OURS and one.median < (best := _best(figures, one.what)).median
    ]


def page(figures: list[Figure]) -> str:
    """The figures as Markdown."""
    rows = "\n".join(
        f"| {one.what} | {one.whose}: {one.how} | {one} | "
        f"{one.median / _best(figures, one.what).median:.2g} |"
        for one in figures
    )
    lines = "\n".join(f"- {line}" for line in faster(figures) or ["faster there: nothing"])
    return (
        f"Medians of {ROUNDS} rounds, and of {TIMES} databases with their first connection. "
        f"{', '.join(PINNED[:2])}. Load of the machine at the end: {os.getloadavg()[0]:.1f}.\n\n"
        f"| | | measured | × the best of ours |\n|---|---|---|---|\n{rows}\n\n{lines}\n"
    )

"""A server of the product's own image with the declared roles, for measurements alone.

No Pulumi: what is measured is the database. The keys job makes the certificates, so
that connections cost what they cost in a stack.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import psycopg
from psycopg import sql

from pandom.runtime.naming import UID_POSTGRES, image_name
from schema.access import roles
from tests.bench.floor import docker
from tests.fixtures.server import Server

READY_S: Final = 60.0
OPT_IN: Final = frozenset({"serviceLogin"})


def _keys(name: str, password: str) -> str:
    """The CA's certificate, after the keys job filled the server's volume."""
    manifest = {
        "sans": {"postgres": ["127.0.0.1", "localhost", "postgres"]},
        "readers": {
            "postgres": {
                "uid": UID_POSTGRES,
                "files": {"superuser_password": password},
                "certificate": "postgres",
            }
        },
    }
    docker(
        *("create", f"--name={name}-keys", "--user=0:0", "--network=none", "--cap-drop=ALL"),
        *(f"--cap-add={capability}" for capability in ("CHOWN", "DAC_OVERRIDE", "FOWNER")),
        *(f"--volume={name}-{reader}:/keys/{reader}" for reader in ("ca", "postgres")),
        *(image_name("operations"), "job", "keys"),
    )
    with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
        file.write(json.dumps(manifest))
        file.flush()
        docker("cp", file.name, f"{name}-keys:/run/pandom-keys.json")
    return docker("start", "--attach", f"{name}-keys")


def _remove(name: str) -> None:
    for command in (
        ("rm", "--force", "--volumes", f"{name}-postgres", f"{name}-keys"),
        ("volume", "rm", "--force", *(f"{name}-{part}" for part in ("ca", "postgres", "data"))),
    ):
        subprocess.run(["docker", *command], capture_output=True, check=False)


def make_roles(server: Server) -> None:
    """The roles as the provider makes them; the cluster's part follows in the fixture."""
    deadline = time.monotonic() + READY_S
    while True:
        try:
            connection = server.connect("postgres", "postgres")
            break
        except psycopg.OperationalError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)
    with connection:
        for role in roles(OPT_IN):
            connection.execute(sql.SQL("create role {}").format(sql.Identifier(role.name)))
            if role.login:
                connection.execute(
                    sql.SQL("alter role {} login password {}").format(
                        sql.Identifier(role.name), sql.Literal(server.passwords[role.name])
                    )
                )


@contextmanager
def running(name: str, *settings: str) -> Iterator[Server]:
    """The server, for the time of the block; ``settings`` are passed as ``-c`` to it."""
    _remove(name)
    logins = [role.name for role in roles(OPT_IN) if role.login]
    passwords = {login: secrets.token_hex(16) for login in ("postgres", *logins)}
    try:
        with tempfile.TemporaryDirectory() as place:
            ca = Path(place) / "ca.crt"
            ca.write_text(_keys(name, passwords["postgres"]))
            docker(
                *("run", "--detach", f"--name={name}-postgres", "--read-only", "--cap-drop=ALL"),
                *("--shm-size=256m", "--tmpfs=/tmp:mode=1777"),
                f"--tmpfs=/run/postgresql:uid={UID_POSTGRES}",
                f"--volume={name}-data:/var/lib/postgresql",
                f"--volume={name}-postgres:/run/pandom/keys:ro",
                *("--publish=127.0.0.1::5432", image_name("postgres")),
                *(word for setting in settings for word in ("-c", setting)),
            )
            port = docker("port", f"{name}-postgres", "5432/tcp").rpartition(":")[2].strip()
            server = Server("127.0.0.1", int(port), ca, passwords)
            make_roles(server)
            yield server
    finally:
        _remove(name)

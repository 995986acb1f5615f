"""PgBouncer from Debian's package, with the configuration that docs/clients.md shows.

It listens on a port of the host, speaks TLS to its clients with a certificate of its own and
verifies the server's. Its passwords are made at run time and copied into the container.
"""

from __future__ import annotations

import io
import ipaddress
import os
import re
import socket
import tarfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import docker
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from pandom.runtime.naming import PROJECT
from tests.clients.page import code
from tests.fixtures.databases import Database

IMAGE: Final = f"{PROJECT}/test-pgbouncer:1.24"  # `make clean` removes it
PREFIX: Final = "pandom-test-pgbouncer-"
HOME: Final = "/etc/pgbouncer"
UID: Final = 65534  # it refuses to be root
WAIT_S: Final = 15
NO_CHANGES: Final[Mapping[str, int]] = {}

DOCKERFILE: Final = """
from pandom-base:trixie
run apt-get update -qq \\
 && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends pgbouncer > /dev/null \\
 && rm -rf /var/lib/apt/lists/*
"""  # noqa: E501 - as in the Dockerfiles of the product


@dataclass(frozen=True)
class Authority:
    """A certificate that signed itself, for 127.0.0.1, in PEM."""

    certificate: str
    key: str


def authority(name: str) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return Authority(
        made.public_bytes(serialization.Encoding.PEM).decode(),
        private.decode(),
    )


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        return int(found.getsockname()[1])


def _configuration(database: Database, port: int, changes: Mapping[str, int]) -> str:
    """The page's file, with the ports of the test and ``changes``."""
    shown = code("PgBouncer", "ini")
    lines = {"listen_port": port, **changes}
    for name in lines:
        shown = re.sub(rf"^{name} = .*\n", "", shown, flags=re.M)
    shown = shown.replace("port=5432", f"port={database.server.port}")
    return shown + "".join(f"{name} = {value}\n" for name, value in lines.items())


def _archive(files: dict[str, str]) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as archive:
        for name, text in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode, entry.uid = len(text.encode()), 0o400, UID
            archive.addfile(entry, io.BytesIO(text.encode()))
    return content.getvalue()


@contextmanager
def pooled(
    database: Database,
    folder: Path,
    role: str = "pandom_app",
    changes: Mapping[str, int] = NO_CHANGES,
) -> Iterator[dict[str, str]]:
    """A pooler in front of the database's server; the variables that differ for its clients."""
    engine, port, own = docker.from_env(), free_port(), authority("pooler")
    if not engine.images.list(IMAGE):
        engine.images.build(fileobj=io.BytesIO(DOCKERFILE.encode()), tag=IMAGE, rm=True)
    for left in engine.containers.list(all=True, filters={"name": PREFIX}):
        if not Path("/proc", left.name.removeprefix(PREFIX).split("-")[0]).exists():
            left.remove(force=True)  # its run was killed
    container = engine.containers.create(
        IMAGE,
        ["pgbouncer", f"{HOME}/pgbouncer.ini"],
        name=f"{PREFIX}{os.getpid()}-{port}",
        user=str(UID),
        network_mode="host",
    )
    try:
        users = f'"{role}" "{database.server.passwords[role]}"\n'
        files = {
            "pgbouncer.ini": _configuration(database, port, changes),
            "userlist.txt": users,
            "ca.crt": database.server.ca.read_text(),
            "server.crt": own.certificate,
            "server.key": own.key,
        }
        container.put_archive(HOME, _archive(files))
        container.start()
        deadline = time.monotonic() + WAIT_S
        while True:
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except ConnectionRefusedError:
                container.reload()
                going = container.status == "running" and time.monotonic() < deadline
                assert going, container.logs().decode()
                time.sleep(0.05)
        trusted = folder / f"pooler-{port}.crt"
        trusted.write_text(own.certificate)
        yield {"DB_HOST": "127.0.0.1", "DB_PORT": str(port), "DB_SSLROOTCERT": str(trusted)}
    finally:
        container.remove(force=True)

"""The floor: the same images started by plain docker, the same SQL by psql.

What `up` cannot be faster than, whatever tool drives it: keys, two servers, the
whole schema with its roles. No bucket is made and nothing is checked.
"""

from __future__ import annotations

import json
import secrets
import subprocess
import time
from pathlib import Path
from typing import Final

from pandom.config.container_specs import TMP
from pandom.config.readers import CERTIFICATES, readers
from pandom.runtime.naming import image_name

NAME: Final = "pandom-floor"
READY_S: Final = 30.0
_HARDENED: Final = (
    *("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges"),
    *(f"--tmpfs={path}:{options}" for path, options in TMP.items()),
)


def docker(*arguments: str, text: str | None = None) -> str:
    """Run docker; raises CalledProcessError."""
    return subprocess.run(
        ["docker", *arguments], input=text, capture_output=True, text=True, check=True
    ).stdout


def manifest() -> str:
    """What the keys job takes, with fresh secrets."""
    wanted = {
        reader: {"uid": uid, "files": {file: secrets.token_hex(16) for file in files}}
        | ({"certificate": reader} if reader in CERTIFICATES else {})
        for reader, (uid, files) in readers().items()
    }
    same = secrets.token_hex(16)
    wanted["postgres"]["files"] = {"superuser_password": same}
    wanted["superuser"]["files"] = {"postgres_password": same}
    return json.dumps({"sans": CERTIFICATES, "readers": wanted})


def remove() -> None:
    """Take away whatever an earlier floor left."""
    found = docker("ps", "--all", "--quiet", f"--filter=name={NAME}-").split()
    if found:
        docker("rm", "--force", *found)
    volumes = docker("volume", "ls", "--quiet", f"--filter=name={NAME}-").split()
    if volumes:
        docker("volume", "rm", *volumes)
    networks = docker("network", "ls", "--quiet", f"--filter=name={NAME}").split()
    if networks:
        docker("network", "rm", *networks)


def _healthy(name: str) -> None:
    deadline = time.monotonic() + READY_S
    while docker("inspect", "--format={{.State.Health.Status}}", name).strip() != "healthy":
        if time.monotonic() > deadline:
            raise TimeoutError(f"{name} is not healthy after {READY_S} s")
        time.sleep(0.05)


def _keys(path: str) -> None:
    volumes = ("ca", *readers())
    docker(
        *("create", f"--name={NAME}-keys", "--user=0:0", "--network=none", "--cap-drop=ALL"),
        *(f"--cap-add={name}" for name in ("CHOWN", "DAC_OVERRIDE", "FOWNER")),
        *(f"--volume={NAME}-keys-{reader}:/keys/{reader}" for reader in volumes),
        *(image_name("operations"), "job", "keys"),
    )
    docker("cp", path, f"{NAME}-keys:/run/pandom-keys.json")
    docker("start", "--attach", f"{NAME}-keys")


def _server(part: str, data: str, health: str) -> None:
    docker(
        *("run", "--detach", f"--name={NAME}-{part}", f"--network={NAME}", *_HARDENED),
        *(f"--network-alias={part}", f"--volume={NAME}-{part}:{data}"),
        f"--volume={NAME}-keys-{part}:/run/pandom/keys:ro",
        *("--publish=127.0.0.1::5432",) * (part == "postgres"),
        *(f"--health-cmd={health}", "--health-interval=1s", image_name(part)),
    )


def _servers(path: str) -> None:
    """Make the keys and start both servers."""
    _keys(path)
    _server("postgres", "/var/lib/postgresql", "pg_isready --quiet --host=127.0.0.1")
    health = (
        "curl --fail --silent --cacert /run/pandom/keys/ca.crt "
        "https://127.0.0.1:9000/minio/health/cluster"
    )
    _server("minio", "/data", health)


def run(sql: str, path: str) -> float:
    """Seconds from nothing to both servers healthy and the SQL applied."""
    remove()
    started = time.monotonic()
    docker("network", "create", NAME)
    _servers(path)
    _healthy(f"{NAME}-postgres")
    docker(
        *("run", "--rm", "--interactive", f"--network={NAME}", *_HARDENED),
        *(f"--volume={NAME}-keys-superuser:/run/pandom/keys:ro", "--entrypoint=sh"),
        *(image_name("operations"), "-c"),
        "PGPASSWORD=$(cat /run/pandom/keys/postgres_password) "
        "psql --quiet --no-psqlrc --username=postgres --host=postgres --dbname=postgres",
        text=sql,
    )
    _healthy(f"{NAME}-minio")
    seconds = time.monotonic() - started
    remove()
    return seconds


def run_prepared(cluster: Path, path: str) -> float:
    """Seconds from nothing to both servers healthy, with a migrated cluster's files (a tar)."""
    remove()
    started = time.monotonic()
    docker("network", "create", NAME)
    place = "/var/lib/postgresql"
    made = f"--volume={NAME}-postgres:{place}"
    docker("create", f"--name={NAME}-fill", made, image_name("postgres"))
    with cluster.open("rb") as files:
        subprocess.run(["docker", "cp", "-", f"{NAME}-fill:{place}"], stdin=files, check=True)
    docker("rm", f"{NAME}-fill")
    _servers(path)
    _healthy(f"{NAME}-postgres")
    _healthy(f"{NAME}-minio")
    seconds = time.monotonic() - started
    remove()
    return seconds


def same_sql(stack: str) -> str:
    """Everything that `up` put into a running stack's cluster, as SQL."""
    dump = (
        "export PGPASSWORD=$(cat /run/pandom/keys/postgres_password); "
        "options='--username=postgres --host=postgres'; "
        "pg_dumpall $options --roles-only --no-role-passwords | grep -v 'ROLE postgres'; "
        "pg_dump $options --create pandom_db"
    )
    return docker(
        *("run", "--rm", f"--network=pandom-{stack}-network", *_HARDENED),
        *(f"--volume=pandom-{stack}-keys-superuser:/run/pandom/keys:ro", "--entrypoint=sh"),
        *(image_name("operations"), "-c", dump),
    )

"""Secrets and certificates before and after a run.

Each `up` starts the keys job's container once more: it checks each file and changes nothing that is
right. Then the certificate on each server's port is compared with what the job printed.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Mapping
from typing import Any, Final

import docker.errors
import requests

from pandom.config.readers import READERS
from pandom.host.engine import Container, Engine
from pandom.host.stack import Stack
from pandom.host.state import CONTAINER, Resource, State, clear
from pandom.runtime import certificates
from pandom.runtime.errors import Failure
from pandom.runtime.naming import KEYS_MOUNT, LABEL_PART
from pandom.runtime.paths import ca_certificate
from pandom.runtime.progress import say, step

PART: Final = "keys"
JOB_S: Final = 60.0
SHOW_S: Final = 30.0  # for a server to show a new certificate
COPIED_S: Final = 5.0  # for MinIO to read a copy; after it, it is started again
_COPY: Final = ("cp", "-r", f"{KEYS_MOUNT}/certs/.", "/tmp/certs/")  # noqa: S108 - its own tmpfs


def _resource(state: State) -> Resource | None:
    found = (
        resource for resource in state.of_type(CONTAINER) if resource.label.get(LABEL_PART) == PART
    )
    return next(found, None)


def recorded(exported: Mapping[str, Any]) -> str | None:
    """Return the CA's certificate as the state knows it; ``exported`` has secrets in clear."""
    job = _resource(State(exported))
    found = certificates.printed(str(clear(job.outputs.get("containerLogs")))) if job else None
    return found.authority if found else None


def written(exported: Mapping[str, Any]) -> dict[str, str]:
    """Return what the job was told to write, by secret; ``exported`` has them in clear."""
    job = _resource(State(exported))
    if job is None:
        return {}
    readers = json.loads(clear(job.inputs["uploads"])[0]["content"])["readers"]
    return {
        secret: readers[reader]["files"][file]
        for reader, (_, files) in READERS.items()
        if reader in readers
        for file, secret in files.items()
        if file in readers[reader]["files"]
    }


def restore(stack: Stack, exported: Mapping[str, Any]) -> None:
    """Write ca.crt again from the state if it is lost or damaged, before anybody connects."""
    authority = recorded(exported)
    if authority and certificates.keep(stack.name, authority):
        say(f"  wrote {ca_certificate(stack.name)} again; it was lost or changed")


def run_again(engine: Engine, state: State) -> None:
    """Start the existing keys job, with the request of the last `up`; else leave it to Pulumi."""
    job, known = engine.container(PART), _resource(state)
    if job is None or known is None or job.id != known.id or job.status == "running":
        return
    try:
        engine.start(job)
        engine.wait_end(job, JOB_S)
    except (docker.errors.APIError, requests.RequestException):
        # Its image, network or a volume is gone: Pulumi makes it anew.
        engine.remove_container(job.id)


def ask(engine: Engine, what: str) -> str:
    """Have the keys job that is there make something anew, once; what it says that it did.

    Raises Failure when it could not.
    """
    job = engine.container(PART)
    if job is not None:
        engine.write(job, "/run/pandom-renew", what)
        engine.start(job)
        engine.wait_end(job, JOB_S)
        job = engine.container(PART)
    lines = engine.last_lines(job, 1) if job and job.exit_code == 0 else []
    if not lines or not lines[0].startswith("rotated: "):
        raise Failure(
            f"The keys job did not make new {what}: {' '.join(lines) or 'it failed'}.\n"
            "Next: `.venv/bin/pandom up`, which runs it again, then this again."
        )
    return lines[0].removeprefix("rotated: ")


def printed(engine: Engine) -> certificates.Printed | None:
    """Return what the keys job printed last; None if it failed or does not exist."""
    job = engine.container(PART)
    if job is None or job.status != "exited" or job.exit_code != 0:
        return None
    return certificates.printed("\n".join(engine.last_lines(job, 60)))


def outdated(engine: Engine, exported: Mapping[str, Any]) -> list[str]:
    """Return the URN of a job that printed another CA than the state knows, to be replaced."""
    said, job = printed(engine), _resource(State(exported))
    if said is None or job is None or said.authority == recorded(exported):
        return []
    return [job.urn]


def settle(stack: Stack, engine: Engine, before: str | None) -> int:
    """Bring ca.crt and the running servers in line with what the keys job said last.

    ``before`` is the CA's certificate that clients have. Returns how much was changed.
    """
    said = printed(engine)
    if said is None:
        return 0
    changed = 0
    if certificates.keep(stack.name, said.authority):
        place = ca_certificate(stack.name)
        if before in (None, said.authority):
            say(f"  wrote {place}")
        else:
            say(f"  the CA changed: clients need the new certificate in\n  {place}")
        changed += 1
    for part, wanted in said.servers.items():
        server = engine.container(part)
        # Who is reached by no port of the host reads its certificate again by itself.
        reached = server is not None and server.status == "running" and bool(server.ports)
        if server is not None and reached and not _shows(server, wanted):
            _make_show(engine, server, wanted)
            changed += 1
    return changed


def _shows(server: Container, wanted: str) -> bool:
    """Return whether a server shows that certificate; False if it does not answer."""
    try:
        return certificates.fingerprint(certificates.served(server.ports[0])) == wanted
    except (OSError, IndexError):
        return False


def _make_show(engine: Engine, server: Container, wanted: str) -> None:
    """Let a server read its certificate again: PostgreSQL on a signal, MinIO from its copy, or
    as it starts; no session ends but for that."""
    server = engine.wait_until_healthy(server.part, SHOW_S) or server  # it may have just been made
    deadline = time.monotonic() + SHOW_S
    if _shows(server, wanted):
        return
    with step(f"{server.part}: reading its new certificate"):
        with contextlib.suppress(docker.errors.APIError):  # it has ended; `up` says why
            if server.part == "postgres":
                engine.reload(server)
            elif engine.ask(server, _COPY)[0]:
                engine.restart(server)
        restart_at = time.monotonic() + COPIED_S
        while not _shows(server, wanted):
            if server.part == "minio" and time.monotonic() > restart_at:
                engine.restart(server)
                restart_at = deadline
            if time.monotonic() > deadline:
                raise Failure(
                    f"{server.name} does not show the certificate that the keys job made for it.\n"
                    f"Next: docker restart {server.name}; docker logs {server.name} says more."
                )
            time.sleep(0.1)
        engine.wait_until_healthy(server.part, SHOW_S)

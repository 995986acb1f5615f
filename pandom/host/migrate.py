"""`pandom migrate`: the source's generate, run, revert and show.

What changes a database runs in the migration job's image with the migration
job's settings and secrets; the host never has the migrator's password.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any, Final

import docker.errors
import requests

from pandom.database import revisions
from pandom.host import identity, lock
from pandom.host.access import outputs_of
from pandom.host.engine import Engine
from pandom.host.revisions import of_outputs, refuse
from pandom.host.stack import Stack
from pandom.runtime.errors import USAGE_ERROR, Failure, UsageError
from pandom.runtime.naming import LABEL_PART, LABEL_STACK
from pandom.runtime.progress import step

LIMIT_S: Final = 900.0


def run(name: str) -> None:
    """Apply the revisions that are not applied yet."""
    there = revisions.every()
    refuse(there, of_outputs(outputs_of(Stack(name))))
    command = ["job", "migrate", "--checkout", revisions.fingerprint(there)]
    in_job(name, "migration", command, "running the migrations")


def revert(name: str, target: str) -> None:
    """Take revisions back, down to ``target``; `.venv/bin/pandom up` applies them again.

    Raises UsageError when rows would be lost and CONFIRM does not name the stack.
    """
    revisions.every()
    losing = os.environ.get("CONFIRM") == name
    command = ["job", "revert", "--losing", "yes" if losing else "no", "--", target]
    in_job(name, "migration", command, f"reverting to {target}")


def show(name: str) -> None:
    """Print the revisions, newest first, and which of them are applied."""
    there = revisions.every()
    applied = of_outputs(outputs_of(Stack(name)))
    print("\n".join(revisions.history(there, applied)))
    refuse(there, applied)


def in_job(name: str, part: str, command: Sequence[str], what: str) -> None:
    """Run one command in the place of a job, with its secrets, and print what it says."""
    stack = Stack(name)
    engine = Engine(name)
    with lock.of_stack(stack):
        identity.refuse(name, engine.things(), stack.recorded())
        job, server = engine.container(part), engine.container("postgres")
        if job is None or server is None or not server.is_healthy:
            raise Failure(
                f"Stack {name} is not running. Next: `.venv/bin/pandom up --stack {name}`"
            )
        with step(what):
            code, output = _again(engine, job.id, command)
    if code == USAGE_ERROR and "unrecognized arguments" in output:
        raise UsageError(
            f"Stack {name} was brought up by an earlier version, whose jobs cannot do this.\n"
            f"Next: `.venv/bin/pandom up --stack {name}`"
        )
    stream = sys.stderr if code else sys.stdout
    print(output.rstrip(), file=stream)
    if code == USAGE_ERROR:
        raise UsageError("Nothing was changed; see above.")
    if code:
        raise Failure(f"`{' '.join(command)}` failed with exit code {code}; see above.")


def _again(engine: Engine, job: str, command: Sequence[str]) -> tuple[int, str]:
    """Return a container like the job's, with another command, removed afterwards."""
    api = engine.client.api
    model: dict[str, Any] = api.inspect_container(job)
    config, host = model["Config"], dict(model["HostConfig"])
    host["AutoRemove"] = False
    networks = model["NetworkSettings"]["Networks"]
    labels = {**config["Labels"], LABEL_PART: "migrate"}
    assert LABEL_STACK in labels  # noqa: S101 - else an interrupted run would leave it for ever
    made = api.create_container_from_config(
        {
            "Image": model["Image"],
            "User": config["User"],
            "Env": config["Env"],
            "Entrypoint": config["Entrypoint"],
            "Cmd": list(command),
            "Labels": labels,
            "HostConfig": host,
            "NetworkingConfig": {"EndpointsConfig": {key: {} for key in networks}},
        }
    )["Id"]
    try:
        api.start(made)
        code = int(api.wait(made, timeout=LIMIT_S)["StatusCode"])
        return code, api.logs(made).decode(errors="replace")
    except (docker.errors.APIError, requests.RequestException) as error:
        raise Failure(f"The job's container did not end: {error}") from error
    finally:
        engine.remove_container(made)

"""`pandom migrate`: the source's generate, run, revert and show.

What changes a database runs in the migration job's image with the migration
job's settings and secrets; the host never has the migrator's password.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Final

import docker.errors
import requests

from pandom.database import revisions
from pandom.host import identity, lock
from pandom.host.access import outputs_of
from pandom.host.engine import Engine
from pandom.host.revisions import of_outputs, refuse
from pandom.host.stack import Stack
from pandom.runtime.errors import USAGE_ERROR, Failure, UsageError
from pandom.runtime.progress import say, step

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
        print(run_in_job(engine, name, part, command, what).rstrip())


def run_in_job(
    engine: Engine,
    name: str,
    part: str,
    command: Sequence[str],
    what: str,
    network: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> str:
    """Do the same for who holds the stack's lock; return what it says. Raises PandomError."""
    job = engine.container(part)
    if job is None:
        raise Failure(f"Stack {name} lacks a job. Next: `.venv/bin/pandom up --stack {name}`")
    with step(what):
        try:
            with engine.like(
                job.id, command, "migrate", network=network, variables=variables
            ) as made:
                code = int(engine.client.api.wait(made, timeout=LIMIT_S)["StatusCode"])
                output = str(engine.client.api.logs(made).decode(errors="replace"))
        except (docker.errors.APIError, requests.RequestException) as error:
            raise Failure(f"The job's container did not end: {error}") from error
    if not code:
        return output
    if code == USAGE_ERROR and "unrecognized arguments" in output:
        raise UsageError(
            f"Stack {name} was brought up by an earlier version, whose jobs cannot do this.\n"
            f"Next: `.venv/bin/pandom up --stack {name}`"
        )
    say(output.rstrip())
    if code == USAGE_ERROR:
        raise UsageError("Nothing was changed; see above.")
    raise Failure(f"`{' '.join(command)}` failed with exit code {code}; see above.")

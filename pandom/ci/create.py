"""`pandom ci create`: a stack of the ephemeral profile, in a state home of its own.

It is made by the program that makes every stack. Here is what goes around it: who it is for, how
long, where its state is, and that a making which fails leaves nothing.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import docker

from pandom.ci import EVERY_ROLE, durations, reap, records, room
from pandom.ci.process import Process
from pandom.ci.records import Record
from pandom.ci.remove import remove
from pandom.host import access, formats, lock, ports, up
from pandom.host import stack as files
from pandom.host.engine import connect
from pandom.runtime import passphrase, paths
from pandom.runtime.docker_endpoint import DockerSilent
from pandom.runtime.errors import Failure, PandomError, UsageError
from pandom.runtime.naming import LABEL_EXPIRES, LABEL_PROCESS, LABEL_VARIABLES
from pandom.runtime.progress import say

ID_NAME: Final = "PANDOM_CI_ID"
_GITHUB: Final = "GITHUB_ENV"


def run(ttl: str, form: str, owner: int | None, chosen: Sequence[str]) -> None:
    """Make one, and print what its clients need; progress goes to stderr.

    Raises UsageError, before anything is touched, for a wrong time, process or setting, and where
    there is no Docker or no room.
    """
    started = time.monotonic()
    life = durations.parse(ttl, "--ttl")
    process = None if owner is None else Process.of(owner)
    values = _settings(chosen)
    if form == "github" and not os.environ.get(_GITHUB):
        raise UsageError(
            f"--format github writes to the file that ${_GITHUB} names, and there is none: this is "
            "no step\nof GitHub Actions. Nothing was touched. Next: another --format."
        )
    record, outputs = make(life, process, values)
    _print(record, outputs, form)
    say(
        f"\nEnvironment {record.id} is up and healthy ({time.monotonic() - started:.1f} s), until "
        f"{record.expires:%H:%M} UTC{f' or the end of process {owner}' if process else ''}.\n"
        f"Next: .venv/bin/pandom ci psql {record.id}      (as pandom_user)\n"
        f"      .venv/bin/pandom ci destroy {record.id}   (leaves nothing)"
    )


def _settings(chosen: Sequence[str]) -> dict[str, str]:
    """Return what --set gives; the keys themselves are checked with the stack's file."""
    pairs = [one.partition("=") for one in chosen]
    if wrong := [name for name, sign, _ in pairs if not sign or not name.isalnum()]:
        raise UsageError(
            f"--set {', '.join(wrong)}: expected KEY=VALUE, as in sampleData=true.\n"
            "Nothing was touched. Every key is described in Pulumi.yaml."
        )
    return {name: value for name, _, value in pairs}


def make(
    life: timedelta, owner: Process | None, values: Mapping[str, str]
) -> tuple[Record, Mapping[str, Any]]:
    """Make an environment; its record, and the outputs of its stack in clear.

    Afterwards this process works in the environment's state home.
    """
    try:
        client = connect()
    except DockerSilent as error:
        raise UsageError(str(error)) from None
    variables = up.toolchain_variables()
    reap.reap(client)
    name = records.new_id()
    with records.held(name, wait_s=0):
        record = _begin(name, life, owner, client)
        try:
            outputs = _bring_up(record, variables, values)
            if owner and owner.lives() is False:
                raise Failure(f"Process {owner.number} ended before its environment was ready.")
            record = replace(record, ready=True)
            record.write()
        except BaseException as error:
            _take_back(record, client, error)
            raise
    return record, outputs


def _begin(
    name: str, life: timedelta, owner: Process | None, client: docker.DockerClient
) -> Record:
    """Note that there will be one, with its ports, before anything of it is made."""
    now = datetime.now(UTC).replace(microsecond=0)
    with ports.chosen() as found:
        room.refuse(client, records.every())
        record = Record(
            id=name,
            home=records.folder() / name,
            created=now,
            expires=now + life,
            owner=owner,
            ready=False,
            clone=paths.ROOT,
            ports=found,
        )
        record.write()
    return record


def _bring_up(
    record: Record, variables: Mapping[str, str], values: Mapping[str, str]
) -> Mapping[str, Any]:
    told = {
        LABEL_EXPIRES: record.expires.isoformat(),
        LABEL_PROCESS: str(record.owner or ""),
    }
    os.environ.update({LABEL_VARIABLES[label]: value for label, value in told.items()})
    record.enter()
    passphrase.ensure()
    stack = record.stack
    with lock.of_stack(stack):
        files.prepare_file(stack, "ephemeral")
        files.set_values(stack, {**values, **record.ports})
        settings = files.settings(stack)
        if settings.profile_name != "ephemeral" or settings.protect:
            raise UsageError(
                "--set: expected the ephemeral profile without protection, which is what an "
                "environment is;\nanother stack is made by `.venv/bin/pandom up`."
            )
        return up.for_environment(stack, variables)


def _take_back(record: Record, client: docker.DockerClient, error: BaseException) -> None:
    """Remove what was made, and say the error without its own advice, which is to go on."""
    say(f"  removing environment {record.id}, which was not made completely")
    remove(record, client)
    nothing = f"Nothing of environment {record.id} is left."
    if isinstance(error, KeyboardInterrupt):
        raise KeyboardInterrupt(f"Interrupted. {nothing}") from None
    if isinstance(error, PandomError):
        kind = UsageError if isinstance(error, UsageError) else Failure
        said = str(error).partition("\nNext:")[0]
        raise kind(
            f"{said}\n{nothing}\nNext: correct the cause, then `.venv/bin/pandom ci create` again."
        ) from error


def contract(name: str, outputs: Mapping[str, Any], role: str | None = None) -> dict[str, str]:
    """Return what a client of an environment is handed: its id, and what `pandom env` prints."""
    return {ID_NAME: name, **access.variables(outputs, role)}


def every_role(name: str, outputs: Mapping[str, Any]) -> str:
    """Return the settings of every login as JSON."""
    every = {role: contract(name, outputs, role) for role in outputs["passwords"]}
    return json.dumps({"settings": contract(name, outputs), "roles": every})


def _print(record: Record, outputs: Mapping[str, Any], form: str) -> None:
    values = contract(record.id, outputs)
    if form == EVERY_ROLE:
        print(every_role(record.id, outputs))
    elif form == "github":
        print(formats.masks(access.hidden(values)), end="", file=sys.stderr, flush=True)
        with Path(os.environ[_GITHUB]).open("a", encoding="utf-8") as sink:
            sink.write(formats.render(values, form))
        print(record.id)
    else:
        print(formats.render(values, form), end="")
